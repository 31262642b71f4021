"""The parts of a model as one JSON header and named arrays, and back again, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from harmonypy_lite._version import __version__
from harmonypy_lite.cells.chunk import ChunkWork, InForce
from harmonypy_lite.design import Design
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.tables import Array
from harmonypy_lite.genes import GeneSpace, gene_arrays, genes_of
from harmonypy_lite.method.blocks import number_of_blocks
from harmonypy_lite.method.form import Form, form_of
from harmonypy_lite.method.model import Reference
from harmonypy_lite.method.rules import RULES, Setting
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Replay

FORMAT = "harmonypy_lite model"
#: Raised when an older package could misread a newer file; older files stay readable.
VERSION = 1
_LARGEST = {"n_clusters": 10**5, "n_dims": 10**5, "n_blocks": 10**5}


def header_of(
    replay: Replay,
    design: Design,
    n_dims: int,
    summary: Mapping[str, Any],
    genes: GeneSpace | None,
) -> dict[str, Any]:
    """Return everything that is no array."""
    setting = replay.setting
    params = {p.name: getattr(setting.params, p.name) for p in fields(HarmonyParams)}
    # what the seed decided is in the tables; the others are without effect on the result
    params |= {"rng": 0, "n_jobs": None, "memory": "fast"}
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": __version__,
        "n_cells": setting.n_cells,
        "n_dims": n_dims,
        "n_clusters": setting.n_clusters,
        "n_steps": len(replay.steps),
        "n_blocks": _n_blocks(setting.params, setting.n_cells),
        "block_seed": replay.block_seed,
        "affinities": setting.form.name,
        "params": params,
        "covariates": list(design.covariates),
        "levels": [list(names) for names in design.levels],
        "dropped": dict(design.dropped),
        "dropped_levels": {name: list(v) for name, v in design.dropped_levels.items()},
        "given": list(design.given),
        "summary": dict(summary),
        "genes": None if genes is None else genes.header(),
    }


def arrays_of(
    replay: Replay, reference: Reference, genes: GeneSpace | None
) -> dict[str, np.ndarray]:
    """Return the arrays."""
    setting, (K, d) = replay.setting, reference.mean.shape
    n_blocks, B = _n_blocks(setting.params, setting.n_cells), setting.theta.size
    centroids, tilts, effects, S = [], [], [], len(replay.steps)
    for in_force, W in replay.steps:
        # all blocks are visited in the last round, which has one set of centroids
        assert all(np.array_equal(each.Yt, in_force[0].Yt) for each in in_force)
        centroids.append(in_force[0].Yt[:d, :K].T)
        tilts.append(np.stack([each.log_tilt for each in in_force]))
        effects.append(W)
    return {
        "sigma": setting.sigma,
        "theta": setting.theta,
        "level_size": setting.level_size.astype(np.int64),
        "centroids": np.asarray(centroids, np.float32).reshape(S, K, d),
        "log_tilt": np.asarray(tilts, np.float32).reshape(S, n_blocks, B, K),
        "effects": np.asarray(effects, np.float32).reshape(S, K, B, d),
        "reference_size": reference.size,
        "reference_sum": reference.corrected_sum,
        "reference_mean": reference.mean,
        "reference_covariance": reference.covariance.astype(np.float32),
        **({} if genes is None else genes.arrays()),
    }


def _n_blocks(params: HarmonyParams, n_cells: int) -> int:
    return number_of_blocks(params.block_proportion, n_cells)


def expected_arrays(header: Mapping[str, Any]) -> dict[str, Array]:
    """Check a header; return what the arrays that go with it must be."""
    if header.get("format") != FORMAT:
        raise InvalidInput("it is no model of harmonypy_lite")
    if header.get("version") != VERSION:
        raise InvalidInput(
            f"it has format {header.get('version')!r} (made by harmonypy_lite "
            f"{header.get('made_by')}), this version reads {VERSION}: upgrade harmonypy_lite"
        )
    K, d, blocks = (_number(header, name, most) for name, most in _LARGEST.items())
    steps = _number(header, "n_steps", 10**4, 0)
    _number(header, "n_cells", 2**40)
    levels = _texts(header, "levels", "covariates")
    B = sum(map(len, levels))
    return {
        "sigma": Array("float64", (K,)),
        "theta": Array("float64", (B,)),
        "level_size": Array("int64", (B,)),
        "centroids": Array("float32", (steps, K, d)),
        "log_tilt": Array("float32", (steps, blocks, B, K)),
        "effects": Array("float32", (steps, K, B, d)),
        "reference_size": Array("float64", (K,)),
        "reference_sum": Array("float64", (K, d)),
        "reference_mean": Array("float64", (K, d)),
        "reference_covariance": Array("float32", (K, d, d)),
        **gene_arrays(header.get("genes"), d),
    }


def _number(header: Mapping[str, Any], name: str, most: int, least: int = 1) -> int:
    value = header.get(name)
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"{name} is {value!r}, it must be a number from {least} to {most}")
    return value


def _texts(header: Mapping[str, Any], name: str, beside: str) -> list[list[str]]:
    """Return lists of texts, one for each name in another list."""
    names, found = header.get(beside), header.get(name)
    if not isinstance(names, list) or not isinstance(found, list) or len(names) != len(found):
        raise InvalidInput(f"{name} and {beside} are no lists of one length")
    for each in [names, *found]:
        if not isinstance(each, list) or not all(isinstance(t, str) for t in each):
            raise InvalidInput(f"{name} and {beside} are no lists of texts")
        if len(set(each)) < len(each):
            raise InvalidInput(f"{name} or {beside} name one thing twice")
    return found


def parts_of(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Replay, Design, Reference, dict[str, Any], GeneSpace | None]:
    """Return what a model is made of, from checked arrays; refuses parts that do not fit."""
    design = _design(header, arrays["level_size"])
    params = _params(header)
    n_cells = header["n_cells"]
    if _n_blocks(params, n_cells) != header["n_blocks"]:
        raise InvalidInput("the number of blocks does not fit the parameters")
    per_covariate = [arrays["level_size"][levels].sum() for levels in design.level_slices()]
    if (arrays["level_size"] <= 0).any() or any(each != n_cells for each in per_covariate):
        raise InvalidInput("the sizes of the levels do not add up to the cells")
    if (arrays["sigma"] <= 0).any() or (arrays["theta"] < 0).any():
        raise InvalidInput("sigma must be positive and theta not negative")
    setting = Setting(
        rules=RULES[params.flavor],
        params=params,
        n_cells=n_cells,
        n_clusters=header["n_clusters"],
        theta=arrays["theta"],
        sigma=arrays["sigma"],
        ridge_lambda=None,
        level_size=arrays["level_size"],
        level_share=arrays["level_size"] / n_cells,
        covariates=tuple(design.level_slices()),
        form=_form(header, params, design, arrays["theta"]),
    )
    replay = Replay(setting, list(_steps(setting, arrays)), _number(header, "block_seed", 2**63, 0))
    reference = Reference(
        arrays["reference_size"],
        arrays["reference_sum"],
        arrays["reference_mean"],
        arrays["reference_covariance"].astype(np.float64),
    )
    summary = header.get("summary")
    genes = None if header.get("genes") is None else genes_of(header["genes"], arrays)
    if bool(design.covariates) != bool(replay.steps):
        raise InvalidInput("covariates and iterations do not fit each other")
    return replay, design, reference, summary if isinstance(summary, dict) else {}, genes


def _params(header: Mapping[str, Any]) -> HarmonyParams:
    given = header.get("params")
    names = {p.name for p in fields(HarmonyParams)}
    if not isinstance(given, dict) or not set(given) <= names:
        raise InvalidInput("params are not those of this version")
    return HarmonyParams(**given).resolved()


def _form(
    header: Mapping[str, Any], params: HarmonyParams, design: Design, theta: np.ndarray
) -> Form:
    if "affinities" not in header:  # a model from before there were halves; the design has no cells
        stale = params.sync == "batch"
        return form_of(RULES[params.flavor], theta, design, header["n_clusters"], stale=stale)
    name = header["affinities"]
    if not isinstance(name, str) or name not in Form.__members__:
        one = ", ".join(Form.__members__)
        raise InvalidInput(f"affinities are {name!r}, they must be one of {one}")
    return Form[name]


def _design(header: Mapping[str, Any], level_size: np.ndarray) -> Design:
    levels = _texts(header, "levels", "covariates")
    dropped, their_levels = header.get("dropped"), header.get("dropped_levels")
    given = header.get("given")
    if not (isinstance(dropped, dict) and isinstance(their_levels, dict)):
        raise InvalidInput("dropped covariates are no JSON objects")
    if their_levels:
        _texts({"names": list(their_levels), "l": list(their_levels.values())}, "l", "names")
    if not isinstance(given, list) or set(given) != {*header["covariates"], *their_levels}:
        raise InvalidInput("the covariates that were given are not those that are described")
    return Design(
        np.empty((0, len(levels)), np.int32),
        np.cumsum([0, *map(len, levels)]).astype(np.int64),
        level_size,
        tuple(header["covariates"]),
        tuple(map(tuple, levels)),
        {str(name): str(why) for name, why in dropped.items()},
        {name: tuple(names) for name, names in their_levels.items()},
        tuple(given),
    )


def _steps(
    setting: Setting, arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[list[InForce], np.ndarray]]:
    work = ChunkWork(setting.sigma, setting.theta.size, setting.n_cells, form=setting.form)
    tables = (arrays[name] for name in ("centroids", "log_tilt", "effects"))
    for Y, tilts, W in zip(*tables, strict=True):
        yield [work.in_force_again(Y, log_tilt) for log_tilt in tilts], W
