"""What a computation is: its description, its options, how it ended; no Dask, no files, no network."""
