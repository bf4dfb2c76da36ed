"""Datasets and checkpoints from strangers: refused in one line, soon, within bounds, and nothing outside is touched.

Documents are sealed anew after they were spoiled, as whoever forges one does: no checksum saves the reader here.
"""

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import HOSTILE, HOW, ODD, paths_in, refuse_or_read, spoiled, within_bounds
from vla.core.contract import Contract, read_contract
from vla.core.errors import DatasetError, VlaError
from vla.core.sealed import COMMIT, Entry
from vla.datasets.care.repair import repair
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset
from vla.datasets.frames.codecs import unpack_zstd
from vla.datasets.store.documents import encode

MakeDataset = Callable[..., Dataset]


@pytest.fixture
def root(make_dataset: MakeDataset, tmp_path: Path) -> Path:
    data = make_dataset([[3, 2], [2]])
    fresh = tmp_path / "outside" / "data"
    shutil.copytree(data.url, fresh)
    (tmp_path / "outside" / "canary").write_text("canary")
    (fresh / "link").symlink_to(tmp_path / "outside")
    return fresh


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "outside" / "canary"
    assert (tmp_path / "outside" / "canary").read_text() == "canary"
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["canary", "data"]


def document(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return {key: item for key, item in value.items() if key not in ("checksum", "format_version")}


def use(root: Path) -> None:
    """All that a reader, a check and a repair do, each within a second."""
    with within_bounds(root, 3.0):
        _use(root)


def _use(root: Path) -> None:
    refuse_or_read(
        lambda: [data.read_episode(number) for data in [Dataset.open(root)] for number in range(len(data.episodes))]
    )
    refuse_or_read(lambda: validate(root, "full"))
    refuse_or_read(lambda: repair(root))


@pytest.mark.parametrize("name", ["dataset.json", "manifests/000002.json", f"segments/*/{COMMIT}", "witness/*.json"])
@HOSTILE
@given(data=st.data())
def test_hostile_documents(root: Path, canary: Path, name: str, data: st.DataObject) -> None:
    copy = root.parent / "copy" / "data"
    shutil.copytree(root, copy, symlinks=True)
    try:
        path = sorted(copy.glob(name))[0]
        value = document(path)
        way = data.draw(st.sampled_from(sorted(paths_in(value), key=str)))
        changed = spoiled(value, way, data.draw(ODD), data.draw(HOW))
        path.unlink()
        path.write_bytes(encode(changed) if isinstance(changed, dict) else json.dumps(changed).encode())
        use(copy)
    finally:
        shutil.rmtree(root.parent / "copy")


@HOSTILE
@given(data=st.data())
def test_hostile_contracts(root: Path, data: st.DataObject) -> None:
    value = document(root / "dataset.json")["contract"]
    way = data.draw(st.sampled_from(sorted(paths_in(value), key=str)))
    changed = spoiled(value, way, data.draw(ODD), data.draw(HOW))
    path = root.parent / "contract.json"
    path.write_text(json.dumps(changed))
    try:
        with within_bounds(root):
            refuse_or_read(lambda: read_contract(path).digest())
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "change",
    [
        {"control_hz": float("1e999")},
        {"control_hz": 0},
        {"control_hz": True},
        {"control_hz": "10"},
        {"robot": ""},
        {"robot": 7},
        {"robot": "a\nb"},
        {"cameras": {}},
        {"cameras": [1]},
        {"cameras": [{"name": "c", "height": 10**6, "width": 10**6}]},
        {"cameras": [{"name": "c", "height": 2**14, "width": 2**14}]},
        {"cameras": [{"name": "c", "height": 0, "width": 4}]},
        {"cameras": [{"name": "c", "height": 4.0, "width": 4}]},
        {"cameras": [{"name": "c", "height": 4, "width": 4, "kind": "x"}]},
        {"cameras": [{"name": "c", "height": 4, "width": 4, "hz": -1}]},
        {"cameras": [{"name": "c", "height": 4, "width": 4}] * 2},
        {"state": [{"name": "j", "unit": "rad", "low": 1, "high": -1}]},
        {"state": [{"name": "j", "unit": "rad", "low": -1, "high": 10**400}]},
        {"state": [{"name": "j", "unit": "rad", "low": None, "high": 1}]},
        {"state": [{"name": "j", "unit": 1, "low": 0, "high": 1}]},
        {"state": [{"name": "j", "unit": "rad", "low": 0, "high": 1}] * 2},
        {"state": [{"name": f"j{i}", "unit": "rad", "low": 0, "high": 1} for i in range(5000)]},
        {"gripper": "nowhere"},
        {"signals": {"": []}},
        {"signals": []},
        {"versions": {"a": 1}},
        {"policy": []},
        {"policy": {}},
        {"contract_version": [2]},
    ],
)
def test_hostile_values_of_a_contract(contract: Contract, change: dict[str, Any]) -> None:
    value = json.loads(json.dumps(contract.to_json()))
    with pytest.raises(VlaError) as refused:
        Contract.from_json({**value, **change}, where="here")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("odd", ["way/canary", "way/../canary", "../../../canary", "/etc/hostname", "way"])
def test_repair_writes_nothing_outside(root: Path, canary: Path, odd: str) -> None:
    """A commit record names a file behind a link, with the size of what is there, and one shard is damaged."""
    folder = sorted((root / "segments").iterdir())[0]
    value = document(folder / COMMIT)
    shard = folder / "data.zarr/images/front/000000/c/0/0/0/0"
    damaged = shard.read_bytes()[:-1] + b"?"
    shard.unlink()
    shard.write_bytes(damaged)
    (folder / "way").symlink_to(canary.parent)
    files = {**value["files"], odd: Entry(6, "00000000")._asdict()}
    (folder / COMMIT).unlink()
    (folder / COMMIT).write_bytes(encode({**value, "files": files}))
    use(root)


@pytest.mark.parametrize("name", ["../outside", "/", "..", "a/b", ".tmp-x", "", "link"])
def test_segments_outside_are_not_read(root: Path, canary: Path, name: str) -> None:
    path = root / "manifests" / "000002.json"
    value = document(path)
    path.unlink()
    path.write_bytes(encode({**value, "segments": [name]}))
    with pytest.raises(DatasetError), within_bounds(root):
        Dataset.open(root)


def _link_to(target: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.rename(path.parent / f".{path.name}-moved") if target == "itself" else None
        path.unlink(missing_ok=True)
        path.symlink_to({"itself": f".{path.name}-moved"}.get(target, target))

    return spoil


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_link_to("itself"), _link_to("/dev/zero"), _link_to("none"), _folder, _pipe])
@pytest.mark.parametrize("name", ["dataset.json", "manifests/000002.json", f"segments/*/{COMMIT}", "segments/*/*.json"])
def test_what_is_no_file(root: Path, canary: Path, name: str, spoil: Callable[[Path], None]) -> None:
    spoil(sorted(root.glob(name))[-1])
    with pytest.raises(DatasetError), within_bounds(root):
        Dataset.open(root)
    use(root)


@pytest.mark.parametrize("folder", ["segments", "manifests", "witness", "quarantine"])
def test_folders_behind_links_are_not_written(root: Path, canary: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    if (root / folder).exists():
        (root / folder).rename(tmp_path / "elsewhere" / folder)
    else:
        (tmp_path / "elsewhere" / folder).mkdir()
    (root / folder).symlink_to(tmp_path / "elsewhere" / folder)
    before = sorted(tmp_path.joinpath("elsewhere").rglob("*"))
    (root / "manifests" / "000001.json").write_bytes(b"?")
    use(root)
    assert sorted(tmp_path.joinpath("elsewhere").rglob("*")) == before


def test_a_bomb_costs_nothing() -> None:
    """Three gigabytes in a few hundred kilobytes, announced or not."""
    bomb = bytes(numcodecs.Zstd(level=1).encode(np.zeros(2**28, np.uint8)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with pytest.raises(ValueError, match="expected"):
        unpack_zstd(bomb, np.empty(100, np.uint8))
    assert time.perf_counter() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
