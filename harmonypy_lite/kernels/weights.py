"""R from affinities and penalties.

R_ik = A_ik prod_c tilt[code_ic, k] / (sum over k): R is formed a tile at a time and never kept.
Rows of A and of tilt have L >= K numbers, L = `row_width(K)`; tilt is 0 behind K.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harmonypy_lite.kernels.jit import inlined, kernel
from harmonypy_lite.kernels.lanes import dot, dot_four, scale_row
from harmonypy_lite.kernels.product import TILE


class Groups(NamedTuple):
    """Which cells share a level: group t holds the cells members[start[t]:start[t+1]].

    Without `members` (`NO_MEMBERS`) these are the rows themselves, sorted by the first covariate.
    """

    members: np.ndarray  # (n,) int32 rows, or (0,)
    start: np.ndarray  # (T+1,) int64
    level: np.ndarray  # (T,) int32 code of the level


NO_MEMBERS = np.empty(0, np.int32)


@inlined
def same_further_levels(codes, i, j):
    """Whether cells i and j have the same level of every covariate but the first."""
    for c in range(1, codes.shape[1]):
        if codes[i, c] != codes[j, c]:
            return False
    return True


@inlined
def multiply_tilts(codes, i, tilt, joint):
    """joint_0k = prod_c tilt[code_ic, k]."""
    # Entry by entry: to take a row out of an array, numba counts references, which here takes
    # longer than all the rest.
    b = codes[i, 0]
    if codes.shape[1] == 1:
        for k in range(joint.shape[1]):
            joint[0, k] = tilt[b, k]
    else:
        scale_row(tilt, b, tilt, codes[i, 1], np.float32(1.0), joint, 0)
    for c in range(2, codes.shape[1]):
        b = codes[i, c]
        for k in range(joint.shape[1]):
            joint[0, k] *= tilt[b, k]


@inlined
def dot_rows(A, lo, hi, table, b, out):
    """out_i = sum_k A[lo + i, k] table[b, k], i < hi - lo."""
    whole = hi - (hi - lo) % 4
    for i in range(lo, whole, 4):
        dot_four(A, i, table, b, out, i - lo)
    for i in range(whole, hi):
        out[i - lo] = dot(A, i, table, b)


@inlined
def member(groups, j):
    """Row of member j."""
    if groups.members.size > 0:
        return np.int64(groups.members[j])
    return np.int64(j)


@kernel
def weights_of(A, codes, tilt, groups, t, joint, R):
    """R_jk for the cells of group t, one row each; `joint` (1,L) is for scratch."""
    members, lo, hi = groups.members, groups.start[t], groups.start[t + 1]
    if codes.shape[1] > 1:
        for j in range(lo, hi):
            i = np.int64(members[j]) if members.size > 0 else j
            multiply_tilts(codes, i, tilt, joint)
            inverse = np.float32(1.0) / dot(A, i, joint, 0)
            scale_row(A, i, joint, 0, inverse, R, j - lo)
        return
    total = np.empty(TILE, np.float32)
    dot_rows(A, lo, hi, tilt, codes[lo, 0], total)
    for j in range(lo, hi):
        scale_row(A, j, tilt, codes[lo, 0], np.float32(1.0) / total[j - lo], R, j - lo)


@kernel
def assignments(A, codes, tilt, R):
    """R_ik = A_ik tilt_ik / sum_k A_ik tilt_ik, tilt_ik = prod_c tilt[code_ic, k].

    IN A (n,L), codes (n,C), tilt (B,L). OUT R (n,K).
    """
    joint = np.empty((1, A.shape[1]), np.float32)
    row = np.empty((1, A.shape[1]), np.float32)
    for i in range(A.shape[0]):
        multiply_tilts(codes, i, tilt, joint)
        scale_row(A, i, joint, 0, np.float32(1.0) / dot(A, i, joint, 0), row, 0)
        R[i] = row[0, : R.shape[1]]
