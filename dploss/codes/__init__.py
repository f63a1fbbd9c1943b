"""Codes: latents -> the bytes that are stored, and back."""
