"""Where a result comes from: command, commit, versions, hardware, and the contents of folders that it used."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vla.core.sealed import COMMIT

PACKAGES = ("vla", "torch", "numpy", "mujoco", "zarr", "ray", "gymnasium", "transformers")


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def provenance(**extra: Any) -> dict[str, Any]:
    """Everything needed to ask for the same result again, plus ``extra`` (seed, contract digest, renderer)."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_commit(),
        "versions": versions(),
        "hardware": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform()},
        **extra,
    }


def git_commit() -> str | None:
    """The commit of the source tree, with ``+dirty`` when it has changes; None outside a repository."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+dirty" if dirty else "")


def folder_digest(path: Path) -> str:
    """Sixteen hexadecimal digits of all files below ``path``, or of this one, their names and what is in them.

    Where it comes from (``provenance.json``: command, date) and the seal, which covers that, are left out: the same
    content made twice is the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and file.name not in ("provenance.json", COMMIT):
            name = file.relative_to(path).as_posix()
            digest.update(f"{len(name)} {name} {file.stat().st_size} ".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
