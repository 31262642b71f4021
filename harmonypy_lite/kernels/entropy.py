"""The entropy of assignments, of a few cells."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.lanes import dot, scale_row
from harmonypy_lite.kernels.vector_math import log32
from harmonypy_lite.kernels.weights import multiply_tilts

#: R log R of anything smaller is nothing in single precision.
_LEAST = np.float32(1e-30)


@kernel
def entropies(A, codes, tilt, sigma, first, step, out):
    """out_j = sum_k sigma_k R_ik log R_ik of the rows i = first + j step.

    IN A (n,L), codes (n,C), tilt (B,L), sigma (K), or (1) if they are all the same, first, step.
    OUT out (m) float64.
    """
    joint = np.empty((1, A.shape[1]), np.float32)
    R = np.empty((1, A.shape[1]), np.float32)
    logs = np.zeros((1, A.shape[1]), np.float32)
    for j in range(out.size):
        i = first + j * step
        multiply_tilts(codes, i, tilt, joint)
        scale_row(A, i, joint, 0, np.float32(1.0) / dot(A, i, joint, 0), R, 0)
        for k in range(logs.shape[1]):
            logs[0, k] = log32(max(R[0, k], _LEAST))
        if sigma.size > 1:
            for k in range(sigma.size):
                logs[0, k] *= sigma[k]
            out[j] = dot(R, 0, logs, 0)
        else:
            out[j] = dot(R, 0, logs, 0) * sigma[0]
