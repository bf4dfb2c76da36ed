"""Damages every file that is read back, in every way that disks and people do, and looks at what a reader makes of it.

Each kind of file has a door: how it is made, and how everything in it is read. Damage is *found* where the door or the
check that goes with it complains in one of our errors; a *wrong read* is another value without a complaint; anything
else that is raised is a *traceback*.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla.bench.data.doors import DOORS, Door
from vla.bench.measure import Note, Row
from vla.bench.settings import DamageConfig
from vla.core.errors import VlaError

Damage = Callable[[Path, Path | None, np.random.Generator], None]
"""Does it to a file; another file of its kind is given where there is one."""


def _flip(path: Path, other: Path | None, rng: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    bit = int(rng.integers(8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    _write(path, bytes(data))


def _cut(path: Path, other: Path | None, rng: np.random.Generator) -> None:
    _write(path, path.read_bytes()[: int(rng.integers(path.stat().st_size))])


def _swap(path: Path, other: Path | None, rng: np.random.Generator) -> None:
    assert other is not None
    mine, theirs = path.read_bytes(), other.read_bytes()
    _write(path, theirs)
    _write(other, mine)


def _delete(path: Path, other: Path | None, rng: np.random.Generator) -> None:
    path.unlink()


def _write(path: Path, data: bytes) -> None:
    """A new file in its place: others may share the old one by a hard link."""
    path.unlink()
    path.write_bytes(data)


DAMAGES: dict[str, Damage] = {"flip": _flip, "cut": _cut, "swap": _swap, "delete": _delete}


@dataclass(kw_only=True)
class _Count:
    """Of one kind of file."""

    tried: int = 0
    found: int = 0
    wrong: int = 0
    tracebacks: int = 0
    missed: list[str] = field(default_factory=list)


def bench_damage(config: DamageConfig, note: Note) -> list[Row]:
    """Every kind of file, every kind of damage, so many times."""
    rng = np.random.default_rng([config.seed, 0x64616D])
    counts: dict[str, _Count] = {}
    with tempfile.TemporaryDirectory(prefix="vla damage ") as folder:
        for name, door in DOORS.items():
            note(f"damaging {name}")
            original = Path(folder) / name
            door.make(original)
            for kind, files in _kinds(original, door).items():
                counts[kind] = _try_all(original, door, files, config.times, rng, note)
    return list(_rows(counts))


def _kinds(root: Path, door: Door) -> dict[str, list[Path]]:
    """The files below a folder, by what the door calls their kind."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        kinds.setdefault(door.kind(name), []).append(Path(name))
    return kinds


def _try_all(original: Path, door: Door, files: list[Path], times: int, rng: np.random.Generator, note: Note) -> _Count:
    count, truth, copy = _Count(), door.read(original), original.with_name("damaged")
    for kind, damage in DAMAGES.items():
        for name in _chosen(files, times, rng):
            others = [other for other in files if not _same(original / other, original / name)]
            if (kind == "swap" and not others) or (kind == "delete" and door.kind(name.as_posix()) in door.derived):
                continue
            shutil.copytree(original, copy)
            other = copy / others[int(rng.integers(len(others)))] if others else None
            if not (copy / name).stat().st_size:
                shutil.rmtree(copy)
                continue
            damage(copy / name, other, rng)
            _judge(copy, door, truth, count, f"{kind} {name}")
            shutil.rmtree(copy)
    for line in count.missed:
        note(f"FAULT: {line}")
    return count


def _chosen(files: list[Path], times: int, rng: np.random.Generator) -> list[Path]:
    """Every file once where there are few, some of them else; often enough in any case."""
    order = rng.permutation(len(files)).tolist()
    return [files[order[number % len(order)]] for number in range(times)]


def _same(a: Path, b: Path) -> bool:
    return a == b or a.read_bytes() == b.read_bytes()


def _judge(copy: Path, door: Door, truth: object, count: _Count, what: str) -> None:
    count.tried += 1
    said = False
    for look in (door.read, door.check):
        try:
            found = look(copy)
        except VlaError as error:
            said = True
            if "\n" in str(error):
                count.missed.append(f"{what}: more than one line: {error!s:.100}")
        except Exception as error:  # whatever it is, it may not happen
            count.tracebacks += 1
            count.missed.append(f"{what}: {error!r:.200}")
        else:
            if look is door.read and found != truth:
                count.wrong += 1
                count.missed.append(f"{what}: read as something else")
    count.found += said
    if not said:
        count.missed.append(f"{what}: not found")


def _rows(counts: Mapping[str, _Count]) -> Iterator[Row]:
    total = Counter[str]()
    for kind, count in counts.items():
        yield Row(name=f"{kind}: found of {count.tried}", value=float(count.found), unit="found")
        missed = count.tried - count.found
        total.update(tried=count.tried, missed=missed, wrong=count.wrong, tracebacks=count.tracebacks)
        if missed or count.wrong or count.tracebacks:
            for what, value in (("not found", missed), ("read wrong", count.wrong), ("tracebacks", count.tracebacks)):
                yield Row(name=f"{kind}: {what}", value=float(value), unit="times")
    yield Row(name="damaged in all", value=float(total["tried"]), unit="times")
    for what, key in (("not found", "missed"), ("read wrong", "wrong"), ("tracebacks", "tracebacks")):
        yield Row(name=what, value=float(total[key]), unit="times", bar=0.0)
