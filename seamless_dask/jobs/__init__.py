"""Many who wait for one computation."""
