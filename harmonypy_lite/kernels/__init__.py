"""Per-cell loops, compiled by numba; arrays in, caller-allocated totals out."""

import os

from harmonypy_lite.errors import InvalidInput

try:
    import numba  # noqa: F401  before any kernel, to tell what keeps it from starting
except ValueError as error:
    named = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_")]
    raise InvalidInput(
        f"numba, which compiles the kernels, does not start ({str(error).rstrip('.')}) with "
        f"{', '.join(sorted(named)) or 'its settings'} in the environment: unset what is wrong "
        "there. How many threads a run takes is said by n_jobs alone."
    ) from error
