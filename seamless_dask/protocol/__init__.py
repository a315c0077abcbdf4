"""How a daskserver is asked: its protocol, the ways to it, and where it keeps things."""
