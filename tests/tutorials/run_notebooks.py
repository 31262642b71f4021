"""Run the tutorials, each in a fresh kernel, and hold what they print to what they keep.

    python tests/tutorials/run_notebooks.py [--write] [NAME ...]

A notebook fails on an error, on anything written to stderr (a warning that is not caught on
purpose), and when an output is no longer the kept one: texts must be equal but for numbers, which
may differ by 5 % (other processors round differently). Cells tagged `varies`, whose output has
times or sizes in it, are run but not compared; pictures must be there. Without the real data sets,
outputs are not compared. `--write` keeps the new outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
SIBLING = ROOT.parent / "shared" / "data"
LIMIT = 120  # seconds that a tutorial may take on two cores
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?")
PICTURES = ("image/png", "image/svg+xml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="such as 01_quickstart; all by default")
    parser.add_argument("--write", action="store_true", help="keep the new outputs")
    given = parser.parse_args()
    if "HARMONYPY_LITE_DATA" not in os.environ and SIBLING.is_dir():
        os.environ["HARMONYPY_LITE_DATA"] = str(SIBLING)
    # the command line of this interpreter's environment, also where that is not activated
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    paths = [ROOT / "tutorials" / f"{name}.ipynb" for name in given.names]
    faults = []
    for path in paths or sorted((ROOT / "tutorials").glob("*.ipynb")):
        kept = nbformat.read(path, as_version=4)
        made, seconds = executed(kept)
        found = stray_messages(made)
        if not given.write and "HARMONYPY_LITE_DATA" in os.environ:
            found += differences(kept, made)
        if given.write and not found:
            nbformat.write(made, path)
        print(f"{path.stem}: {seconds:.0f} s" + (" (slow)" if seconds > LIMIT else ""), flush=True)
        faults += [f"{path.stem}, {fault}" for fault in found]
    print("\n".join(faults))
    sys.exit(bool(faults))


def executed(kept: Any) -> tuple[Any, float]:
    """Run a copy of the notebook in a folder of its own."""
    notebook = nbformat.from_dict(kept)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    return notebook, time.perf_counter() - began


def stray_messages(notebook: Any) -> list[str]:
    return [
        f"cell {n}: {output.text.strip()}"
        for n, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == "stderr"
    ]


def differences(kept: Any, made: Any) -> list[str]:
    found = []
    for n, (old, new) in enumerate(zip(kept.cells, made.cells, strict=True)):
        if "varies" in old.metadata.get("tags", ()) or old.cell_type != "code":
            continue
        if pictures(old) != pictures(new):
            found.append(f"cell {n}: {pictures(new)} pictures, {pictures(old)} are kept")
        before, after = text_of(old), text_of(new)
        if not alike(before, after):
            found.append(f"cell {n}: prints\n{after}\nwhere this is kept\n{before}")
    return found


def pictures(cell: Any) -> int:
    return sum(kind in output.get("data", {}) for output in cell.outputs for kind in PICTURES)


def text_of(cell: Any) -> str:
    """Return what a cell prints; the names of objects without a text of their own are left out."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif not any(kind in output.get("data", {}) for kind in PICTURES):
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(part for part in parts if not part.startswith("<"))


def alike(before: str, after: str) -> bool:
    """Whether two texts are the same but for numbers, and those nearly so."""
    frames = [re.sub(r"\s+", " ", NUMBER.sub("#", text)).strip() for text in (before, after)]
    if frames[0] != frames[1]:
        return False
    values = [
        [float(number.replace(",", "").rstrip(".")) for number in NUMBER.findall(text)]
        for text in (before, after)
    ]
    return all(
        abs(x - y) <= 0.05 * max(abs(x), abs(y)) + 0.02 for x, y in zip(*values, strict=True)
    )


if __name__ == "__main__":
    main()
