"""Damaged files, and a process that meets each of them in a child of its own.

`python mutants.py FOLDER KIND FIRST STOP` prints, for each mutant that was not met as it should be,
one line of JSON; the last line says how many there were, how many were refused, and how many made
the HDF5 library loop for ever, which Python cannot prevent.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import h5py
import numpy as np

#: Memory that a child may take beyond what its parent has, and seconds.
MEMORY, SECONDS = 1 << 30, 60
VALUES: list[Any] = [0, -1, 2**40, 3.5, "text", "", b"\xff\xfe", np.arange(3), h5py.Empty("f4")]
VALUES += [np.array(["a", "b"], object), np.zeros((2, 2)), np.zeros(0), True, 1j]
#: How a message names a part of the one file that was given.
PLACES = ("obs", "Column 'donor'", "The embedding")
KINDS = ("h5ad", "zarr", "model", "message")


# Mutations of bytes.


def cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(0, len(data))]


def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    reach = len(data) if rng.random() < 0.5 else min(len(data), 4096)
    for at in rng.integers(0, reach, rng.integers(1, 20)):
        data[at] ^= 1 << int(rng.integers(0, 8))
    return data


def blank(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, len(data)))
    data[at : at + 512] = bytes(len(data[at : at + 512]))
    return data


def grow(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data + rng.bytes(int(rng.integers(1, 5000)))


BYTES = (cut, flip, flip, blank, grow)


def spoil_bytes(path: Path, rng: np.random.Generator) -> str:
    change = BYTES[rng.integers(len(BYTES))]
    path.write_bytes(change(bytearray(path.read_bytes()), rng))
    return change.__name__


# Mutations of the members of an HDF5 file.


def members(file: Any) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    wanted = [name for name in found if name.startswith(("obs", "uns"))]
    return found if len(wanted) < 4 else wanted * 4 + found  # what is read, more often


def lose(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    del file[name]


def retype(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    if rng.random() < 0.2:
        file.create_group(name)
    else:
        file[name] = VALUES[rng.integers(len(VALUES))]
    if rng.random() < 0.7:
        for key, value in attributes.items():
            file[name].attrs[key] = value


def inflate(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    """Declare a shape of which nothing is there."""
    attributes, part = dict(file[name].attrs), file[name]
    dtype = getattr(part, "dtype", np.dtype("f4"))
    tail = getattr(part, "shape", (1,))[1:] if rng.random() < 0.7 else (2**20,)
    del file[name]
    shape = (int(rng.choice([1000, 10**6, 2**33, 2**45])), *(tail or ()))
    made = file.create_dataset(name, shape, dtype, chunks=(1000, *tail))
    for key, value in attributes.items():
        made.attrs[key] = value


def link(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    """Lead elsewhere: out of the file, in a circle, nowhere, to another member."""
    parent = name.rpartition("/")[0] or "/"
    del file[name]
    kind = rng.integers(6)
    if kind == 0:
        file[name] = h5py.ExternalLink(str(outside), "/" + name)
    elif kind == 1:
        file[name] = h5py.SoftLink("/" + name)
    elif kind == 2:
        file[name] = file[parent]
    elif kind == 3:
        file[name] = h5py.ExternalLink("absent.h5", "/x")
    elif kind == 4:
        file[name] = file[str(rng.choice(list(file)))]
    else:
        made = file.create_dataset(name, (90, 6), "f4", external=[(str(outside), 0, 2160)])
        made.attrs["encoding-type"] = "array"


def relabel(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    """Change an attribute."""
    keys = ["encoding-type", "_index", "column-order", "categories", "shape", *file[name].attrs]
    key = keys[rng.integers(len(keys))]
    kinds = ["categorical", "dataframe", "csr_matrix", "dict", "awkward-array", "nullable-integer"]
    value = kinds[rng.integers(6)] if rng.random() < 0.5 else VALUES[rng.integers(len(VALUES))]
    file[name].attrs.pop(key, None)
    file[name].attrs[key] = value


def revalue(file: Any, name: str, rng: np.random.Generator, outside: Path) -> None:
    """Put values that no program would."""
    part = file[name]
    if isinstance(part, h5py.Dataset) and part.shape:
        odd = {"f": [np.nan, np.inf, -1e30], "i": [-1, -5, 120], "u": [200], "b": [True]}
        values = odd.get(part.dtype.kind, [b"\xff\xfe\xfd", b""])
        part[: int(rng.integers(1, part.shape[0] + 1))] = values[rng.integers(len(values))]


PARTS = (lose, retype, inflate, link, relabel, revalue)


def spoil_members(path: Path, rng: np.random.Generator, outside: Path) -> str:
    change = PARTS[rng.integers(len(PARTS))]
    with h5py.File(path, "r+") as file:
        names = members(file)
        name = names[rng.integers(len(names))]
        change(file, name, rng, outside)
    return f"{change.__name__} {name}"


# Mutations of folders and messages.


def spoil_zarr(path: Path, rng: np.random.Generator, outside: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file())
    some = files[rng.integers(len(files))]
    shown, kind = str(some.relative_to(path)), rng.integers(6)
    if kind == 0:
        some.unlink()
    elif kind == 1:
        shutil.rmtree(some.parent) if some.parent != path else some.unlink()
    elif kind == 2:
        place = some.parent if some.parent != path else path / "obs"
        shutil.rmtree(place)
        place.symlink_to([outside.parent, place, path / "absent"][rng.integers(3)])
    elif kind == 3 and some.suffix == ".json":
        held = json.loads(some.read_text())
        key = list(held)[rng.integers(len(held))]
        held[key] = [None, -1, "text", [2**50], {}, 2**60][rng.integers(6)]
        some.write_text(json.dumps(held))
    else:
        return f"{spoil_bytes(some, rng)} {shown}" if some.stat().st_size else "nothing"
    return f"{kind} {shown}"


def spoil_message(path: Path, rng: np.random.Generator) -> str:
    """Change bytes, with a right checksum behind them."""
    said = spoil_bytes(path, rng)
    data = path.read_bytes()
    path.write_bytes(data[:-32] + hashlib.sha256(data[:-32]).digest())
    return said


def spoil(path: Path, kind: str, rng: np.random.Generator, outside: Path) -> str:
    if kind == "zarr":
        return spoil_zarr(path, rng, outside)
    if kind == "message":
        return spoil_message(path, rng)
    return spoil_bytes(path, rng) if rng.random() < 0.4 else spoil_members(path, rng, outside)


# The originals, and what is done with them.


def original(folder: Path, kind: str) -> Path:
    from files import small_adata, small_file

    path = folder / f"original.{kind}"
    if kind == "h5ad":
        small_file(path)
    elif kind == "zarr":
        small_adata().write_zarr(path)
    elif kind == "model":
        from harmonypy_lite import Harmony

        X = np.random.default_rng(0).normal(size=(60, 3))
        Harmony(n_clusters=2, max_iter_harmony=2).fit(X, ["a", "b"] * 30).save(path, X)
    else:
        from harmonypy_lite.federated import message

        arrays = {"n": np.arange(30), "Y": np.ones((4, 3))}
        message.write(path, message.Message("site", "run", "a", 1, {}, {"cells": 9}, arrays))
    return path


def command(*words: str) -> int:
    """Run the command line in this process; return its exit code."""
    from harmonypy_lite.cli import program

    try:
        program.main([*words], prog_name="harmonypy-lite")
    except SystemExit as end:
        return int(end.code or 0)
    raise AssertionError("the command line did not end")


def tree(folder: Path) -> dict[str, str]:
    """Return a checksum of every file in a folder, links not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            path = Path(place, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def meet(path: Path, kind: str, in_place: bool) -> list[str]:
    """Use a mutant; return what was not as it should be, or ["refused"]."""
    if kind in ("model", "message"):
        from harmonypy_lite import HarmonyModel, InvalidInput
        from harmonypy_lite.federated import message

        try:
            HarmonyModel.load(path) if kind == "model" else message.read(path)
        except InvalidInput as error:
            return ["refused"] if path.name in str(error) else [f"file not named: {error}"]
        return []
    wrong = [] if command("info", str(path)) in (0, 2) else ["info fails"]
    before, out = tree(path.parent), path.with_name(f"out{path.suffix}")
    how = ["--in-place", "--overwrite"] if in_place else ["-o", str(out)]
    short = ["--max-iter-harmony", "1", "--n-clusters", "2", "--n-jobs", "1"]
    code = command("integrate", str(path), "-k", "donor", *how, *short)
    after = tree(path.parent)
    if code not in (0, 1, 2):  # 1: the system's errors, such as of links in circles
        wrong.append(f"integrate ends with {code}")
    if code and before != after:
        wrong.append(f"traces: {sorted(dict(before.items() ^ after.items()))}")
    if not code:
        result = path if in_place else out
        own = (str(result), str(result) + os.sep)
        strange = [p for p in dict(before.items() ^ after.items()) if not p.startswith(own)]
        wrong += [f"traces: {strange}"] if strange else []
        wrong += [] if result.exists() else ["no output"]
    return wrong or (["refused"] if code else [])


def child(path: Path, kind: str, in_place: bool, said: Path) -> None:
    """Do it within limits, as a process; what it has to say is in the file `said`."""
    import resource

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS + 10)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    handle = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1), os.dup2(handle, 2)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        verdict = meet(path, kind, in_place)
    except BaseException:
        verdict = [traceback.format_exc()]
    sys.stdout.flush(), sys.stderr.flush()
    text = said.read_text(errors="replace")
    if verdict == ["refused"] and kind in ("h5ad", "zarr"):
        # what is no OSError would be shown with the name of its class
        last = [line for line in text.splitlines() if line.startswith("Error:")]
        raw = any(re.match(r"Error: \w+Error: ", line) for line in last)
        if raw or not last or not any(word in last[-1] for word in (path.name, *PLACES)):
            verdict = ["neither the file nor the part is named"]
    os.write(handle, json.dumps(["VERDICT", verdict]).encode())
    os._exit(0)


def judged(folder: Path, path: Path, kind: str, in_place: bool) -> tuple[list[str], str]:
    said = folder / "said"
    said.unlink(missing_ok=True)
    number = os.fork()
    if number == 0:
        try:
            child(path, kind, in_place, said)
        finally:
            os._exit(9)
    _, status = os.waitpid(number, 0)
    text = said.read_text(errors="replace")
    _, _, verdict = text.rpartition('["VERDICT", ')
    if re.search(r'Timeout.*\n.*\n  File ".*/h5py/', text):
        return ["HDF5 hangs"], text
    if status or not verdict:
        return [f"ended with status {status}"], text
    return json.loads(verdict[:-1]), text


def main(folder: Path, kind: str, first: int, stop: int) -> None:
    given = original(folder, kind)
    outside = folder / "outside" / "other.h5ad"
    outside.parent.mkdir()
    original(outside.parent, "h5ad").rename(outside)
    if kind in ("h5ad", "zarr"):  # compile, and load all that children need, once
        command("integrate", str(given), "-k", "donor", "-o", str(folder / f"w.{kind}"), "-q")
    untouched, place = tree(outside.parent), folder / "place"
    counts = dict.fromkeys(["refused", "HDF5 hangs"], 0)
    for seed in range(first, stop):
        rng = np.random.default_rng([KINDS.index(kind), seed])
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        path = place / f"mutant{given.suffix}"
        shutil.copytree(given, path) if given.is_dir() else shutil.copyfile(given, path)
        change = spoil(path, kind, rng, outside)
        verdict, text = judged(folder, path, kind, bool(seed % 2))
        if tree(outside.parent) != untouched:
            verdict.append("another file was changed")
            original(outside.parent, "h5ad").rename(outside)
            untouched = tree(outside.parent)
        if len(verdict) == 1 and verdict[0] in counts:
            counts[verdict[0]] += 1
        elif verdict:
            print(json.dumps({"seed": seed, "change": change, "wrong": verdict, "said": text}))
    print(json.dumps({"mutants": stop - first, **counts}))


if __name__ == "__main__":
    os.environ["COLUMNS"] = "1000"
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
