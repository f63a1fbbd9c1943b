"""Readers: one file format each -> a matrix, in memory or mapped."""
