"""Run the examples of the README one after the other, as somebody does who follows it by hand.

    python tests/tutorials/run_readme.py

Python examples go on from one another in one interpreter, commands run in one folder that holds the
data of the clone. Lines that install something are left to the command that calls this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def without_installs(line: str) -> str:
    """Return what is left of a command, nothing for the tests and the notebooks' program."""
    parts = [part for part in line.split(" && ") if not part.startswith("pip install")]
    return "" if parts and parts[0].startswith("pytest") else " && ".join(parts)


def main() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts: dict[str, str] = {"python": "", "bash": "set -ex\n"}
    for kind, code in BLOCK.findall(text):
        lines = code.splitlines()
        if kind == "bash":
            lines = [without_installs(line) for line in lines]
        scripts[kind] += "\n".join(lines) + "\n"
    # the command line of this interpreter's environment, also where that is not activated
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "MPLBACKEND": "agg"}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "data", Path(folder) / "data")
        for command, code in (
            (["bash"], scripts["bash"]),
            ([sys.executable, "-"], scripts["python"]),
        ):
            began = time.perf_counter()
            subprocess.run(command, input=code, text=True, cwd=folder, env=environment, check=True)
            print(
                f"examples for {Path(command[0]).name}: {time.perf_counter() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
