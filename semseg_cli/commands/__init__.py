"""What each typed command does, one room each."""
