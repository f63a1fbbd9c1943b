"""From a file of vectors to a file of codes: what encode.py does."""
