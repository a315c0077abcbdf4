"""Computations that a running command asks for."""
