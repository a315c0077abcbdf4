"""What makes a worker of Dask one that runs transformations."""
