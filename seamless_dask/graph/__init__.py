"""What Dask sees of a computation: tasks, collections, and the handles of values."""
