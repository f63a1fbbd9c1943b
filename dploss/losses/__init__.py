"""Losses: does the encoder keep the distances within a batch, and their ranks?"""
