"""What a daskserver is made of."""
