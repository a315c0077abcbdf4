"""All of Dask's scheduler that is not public API, a topic a file, each function with what it assumes."""
