"""Encoders, their layers, and PCA, from which they are initialised."""
