"""Exact and inverted-list search over stored codes, and re-ranking by the original vectors."""
