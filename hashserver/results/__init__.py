"""The result database: one SQLite file of ours, and those of others beside it."""
