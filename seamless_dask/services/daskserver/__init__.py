"""One process with all that a daskserver is made of, and how it is started, stopped and looked at."""
