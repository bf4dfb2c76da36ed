"""Cuts the power of a disk at many moments of what a traced process did, and looks at what is left of its dataset."""

import copy
import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from vla.bench.crash.disk import CALLS, CUTS, Disk, Event, read_trace
from vla.bench.crash.episodes import CODECS, CONTRACT
from vla.bench.crash.ledger import Ledger
from vla.bench.crash.processes import Child
from vla.bench.measure import Note, Row
from vla.datasets.dataset import create_dataset

_LONGEST = 2**24
"""Bytes of a string in the trace: all of them."""


def power_cuts(folder: Path, cuts: int, rng: np.random.Generator, ledger: Ledger, note: Note) -> list[Row]:
    """Trace one process, and settle what ``cuts`` moments leave, in every way of `CUTS`; ``ledger`` counts."""
    tracer = shutil.which("strace")
    if not cuts or tracer is None or subprocess.run([tracer, "-o", "/dev/null", "true"], check=False).returncode:
        why = "none were asked for" if not cuts else "strace is not installed (apt-get install strace), or not allowed"
        note(f"no power cuts: {why}")
        return [Row(name="power cuts (skipped)", value=0.0, unit="times")]
    root, notes, trace = folder / "power", folder / "power.notes", folder / "power.trace"
    create_dataset(root, CONTRACT, CODECS)
    disk = Disk(root)
    note("power cuts: tracing what one process does")
    traced = [sys.executable, "-m", "vla.bench.crash.traced", str(root), str(notes)]
    options = ["-f", "-y", "-xx", "-s", str(_LONGEST), "-e", f"trace={CALLS}", "-o", str(trace)]
    subprocess.run([tracer, *options, *traced], check=True)
    return _replay(disk, notes, trace, cuts, rng, ledger, note)


def _replay(
    disk: Disk, notes: Path, trace: Path, cuts: int, rng: np.random.Generator, ledger: Ledger, note: Note
) -> list[Row]:
    again = copy.deepcopy(disk)
    changes = sum(again.apply(event) for event in read_trace(trace))
    chosen = set(rng.choice(changes, min(cuts, changes), replace=False).tolist())
    promised: dict[str, str] = {}
    number = done = 0
    for event in read_trace(trace):
        said = _said(event, notes)
        promised |= said or {}
        changed = disk.apply(event)
        number += changed
        if said or (changed and number in chosen):
            done += 1
            for name, cut in CUTS.items():
                target = notes.with_name("cut")
                cut(disk.folder, target)
                _settle(target, promised, ledger, note, f"after call {number} of {changes}, {name}")
                shutil.rmtree(target)
    return [
        Row(name="power cuts", value=float(done * len(CUTS)), unit="times"),
        Row(name="system calls replayed", value=float(number), unit="calls"),
        Row(name="committed episodes before power cuts", value=float(len(promised)), unit="episodes"),
    ]


def _said(event: Event, notes: Path) -> dict[str, str] | None:
    """What was reported committed by this call, if it is one that reports."""
    if event.call != "write" or event.handle[1] != str(notes):
        return None
    found: dict[str, str] = json.loads(event.written)
    return found


def _settle(target: Path, promised: dict[str, str], ledger: Ledger, note: Note, what: str) -> None:
    ours, theirs = multiprocessing.Pipe()
    child = Child(process=None, pipe=ours, root=target, role="power", published=dict(promised), killed_ns=1, ended=True)
    before = ledger.faults
    ledger.open(target, None)
    ledger.settle([child])
    if ledger.faults != before:
        note(f"that was the power cut {what}")
    ours.close()
    theirs.close()
