"""recall@k on held-out rows, and the report of test.py. Imports nothing itself."""
