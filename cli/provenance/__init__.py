"""What the cache knows: what made a thing and from what, and in what two runs differ."""
