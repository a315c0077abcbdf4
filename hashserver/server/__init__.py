"""The HTTP service over a store and a result database."""
