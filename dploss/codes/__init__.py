"""Quantisation: latents to the codes that are stored, and back."""
