"""Encoders, the layers they are made of, and PCA, which they start from."""
