"""Damage is done, and its discovery is counted; a reader that believes everything falls short."""

from pathlib import Path

import pytest

from vla.bench.data.damage import DAMAGES, bench_damage
from vla.bench.data.doors import DOORS, Door
from vla.bench.settings import DamageConfig
from vla.core.errors import VlaError


def _make(root: Path) -> None:
    root.mkdir()
    (root / "a").write_bytes(bytes(100))
    (root / "b").write_bytes(bytes(range(100)))


def _believe(root: Path) -> object:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def _strict(root: Path) -> object:
    found = _believe(root)
    if found != {"a": bytes(100), "b": bytes(range(100))}:
        raise VlaError("damaged")
    return found


def _fragile(root: Path) -> object:
    if _believe(root) != {"a": bytes(100), "b": bytes(range(100))}:
        raise KeyError("a")
    return _believe(root)


@pytest.mark.parametrize(
    ("read", "missed", "wrong", "tracebacks"), [(_believe, 8, 8, 0), (_strict, 0, 0, 0), (_fragile, 8, 0, 8)]
)
def test_what_is_missed_is_counted(
    monkeypatch: pytest.MonkeyPatch, read: object, missed: int, wrong: int, tracebacks: int
) -> None:
    door = Door(make=_make, read=read, check=lambda root: None, kind=lambda name: "thing")  # type: ignore[arg-type]
    monkeypatch.setattr("vla.bench.data.damage.DOORS", {"x": door})
    rows = {row.name: row for row in bench_damage(DamageConfig(times=2), lambda text: None)}
    assert (rows["not found"].value, rows["read wrong"].value, rows["tracebacks"].value) == (missed, wrong, tracebacks)
    assert rows["damaged in all"].value == 2 * len(DAMAGES)
    assert rows["not found"].passes == (missed == 0)


@pytest.mark.parametrize("name", ["evaluation", "dataset"])
def test_no_damage_is_missed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("vla.bench.data.damage.DOORS", {name: DOORS[name]})
    told: list[str] = []
    rows = bench_damage(DamageConfig(times=1, seed=3), told.append)
    assert [row.name for row in rows if row.passes is False] == [], told
