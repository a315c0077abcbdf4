"""Where buffers are: one interface over directories, fsspec URLs, several places, and a node's cache."""
