"""Numbers as tables, charts and pages; the terminal."""
