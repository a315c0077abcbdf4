"""Who runs a computation, from the side of those who ask for it."""
