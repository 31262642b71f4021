"""Harmony batch integration for single-cell embeddings: fast, deterministic, streaming."""

from __future__ import annotations

from harmonypy_lite._version import __version__

__all__ = ["__version__"]
