"""Where real sets are: the folder that the user names, or where they were published."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    from anndata import AnnData

#: Checksums of the prepared files that a folder may hold.
SHA256 = {
    "cell_lines_2370": "89cd3fd3ecabc5953765277faccc02c3205b65f7a1d4d9821dc7bc8057c3bd15",
    "cell_lines_9478": "4c338b3c95020408622d98cb4b9d244673ee8df1218beee3bad1e5eea5ae2069",
    "codex_spleen_158k": "2b65653c30dc8233e528978c5282dfdee7cf1245e640565002b7ea1d43a5e7ab",
    "cytof_shaham_8files": "c32d294a0cc46a5a013a7accd4c43dbbfa072804bf1ebd38d38dd2015b2ebb7e",
    "glioblastoma_lemur_5000": "2175cb2332631bfe8df1f7b9d8f4153532cf94ed70d7208d08320c8d13ce5952",
    "immune_union_57k": "e10d869333477cddf1537f169554d571eacffcf16b1e8fc93fd76e68d2c9c49c",
    "kang_ifnb_pbmc": "495085475a3ee3ab498504f3f2eb5d63c8b30db0062158df61d585d0a983ddec",
    "pancreas_hormone2cell": "b81a65d29399062ca7c45db48ddb80525b479bf46b8bf3d0e3d6cb7a48880ced",
    "pbmc_3500_harmonypy": "3ef37da287b18390dad06ea551ffea3700b001308c6dacf4f7fbe3b44b33f838",
    "ra_synovium_5265": "a348a584d8d82b1de791f3511d1cd007f0ebc0defc426f1c5a2fde9ba3994b04",
    "sc_mixology_5batch": "ca33dcf22167c26a3ce59a6cd55295ba440ab2720e7c966a129a6e1857e223e1",
    "sim_tran2020_simul1": "5f41036c8824ceeb2e4fd8ef52d08e36d4a0f742b98b86fa64d8d289fe721ebb",
    "sim_tran2020_simul3": "44800fa889a5271dc30da4cc9c587d04ec712aa5e519bd93fc2dc4ad4fc582ce",
    "sim_tran2020_simul5": "6ba1fb0e55a69f9186b0ec0b1a1ad1fb03135f56682aa77b427643187b70915d",
    "snatac_T_lisi_8078": "419cc54b8a6ba0371014127383c84c8f4df99af8c44ea47a1fbf3168dd72b169",
    "symphony_pbmcs_1200": "fb27f35f0e928e22745fa5ade490b09df22b7096df263c5948e28926bafa78cd",
}


def folder() -> Path | None:
    """Return the folder of the real data sets: the environment variable `HARMONYPY_LITE_DATA`.

    Returns
    -------
    Path or None
        `None` when the variable is unset or empty.

    Raises
    ------
    InvalidInput
        The variable names something that is not a folder.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> path = datasets.folder()
    >>> path is None or path.is_dir()
    True
    """
    given = os.environ.get("HARMONYPY_LITE_DATA")
    if not given:
        return None
    path = Path(given).expanduser()
    if not path.is_dir():
        raise InvalidInput(
            f"HARMONYPY_LITE_DATA is {given!r}, which is not a folder: set it to the folder that "
            "holds the data sets, or unset it"
        )
    return path


def load(name: str, *, downloads: bool = False) -> AnnData:
    """Read a prepared set from the folder, or make it from its originals."""
    import anndata

    place = folder()
    if place is not None and (place / f"{name}.h5ad").is_file():
        path = place / f"{name}.h5ad"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SHA256[name]:
            raise InvalidInput(
                f"{path} is not the set that the documentation speaks of (its SHA-256 is "
                f"{digest[:12]}..., not {SHA256[name][:12]}...): move it away, or read it with "
                "anndata.read_h5ad."
            )
        return anndata.read_h5ad(path)
    if not downloads:
        where = f"{place} has none" if place is not None else "it is not set"
        raise InvalidInput(
            f"{name} is read from the file {name}.h5ad in the folder that the environment variable "
            f"HARMONYPY_LITE_DATA names ({where}), and is not downloaded: "
            f"help(harmonypy_lite.datasets.{name}) says where it comes from."
        )
    from harmonypy_lite.datasets import originals

    return getattr(originals, name)()
