"""What lies on a user's disk: directories, their identity, and the sidecars beside files."""
