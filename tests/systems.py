"""Marks of tests that some systems cannot run, each with its reason."""

from __future__ import annotations

import os
import sys

import pytest


def posix(reason: str) -> pytest.MarkDecorator:
    """Skip a test on Windows."""
    return pytest.mark.skipif(os.name != "posix", reason=f"POSIX only: {reason}")


def linux(reason: str) -> pytest.MarkDecorator:
    """Skip a test on other systems than Linux."""
    return pytest.mark.skipif(sys.platform != "linux", reason=f"Linux only: {reason}")
