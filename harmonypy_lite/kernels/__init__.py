"""Per-cell loops, compiled by numba; arrays in, caller-allocated totals out."""
