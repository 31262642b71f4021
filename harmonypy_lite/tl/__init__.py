"""What is asked of an integration: which theta, and new cells beside it with their labels."""

from __future__ import annotations

from harmonypy_lite.tl.labels import cluster_confidence, transfer_labels
from harmonypy_lite.tl.mapping import map_embedding
from harmonypy_lite.tl.theta import (
    THETAS,
    diagnose,
    needs_correction,
    null_calibration,
    sweep_theta,
)

__all__ = [
    "THETAS",
    "cluster_confidence",
    "diagnose",
    "map_embedding",
    "needs_correction",
    "null_calibration",
    "sweep_theta",
    "transfer_labels",
]
