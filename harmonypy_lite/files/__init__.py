"""Files of cells, .h5ad and zarr: the few parts that are needed in; results complete or absent."""
