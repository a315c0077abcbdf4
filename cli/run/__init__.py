"""``seamless-run``."""
