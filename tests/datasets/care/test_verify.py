"""Every flipped bit of a sealed segment is found, and what it is in is never read as if nothing had happened."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.care.validate import validate
from vla.datasets.care.verify import (
    Damage,
    intact_episodes,
    stray_files,
    verify_segment,
    verify_without_record,
)
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.frames.shard_writer import owner_of
from vla.datasets.storage.storage import LocalStorage
from vla.datasets.store.layout import read_commit
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import StagedSegment

MakeDataset = Callable[..., Dataset]
MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]


def segment_of(dataset: Dataset) -> Path:
    return Path(dataset.url) / "segments" / dataset.manifest.segments[0]


def flip(path: Path, position: int, bit: int) -> None:
    """Flip one bit in place."""
    with path.open("r+b") as file:
        file.seek(position)
        (old,) = file.read(1)
        file.seek(position)
        file.write(bytes([old ^ 1 << bit]))


def files_of(segment: Path) -> dict[str, int]:
    return {p.relative_to(segment).as_posix(): p.stat().st_size for p in segment.rglob("*") if p.is_file()}


@pytest.fixture
def tiny(tmp_path: Path, make_rich_episode: MakeEpisode) -> Dataset:
    """Every kind of file, and few bytes."""
    line = (Dimension(name="x", unit="m", low=-9.0, high=9.0),)
    cameras = (Camera(name="eye", height=2, width=3), Camera(name="far", height=2, width=2, kind="depth", hz=9.0))
    small = Contract(robot="arm", cameras=cameras, state=line, action=line, control_hz=20.0)
    rich = make_rich_episode(2)
    column = rich.action[:, :1]
    episode = replace(
        rich,
        images={"eye": rich.images["front"][:, :2, :3], "far": rich.images["slow-depth"][:, :2, :2]},
        image_time_ns={"far": rich.image_time_ns["slow-depth"]},
        state=column,
        action=column,
        action_executed=column,
    )
    create_dataset(tmp_path / "tiny", small)
    with SegmentWriter(tmp_path / "tiny", small, {}) as writer:
        writer.append(episode)
        publish(tmp_path / "tiny", [writer.seal()], "test")
    return Dataset.open(tmp_path / "tiny")


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_flipped_bit_in_every_byte_is_found(tiny: Dataset, stride: int) -> None:
    """One random bit of each byte: of all files at once, since each is judged alone; the commit record on its own.

    Every fifth byte, which meets every file; with ``-m long`` each.
    `validate` is the slow way to the same answer, asked now and then.
    """
    rng, segment, (name,) = random.Random(0), segment_of(tiny), tiny.manifest.segments
    storage, sizes = LocalStorage(Path(tiny.url)), files_of(segment)
    record = sizes.pop(COMMIT)
    assert len(sizes) > 25
    for position in range(0, max(sizes.values()), stride):
        flips = [(segment / name, position, rng.randrange(8)) for name, size in sizes.items() if size > position]
        for one in flips:
            flip(*one)
        expected = {path.relative_to(segment).as_posix() for path, _, _ in flips}
        assert {damage.name for damage in verify_segment(storage, name)[1]} == expected, position
        if position % (64 * stride) == 0:
            found = validate(tiny.url, "full")
            assert {finding.what.split()[0] for finding in found if finding.severity == "error"} == expected
        for one in flips:
            flip(*one)
    for position in range(0, record, stride):
        bit = rng.randrange(8)
        flip(segment / COMMIT, position, bit)
        with pytest.raises(DatasetError, match=COMMIT):
            read_commit(storage, name)
        if position % (64 * stride) == 0:
            (finding,) = validate(tiny.url, "full")
            assert (finding.severity, COMMIT in finding.what) == ("error", True)
        flip(segment / COMMIT, position, bit)
    assert validate(tiny.url, "full") == []


@pytest.mark.parametrize("codec", ["raw", "zstd", "jpeg"])
def test_a_flipped_bit_in_any_byte_of_a_shard_never_gives_a_wrong_frame(
    tmp_path: Path, contract: Contract, make_episode: MakeEpisode, codec: str
) -> None:
    small = replace(contract, cameras=(Camera(name="eye", height=4, width=5),))
    smooth = np.broadcast_to(np.arange(5, dtype=np.uint8)[:, None] * 30, (2, 4, 5, 3)) + np.uint8(1)
    create_dataset(tmp_path, small, {"eye": codec})
    with SegmentWriter(tmp_path, small, {}) as writer:
        writer.append(make_episode(2, images={"eye": smooth}))
        publish(tmp_path, [writer.seal()], "test")
    dataset = Dataset.open(tmp_path)
    truth, array = dataset.read_episode(0).images["eye"], "data.zarr/images/eye/000000"
    shard = segment_of(dataset) / array / "c/0/0/0/0"
    size, rng, caught, frame = shard.stat().st_size, random.Random(1), 0, np.empty((4, 5, 3), np.uint8)
    for position in range(size):
        bit = rng.randrange(8)
        flip(shard, position, bit)
        owner = owner_of(dataset.episodes[0].content_hash, "eye")
        reader, refused = ShardReader(LocalStorage(segment_of(dataset)), array, small.cameras[0], owner), []
        for step in range(2):
            try:
                reader.read_into(step, frame)
            except DatasetError as error:
                refused.append(str(error))
            else:
                np.testing.assert_array_equal(frame, truth[step])
        assert all("c/0/0/0/0" in message for message in refused)
        assert len(refused) in ((2,) if position >= size - 52 else (0, 1))  # owner and index are everybody's
        caught += bool(refused)
        flip(shard, position, bit)
    # zstd has a bit in each frame's header that means nothing; the other codecs are under a crc32c.
    assert caught == size if codec != "zstd" else caught >= size - 2
    flip(shard, 0, 0)
    with pytest.raises(DatasetError, match=array):
        Dataset.open(dataset.url).read_episode(0)


def test_a_flipped_bit_elsewhere_is_refused_or_harmless(tiny: Dataset, assert_same: Same) -> None:
    """Chunks of arrays densely, and metadata in some places."""
    dataset, rng = tiny, random.Random(2)
    truth, segment = dataset.read_episode(0), segment_of(dataset)
    tried = refused = 0
    for name, size in files_of(segment).items():
        packed = name.startswith("data.zarr/images/") and "/c/" in name
        if packed or name in (COMMIT, "dataset.json"):
            continue
        chunk = "/c/" in name
        # Chunks and documents that are compared with the commit record may not be read at all.
        strict = name.startswith("models/") or name == "episodes.json" or chunk
        for position in range(0, size, 3 if chunk else 67):
            bit = rng.randrange(8)
            flip(segment / name, position, bit)
            try:
                found = Dataset.open(dataset.url).read_episode(0)
            except DatasetError:
                refused += 1
            else:
                assert not strict, (name, position, bit)
                assert_same(found, truth)
            tried += 1
            flip(segment / name, position, bit)
    assert tried > refused > 100


def test_what_a_damaged_file_concerns() -> None:
    def concerned(name: str) -> list[int]:
        return [n for n, model in enumerate(["", "aa", "ab"]) if Damage(name=name, what="x").concerns(n, model)]

    assert concerned("data.zarr/images/front/000001/c/0/0/0/0") == [1]
    assert concerned("data.zarr/images/front/000001/zarr.json") == [1]
    assert concerned("data.zarr/images/000001/000002/zarr.json") == [2]  # a camera with such a name
    assert concerned("data.zarr/sim_state/000002/zarr.json") == [2]
    assert concerned("models/aa.xml") == [1]
    for name in ("data.zarr/zarr.json", "data.zarr/images/zarr.json", "data.zarr/images/front/zarr.json"):
        assert concerned(name) == []
    assert concerned("dataset.json") == []
    for name in ("episodes.json", "data.zarr/action/c/0/0", "data.zarr/image_time_ns/fast/zarr.json", "unknown"):
        assert concerned(name) == [0, 1, 2]


def test_missing_short_and_strange_files(make_rich_dataset: MakeDataset) -> None:
    dataset = make_rich_dataset([[2, 3, 2]])
    storage, (name,), segment = LocalStorage(Path(dataset.url)), dataset.manifest.segments, segment_of(dataset)
    seen: list[int] = []
    commit, damage = verify_segment(storage, name, seen.append)
    assert damage == []
    assert sum(seen) == sum(entry.bytes for entry in commit.files.values())
    (segment / "data.zarr/images/front/000001/zarr.json").unlink()
    shard = segment / "data.zarr/sim_state/000002/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    (segment / "note").write_text("hello")
    commit, damage = verify_segment(storage, name)
    size = commit.files["data.zarr/sim_state/000002/c/0/0"].bytes
    assert {(one.name, one.what) for one in damage} == {
        ("data.zarr/images/front/000001/zarr.json", "is missing"),
        ("data.zarr/sim_state/000002/c/0/0", f"has {size - 1} bytes, expected {size}"),
    }
    assert intact_episodes(dataset.episodes, damage) == [0]
    assert stray_files(storage, name, commit) == ["note"]


def test_a_file_of_several_parts(tmp_path: Path, contract: Contract) -> None:
    create_dataset(tmp_path, contract)
    storage = LocalStorage(tmp_path)
    staged = StagedSegment.begin(storage)
    (staged.folder / "big").write_bytes(bytes(2**24) + b"the end")
    staged.commit(steps=0, episodes=0)
    staged.install()
    staged.release()
    big = tmp_path / "segments" / staged.id / "big"
    assert verify_segment(storage, staged.id)[1] == []
    for position in (5, 2**24 + 3):
        flip(big, position, 1)
        assert verify_segment(storage, staged.id)[1] == [Damage(name="big", what="fails its checksum")]
        flip(big, position, 1)
    for size in (2**24 + 6, 2**24, 9, 0):
        os.truncate(big, size)
        what = f"has {size} bytes, expected {2**24 + 7}"
        assert verify_segment(storage, staged.id)[1] == [Damage(name="big", what=what)]


def test_a_damaged_model_concerns_the_episodes_that_have_it(make_rich_dataset: MakeDataset) -> None:
    dataset = make_rich_dataset([[2, 2, 2]])  # models by the parity of the seed
    odd = segment_of(dataset) / f"models/{dataset.episodes[1].model}.xml"
    flip(odd, 3, 0)
    storage = LocalStorage(Path(dataset.url))
    _, damage = verify_segment(storage, dataset.manifest.segments[0])
    assert [one.name for one in damage] == [f"models/{odd.name}"]
    assert intact_episodes(dataset.episodes, damage) == [0, 2]
    with pytest.raises(DatasetError, match=r"models/.*fails its checksum"):
        Dataset.open(dataset.url).read_episode(1)


def test_a_damaged_commit_record_still_vouches_for_most(make_dataset: MakeDataset) -> None:
    """Bytes all over it: at most one entry is lost, and whatever a record vouches for is right."""
    dataset, rng = make_dataset([[1, 2]]), random.Random(3)
    storage, (name,), segment = LocalStorage(Path(dataset.url)), dataset.manifest.segments, segment_of(dataset)
    truth = read_commit(storage, name)
    lost = 0
    for position in range(0, (segment / COMMIT).stat().st_size, 8):
        bit = rng.randrange(8)
        flip(segment / COMMIT, position, bit)
        with pytest.raises(DatasetError):
            verify_segment(storage, name)
        commit, damage = verify_without_record(storage, name)
        assert (commit.steps, commit.episodes) == (3, 2)
        wrong = {one.name for one in damage} & set(truth.files)
        assert len(wrong) <= 1
        lost += bool(wrong)
        for file, entry in commit.files.items():
            assert file in wrong or truth.files.get(file) == entry or any(one.name == file for one in damage)
        flip(segment / COMMIT, position, bit)
    assert lost > 5  # it is not that nothing was damaged
    flip(segment / COMMIT, 30, 0)
    flip(segment / "data.zarr/images/front/000001/c/0/0/0/0", 30, 0)
    _, damage = verify_without_record(storage, name)
    assert intact_episodes(dataset.episodes, damage) == [0]
    (segment / COMMIT).unlink()
    with pytest.raises(DatasetError, match="nothing can be trusted"):
        verify_without_record(storage, name)


def test_shards_that_change_places_are_found(tmp_path: Path, contract: Contract, make_episode: MakeEpisode) -> None:
    """Each is whole, and of the same size: raw frames tell nothing of their episode."""
    create_dataset(tmp_path, contract, {"front": "raw", "wrist": "raw"})
    with SegmentWriter(tmp_path, contract, {}) as writer:
        for seed in (1, 2):
            writer.append(make_episode(2, seed=seed))
        publish(tmp_path, [writer.seal()], "test")
    folder = segment_of(Dataset.open(tmp_path)) / "data.zarr/images/front"
    (folder / "000000").rename(folder / "x")
    (folder / "000001").rename(folder / "000000")
    (folder / "x").rename(folder / "000001")
    for number in range(2):
        with pytest.raises(DatasetError, match="of another episode"):
            Dataset.open(tmp_path).read_episode(number)
