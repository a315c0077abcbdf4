"""Buffers by their SHA-256, and the results of computations by theirs: store, database, server and client."""
