"""Latents -> the codes that are stored, and back."""
