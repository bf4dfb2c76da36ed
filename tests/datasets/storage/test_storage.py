"""The same promises from a folder and from a real S3 server, and a whole dataset on each."""

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec

from vla.core.contract import Camera, Contract
from vla.core.errors import DatasetError
from vla.core.sealed import COMMIT
from vla.core.types import Episode
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.frames.shard_reader import ShardReader
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.storage.object_storage import ObjectStorage
from vla.datasets.storage.storage import LocalStorage, Storage, open_storage
from vla.datasets.store.layout import read_commit, sealed_segments, segment_name
from vla.datasets.store.manifest import publish, read_manifest
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.staging import unfinished

MakeEpisode = Callable[..., Episode]
Same = Callable[[Episode, Episode], None]
BUCKET = "robot-data"
"""As tests/datasets/conftest.py makes it."""


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(tmp_path / "données du robot")
    request.getfixturevalue("bucket")
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}/données du robot/")


@pytest.fixture
def s3(bucket: Any, tmp_path: Path) -> ObjectStorage:
    return ObjectStorage(f"s3://{BUCKET}/{tmp_path.name}")


def fill(storage: Storage, name: str, files: dict[str, bytes]) -> None:
    """Install a folder."""
    folder = storage.staging / ".new"
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    storage.install(folder, name)


def test_locations(tmp_path: Path, s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_storage(tmp_path), LocalStorage)
    monkeypatch.chdir(tmp_path)
    for location in (tmp_path / "a b", "a b", f"{tmp_path}/a b", f"file://{tmp_path}/a b", Path("a b")):
        assert open_storage(location).url == str(tmp_path / "a b")
    assert open_storage(s3) is s3
    assert open_storage(f"{s3.url}/").url == s3.url
    with pytest.raises(DatasetError, match=r"ftp://x/y: cannot be opened .*; check the URL"):
        open_storage("ftp://x/y")


def test_put_if_absent_never_replaces(storage: Storage) -> None:
    assert storage.put_if_absent("folder/x.json", b"first")
    assert not storage.put_if_absent("folder/x.json", b"second")
    assert storage.read("folder/x.json") == b"first"
    assert storage.children("folder") == ["x.json"]  # and nothing temporary
    assert storage.put_if_absent("empty", b"")
    assert storage.read("empty") == b""


def test_reading_parts(storage: Storage) -> None:
    data = bytes(range(100))
    storage.put_if_absent("x", data)
    for start in (0, 1, 50, 99, 100, 101, 1000):
        for size in (None, 0, 1, 50, 100, 1000):
            assert storage.read("x", start, size) == data[start:][:size]
    for start in (-1, -50, -100, -1000):
        for size in (None, 1, 50, 1000):
            assert storage.read("x", start, size) == data[start:][:size]
    a, b = np.full((2, 3), 255, np.uint16), bytearray(20)
    assert storage.read_into("x", 7, a, b) == 32
    assert a.tobytes() + b == data[7:39]
    c = bytearray(b"-" * 20)
    assert storage.read_into("x", 90, c) == 10
    assert c == data[90:] + b"-" * 10
    assert storage.read_into("x", 100, c) == 0
    for name in ("y", "folder/y"):
        with pytest.raises(FileNotFoundError):
            storage.read(name)
        for start in (0, 3, -3):
            with pytest.raises(FileNotFoundError):
                storage.read(name, start, 2)
        with pytest.raises(FileNotFoundError):
            storage.read_into(name, 0, c)


@pytest.mark.long
def test_a_file_of_more_than_one_read(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.seek(2**31 + 10)
        file.write(b"end")
    data = LocalStorage(tmp_path).read("x")
    assert len(data) == 2**31 + 13
    assert data.endswith(b"\0end")


def test_folders(storage: Storage) -> None:
    assert storage.children("") == []
    assert storage.children("a") == []
    assert storage.sizes("a") == {}
    files = {"x y": b"1", "deep/größe": b"22", "deep/er/z": b"333", COMMIT: b"4444"}
    fill(storage, "a/one", files)
    fill(storage, "a/two", {"x": b"5"})
    storage.put_if_absent("a/three", b"6")
    assert storage.children("") in (["a"], ["a", "segments"])  # the local staging folder is in the dataset
    assert storage.children("a") == ["one", "three", "two"]
    assert storage.sizes("a/one") == {name: len(data) for name, data in files.items()}
    storage.move("a/one", "aside/once")
    assert storage.children("a") == ["three", "two"]
    assert storage.sizes("a/one") == {}
    assert storage.sizes("aside/once") == {name: len(data) for name, data in files.items()}
    assert storage.read("aside/once/deep/größe") == b"22"
    storage.move("a/three", "aside/3")
    assert (storage.read("aside/3"), storage.children("a")) == (b"6", ["two"])
    assert list(storage.staging.iterdir()) == []


def test_only_one_of_many_creates_a_file(storage: Storage) -> None:
    def put(name: str, thread: int) -> bool:
        barrier.wait()
        return open_storage(storage.url).put_if_absent(name, b"%d" % thread * 1000)

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(10):
            created = list(pool.map(put, [f"race/{attempt}"] * 8, range(8)))
            assert sum(created) == 1
            assert storage.read(f"race/{attempt}") == b"%d" % created.index(True) * 1000


def test_a_pickled_storage_is_the_same_place(storage: Storage) -> None:
    storage.put_if_absent("x", b"1")
    copy = pickle.loads(pickle.dumps(storage))
    assert (type(copy), copy.url, copy.staging, copy.read("x")) == (type(storage), storage.url, storage.staging, b"1")


def test_a_whole_dataset(
    storage: Storage, rich_contract: Contract, make_rich_episode: MakeEpisode, assert_same: Same
) -> None:
    codecs = {"front": "zstd", "depth": "raw"}
    create_dataset(storage.url, rich_contract, codecs)
    create_dataset(storage.url, rich_contract)
    episodes = [make_rich_episode(steps, seed) for seed, steps in enumerate([3, 1, 4])]
    for share in (episodes[:2], episodes[2:]):
        with SegmentWriter(storage.url, rich_contract, {"git": "abc"}) as writer:
            for episode in share:
                writer.append(episode)
            publish(storage.url, [writer.seal()], "test")
    assert unfinished(storage) == []
    data = Dataset.open(storage.url)
    assert (data.url, data.manifest.number, data.codecs["depth"]) == (storage.url, 2, "raw")
    for copy in (data, pickle.loads(pickle.dumps(data))):
        for number, episode in enumerate(episodes):
            assert_same(copy.read_episode(number), episode)
    out = np.empty((3, 5, 7, 1), np.uint16)
    data.read_frames("depth", np.array([7, 0, 3]), out)
    expected = np.concatenate([episode.images["depth"] for episode in episodes])
    np.testing.assert_array_equal(out, expected[[7, 0, 3]])
    assert len(Dataset.open(storage.url, manifest=1)) == 4

    with SegmentWriter(storage, rich_contract, {}, replaces=data.manifest.segments[:1]) as writer:
        for number in range(2):
            writer.copy(data.episodes[number], data.read_rows(number), data.image_files(number))
        segment = writer.seal()
    assert read_commit(storage, segment).replaces == data.manifest.segments[:1]
    publish(storage, [segment], "copied")
    copied = Dataset.open(storage)
    for number in range(2):
        assert_same(copied.read_episode(3 + number), episodes[number])
        assert copied.episodes[3 + number].uid == data.episodes[number].uid


def test_a_recording(storage: Storage, contract: Contract, make_episode: MakeEpisode, assert_same: Same) -> None:
    create_dataset(storage, contract)
    episode = make_episode(6)
    about: dict[str, Any] = {"instruction": episode.instruction, "instruction_alternatives": ("do it",), "task": "put"}
    with EpisodeWriter(storage.url, contract, {}, **about) as writer:
        for i in range(6):
            rows = ("state", "action", "action_executed")
            scalars = ("reward", "done", "valid", "time_ns", "command_time_ns")
            writer.add(
                images={camera: frames[i] for camera, frames in episode.images.items()},
                signals={name: values[i] for name, values in episode.signals.items()},
                **{name: getattr(episode, name)[i] for name in rows},
                **{name: getattr(episode, name)[i].item() for name in scalars},
            )
        assert sealed_segments(storage) == []
        uid = writer.finish(True)
    data = Dataset.open(storage.url)
    assert data.episodes[0].uid == uid
    assert_same(data.read_episode(0), episode)
    assert unfinished(storage) == []


@pytest.fixture
def published(s3: ObjectStorage, contract: Contract, make_episode: MakeEpisode) -> ObjectStorage:
    create_dataset(s3, contract)
    with SegmentWriter(s3, contract, {}) as writer:
        writer.append(make_episode(3))
        publish(s3, [writer.seal()], "test")
    return s3


def test_without_its_commit_record_a_segment_does_not_exist(published: ObjectStorage, bucket: Any) -> None:
    (segment,) = sealed_segments(published)
    prefix = f"{published.url.removeprefix(f's3://{BUCKET}/')}/segments"
    for name in published.sizes(segment_name(segment)):
        if name != COMMIT:
            source = {"Bucket": BUCKET, "Key": f"{prefix}/{segment}/{name}"}
            bucket.copy(source, f"{prefix}/half/{name}")
    assert published.children("segments") == [segment, "half"]
    assert sealed_segments(published) == [segment]
    with pytest.raises(DatasetError, match="Segment half was never sealed"):
        publish(published, ["half"], "no")
    bucket.copy({"Bucket": BUCKET, "Key": f"{prefix}/{segment}/{COMMIT}"}, f"{prefix}/half/{COMMIT}")
    assert sealed_segments(published) == [segment, "half"]


def test_a_commit_record_is_uploaded_last(s3: ObjectStorage, contract: Contract, make_episode: MakeEpisode) -> None:
    create_dataset(s3, contract)
    stop = threading.Event()

    def watch() -> int:
        partial = 0
        while not stop.is_set():
            for segment in s3.children("segments"):
                if COMMIT in s3.sizes(segment_name(segment)):
                    read_commit(s3, segment)  # raises if a file is missing
                else:
                    partial += 1
        return partial

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            for seed in range(4):
                with SegmentWriter(s3, contract, {}) as writer:
                    writer.append(make_episode(2, seed))
                    writer.seal()
        finally:
            stop.set()
        assert watcher.result() > 0
    assert len(sealed_segments(s3)) == 4


def test_concurrent_publishers_lose_nothing(s3: ObjectStorage, contract: Contract, make_episode: MakeEpisode) -> None:
    create_dataset(s3, contract)
    segments = []
    for seed in range(6):
        with SegmentWriter(s3, contract, {}) as writer:
            writer.append(make_episode(1, seed))
            segments.append(writer.seal())
    with ThreadPoolExecutor(6) as pool:
        numbers = list(pool.map(lambda segment: publish(s3.url, [segment], "race"), segments))
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert sorted(read_manifest(s3).segments) == sorted(segments)


@pytest.mark.parametrize("name", ["images/front/000000/c/0/0/0/0", "images/wrist/000000/zarr.json", "action/c/0/0"])
def test_damaged_objects_are_named(published: ObjectStorage, bucket: Any, name: str) -> None:
    (segment,) = sealed_segments(published)
    full = f"{segment_name(segment)}/data.zarr/{name}"
    thing = bucket.Object(f"{published.url.removeprefix(f's3://{BUCKET}/')}/{full}")
    data = published.read(full)
    thing.put(Body=data[:-1])
    with pytest.raises(DatasetError, match=f"{name}: expected {len(data)} bytes, got {len(data) - 1}"):
        Dataset.open(published)
    thing.put(Body=bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DatasetError, match=name):
        Dataset.open(published).read_episode(0)
    thing.put(Body=data)
    opened = Dataset.open(published)
    for body in (data[:-30], b""):  # after it was opened
        thing.put(Body=body)
        with pytest.raises(DatasetError, match=name.split("/c/")[0]):
            opened.read_episode(0)
    thing.delete()
    with pytest.raises(DatasetError, match=f"{name} is missing"):
        Dataset.open(published)
    with pytest.raises(DatasetError, match=name.split("/c/")[0]):
        opened.read_episode(0)


def test_staging_of_an_object_store_is_local(s3: ObjectStorage, tmp_path: Path) -> None:
    assert s3.staging.is_relative_to(tmp_path / "cache")
    assert s3.staging != ObjectStorage(f"{s3.url}/other").staging
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "cache")


def test_jpeg_from_an_object_store(s3: ObjectStorage, contract: Contract, make_episode: MakeEpisode) -> None:
    create_dataset(s3, contract, {"front": "jpeg"})
    episode = make_episode(2, images=dict.fromkeys(("front", "wrist"), np.full((2, 6, 8, 3), 77, np.uint8)))
    with SegmentWriter(s3, contract, {}) as writer:
        writer.append(episode)
        publish(s3, [writer.seal()], "test")
    np.testing.assert_allclose(Dataset.open(s3).frame("front", 1), 77, atol=1)


def test_a_codec_that_is_not_known_here_from_an_object_store(s3: ObjectStorage, tmp_path: Path) -> None:
    camera = Camera(name="front", height=6, width=8)
    images = np.random.default_rng(0).integers(0, 256, (5, *camera.shape), np.uint8)
    options: dict[str, Any] = {"chunks": (1, *camera.shape), "shards": (5, *camera.shape), "compressors": GzipCodec()}
    zarr.create_array(tmp_path / "x" / "front", data=images, **options)
    s3.install(tmp_path / "x", "arrays")
    reader = pickle.loads(pickle.dumps(ShardReader(s3, "arrays/front", camera)))
    out = np.empty(camera.shape, np.uint8)
    for number in (4, 0):
        reader.read_into(number, out)
        np.testing.assert_array_equal(out, images[number])


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ENDPOINT", "http://127.0.0.1:1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        DatasetError, match=r"^s3://lab/place: the store did not do .*check the URL, the network"
    ) as caught:
        open_storage("s3://lab/place").read("dataset.json")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_bucket_that_is_not_there(bucket: Any) -> None:
    with pytest.raises((DatasetError, FileNotFoundError)):
        open_storage("s3://no-such-bucket/place").read("dataset.json")
