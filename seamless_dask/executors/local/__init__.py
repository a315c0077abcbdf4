"""Running on this host: the processes of one cache share what runs."""
