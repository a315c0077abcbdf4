"""`Client`: a client of Dask that looks for results before it asks a scheduler for them."""
