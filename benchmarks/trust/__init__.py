"""Do intervals and tests keep their word, where the truth is known?"""
