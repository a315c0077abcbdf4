"""``seamless-queue``, and what is submitted to it."""
