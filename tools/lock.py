"""Write the hashes of requirements.lock, and requirements-cuda.lock: `python tools/lock.py`, with pip 24 or newer.

The pins are those of requirements.lock itself: to change one, change its line, or add NAME==VERSION, and run this.
Each gets the hash of the wheel that pip takes on Linux x86_64, for each Python and each age of glibc, from whatever
index pip uses here; a hash that stands there for the same version stays, since another index may give another build.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK, CUDA = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
PYTHONS = ("3.11", "3.12")
GLIBCS = (28, 39)
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_CUDA_HEADER = """\
# What PyPI's torch needs beside requirements.lock: NVIDIA's libraries and Triton. Installed by tools/setup.sh where
# the index has no CPU build of torch. Written by tools/lock.py.
"""

Hashes = dict[tuple[str, str], set[str]]
"""By name and version."""


def read(path: Path) -> Hashes:
    """The pins of a lock file with their hashes."""
    text = path.read_text() if path.exists() else ""
    starts = [*(match.start() for match in _PIN.finditer(text)), len(text)]
    parts = [text[start:end] for start, end in pairwise(starts)]
    return {(m[1], m[2]): set(_HASH.findall(part)) for part in parts if (m := _PIN.match(part))}


def write(path: Path, header: str, hashes: Mapping[tuple[str, str], set[str]]) -> None:
    """One pin after the other, by name."""
    ordered = sorted(hashes.items(), key=lambda item: item[0][0].lower())
    pins = [" \\\n    --hash=".join([f"{name}=={version}", *sorted(found)]) for (name, version), found in ordered]
    path.write_text(header + "\n".join(pins) + "\n")


def ask_pip(pins: Sequence[str], python: str, glibc: int, *arguments: str, plain: bool = False) -> Iterator[Any]:
    """What pip would install of ``pins``; ``plain`` leaves out what this machine adds to the default index."""
    short = python.replace(".", "")
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(glibc, 4, -1)]
    tags = [*platforms, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    environment = dict(os.environ)
    if plain:
        environment = {k: v for k, v in environment.items() if k not in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")}
        environment |= {"PIP_CONFIG_FILE": os.devnull}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pins.txt").write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--only-binary", ":all:", "--python-version", python, "--target", folder, "--implementation", "cp"]
        command += [f"--abi={abi}" for abi in (f"cp{short}", "abi3", "none")] + [f"--platform={tag}" for tag in tags]
        report = Path(folder) / "report.json"
        command += ["-r", f"{folder}/pins.txt", "--report", str(report), *arguments]
        subprocess.run(command, env=environment, check=True)
        yield from json.loads(report.read_text())["install"]


def collect(into: Hashes, installs: Iterator[Any]) -> None:
    """Add what pip reports; torch of another build (2.13.0+cpu) counts to its public version."""
    for install in installs:
        name, version = install["metadata"]["name"], install["metadata"]["version"].partition("+")[0]
        key = next((key for key in into if _same(key[0], name)), (name, version))
        into.setdefault(key, set()).add("sha256:" + install["download_info"]["archive_info"]["hashes"]["sha256"])


def _same(one: str, other: str) -> bool:
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def main() -> None:
    """Both files."""
    lock = read(LOCK)
    pins = [f"{name}=={version}" for name, version in lock]
    torch = [pin for pin in pins if pin.startswith("torch==")]
    cuda: Hashes = {}
    for python in PYTHONS:
        for glibc in GLIBCS:
            sys.stderr.write(f"Python {python}, glibc 2.{glibc}\n")
            collect(lock, ask_pip(pins, python, glibc, "--no-deps"))
            collect(lock, ask_pip(torch, python, glibc, "--no-deps", plain=True))
            constraints = ROOT / ".lock-constraints.txt"
            constraints.write_text("\n".join(pins))
            try:
                collect(cuda, ask_pip(torch, python, glibc, "--constraint", str(constraints), plain=True))
            finally:
                constraints.unlink()
    header = "".join(line for line in LOCK.read_text().splitlines(keepends=True) if line.startswith("#"))
    write(LOCK, header, lock)
    write(CUDA, _CUDA_HEADER, {key: found for key, found in cuda.items() if not any(_same(key[0], n) for n, _ in lock)})


if __name__ == "__main__":
    main()
