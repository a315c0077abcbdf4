"""Computations with an identity: what they are, how they run, and where their results are found again."""

__version__ = "0.1.0"
