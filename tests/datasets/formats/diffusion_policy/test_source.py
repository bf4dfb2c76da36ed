"""Replay buffers of diffusion_policy and UMI: Zarr version 2 in folders and zip files."""

import json
import multiprocessing
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc
from zarr.storage import LocalStore

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.checker import check_dataset
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.diffusion_policy.export import export_diffusion_policy
from vla.datasets.formats.diffusion_policy.source import open_diffusion_policy, recognise
from vla.datasets.formats.dimensions import dimensions_of, keys_of
from vla.datasets.formats.source import Hints, Source
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

LENGTHS = (4, 1, 7)
LZ4 = Blosc(cname="lz4", clevel=5, shuffle=Blosc.NOSHUFFLE)
ZSTD = Blosc(cname="zstd", clevel=5, shuffle=Blosc.BITSHUFFLE)


def pusht(extra: int = 0) -> dict[str, np.ndarray]:
    """The keys of diffusion_policy's Push-T file; pictures are floats there."""
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS) + extra
    return {
        "img": rng.integers(0, 256, (rows, 6, 8, 3)).astype(np.float32),
        "state": rng.uniform(0, 512, (rows, 5)).astype(np.float32),
        "action": rng.uniform(0, 512, (rows, 2)).astype(np.float32),
        "keypoint": rng.random((rows, 9, 2), np.float32),
        "n_contacts": rng.integers(0, 3, (rows, 1)).astype(np.float32),
    }


def write(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    lengths: tuple[int, ...] = LENGTHS,
    compressor: Any = LZ4,
    pictures: Any = None,
    chunk: int = 5,
) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=2)
    data, meta = root.create_group("data"), root.create_group("meta")
    for key, array in arrays.items():
        picture = pictures is not None and array.ndim == 4
        data.create_array(
            key,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(1 if picture else min(chunk, len(array)), *array.shape[1:]),
            compressors=pictures if picture else compressor,
            config={"write_empty_chunks": True},
        )[...] = array
    ends = np.cumsum(lengths, dtype=np.int64)
    meta.create_array("episode_ends", shape=ends.shape, dtype=ends.dtype, chunks=(8,), compressors=None)[...] = ends
    return path


def zipped(path: Path) -> Path:
    target = path.with_name(path.name + ".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for item in sorted(path.rglob("*")):
            if item.is_file():
                file.write(item, item.relative_to(path).as_posix())
    return target


def store(source: Source, root: Path, **changes: Any) -> Dataset:
    create_dataset(root, source.contract)
    with SegmentWriter(root, source.contract, {}) as writer:
        for number in range(len(source)):
            writer.append(replace(source.read(number), **changes))
        publish(root, [writer.seal()], "import")
    return Dataset.open(root)


@pytest.mark.parametrize("compressor", [LZ4, ZSTD, None], ids=["lz4", "zstd", "raw"])
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_pusht_is_read(tmp_path: Path, compressor: Any, archive: bool) -> None:
    arrays = pusht()
    path = write(tmp_path / "pusht ü_replay.zarr", arrays, compressor=compressor)
    path = zipped(path) if archive else path
    assert recognise(path)
    source = open_diffusion_policy(path, Hints(robot="pusher", control_hz=10.0, instruction="schiebe das T"))
    assert len(source) == 3
    assert source.contract.cameras == (Camera(name="img", height=6, width=8),)
    assert [d.name for d in source.contract.state] == [*(f"state.{i}" for i in range(5)), "n_contacts.0"]
    assert {(d.low, d.high) for d in source.contract.action} == {(-1.0, 500.0)}
    begin = 0
    for number, length in enumerate(LENGTHS):
        rows = slice(begin, begin + length)
        episode = source.read(number)
        check_episode(episode, source.contract)
        np.testing.assert_array_equal(episode.images["img"], arrays["img"][rows])
        np.testing.assert_array_equal(episode.action, arrays["action"][rows])
        np.testing.assert_array_equal(episode.state[:, :5], arrays["state"][rows])
        np.testing.assert_array_equal(episode.state[:, 5:], arrays["n_contacts"][rows])
        assert episode.time_ns.tolist() == [step * 100_000_000 for step in range(length)]
        assert episode.done.tolist() == [False] * (length - 1) + [True]
        assert (episode.success, episode.instruction) == (None, "schiebe das T")
        begin += length
    assert any("keypoint (12, 9, 2)" in note for note in source.notes)
    assert any("img is float32" in note for note in source.notes)
    assert not any("10 Hz" in note or "language" in note or "robot" in note for note in source.notes)
    stated = " ".join(open_diffusion_policy(path, Hints()).notes)
    assert "10 Hz is assumed" in stated
    assert "'pusht ü replay'" in stated
    assert "called unknown" in stated


def test_rows_after_the_last_episode_are_left_out(tmp_path: Path) -> None:
    """A process that died while it added an episode leaves arrays longer than the ends say."""
    source = open_diffusion_policy(write(tmp_path / "x.zarr", pusht(extra=3)), Hints())
    assert sum(len(source.read(number)) for number in range(len(source))) == 12
    assert sum("3 rows after the last episode" in note for note in source.notes) == 5


def umi(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    widths = {"eef_pos": 3, "eef_rot_axis_angle": 3, "gripper_width": 1}
    arrays: dict[str, np.ndarray] = {}
    for robot in ("robot0", "robot1"):
        arrays |= {f"{robot}_{key}": rng.uniform(0, 0.1, (rows, w)).astype(np.float32) for key, w in widths.items()}
        arrays |= {f"{robot}_demo_{end}_pose": rng.random((rows, 6)) for end in ("start", "end")}
    gradient = np.add.outer(np.arange(16), np.arange(20))[None, :, :, None] + np.arange(rows)[:, None, None, None]
    return {**arrays, "camera0_rgb": np.broadcast_to(gradient, (rows, 16, 20, 3)).astype(np.uint8)}


@pytest.mark.parametrize("lossless", [True, False])
def test_umi_with_jpeg_xl(tmp_path: Path, lossless: bool) -> None:
    from imagecodecs.numcodecs import Jpegxl, register_codecs

    register_codecs(verbose=False)
    codec = Jpegxl(lossless=lossless, level=99 if not lossless else None, numthreads=1)
    arrays = umi(12)
    path = write(tmp_path / "dataset.zarr", arrays, pictures=codec)
    if not lossless:  # as UMI's own, older class writes it
        description = json.loads((path / "data/camera0_rgb/.zarray").read_text())
        description["compressor"] = {"id": "imagecodecs_jpegxl", "effort": 3, "level": 99, "lossless": False}
        (path / "data/camera0_rgb/.zarray").write_text(json.dumps(description))
    source = open_diffusion_policy(zipped(path), Hints(instruction="fold the cloth", control_hz=60.0))
    ends = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
    assert list(keys_of(source.contract.action) or ()) == [f"robot{n}_{end}" for n in (0, 1) for end in ends]
    assert {d.name.rsplit(".", 1)[0]: d.unit for d in source.contract.action} == {
        f"robot{n}_{end}": unit for n in (0, 1) for end, unit in zip(ends, ("m", "rad", "m"), strict=True)
    }
    assert not any("demo" in d.name for d in source.contract.state)
    assert any("UMI" in note for note in source.notes)
    assert any("demo_end_pose" in note for note in source.notes)
    episode = source.read(2)
    check_episode(episode, source.contract)
    difference = np.abs(episode.images["camera0_rgb"].astype(int) - arrays["camera0_rgb"][5:])
    assert difference.max() <= (0 if lossless else 4)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    original = LocalStore.get

    async def get(self: LocalStore, key: str, *rest: Any, **more: Any) -> Any:
        seen.append(key)
        return await original(self, key, *rest, **more)

    monkeypatch.setattr(LocalStore, "get", get)
    return seen


def test_only_the_frames_of_the_episode_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.zarr", {**pusht(), "img": pusht()["img"].astype(np.uint8)}, pictures=LZ4)
    seen = count_reads(monkeypatch)
    source = open_diffusion_policy(path, Hints())
    assert not [
        key for key in seen if key.startswith("data/img/") and not key.endswith((".zarray", ".zattrs", ".zgroup"))
    ]
    seen.clear()
    source.read(1)
    assert [key for key in seen if key.startswith("data/img/") and key[-1].isdigit()] == ["data/img/4.0.0.0"]


def episode_of(source: Source) -> bytes:
    return source.read(2).images["img"].tobytes()


def test_source_crosses_processes(tmp_path: Path) -> None:
    source = open_diffusion_policy(zipped(write(tmp_path / "x.zarr", pusht())), Hints())
    assert len(pickle.dumps(source)) < 20_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(episode_of, (source,)) == episode_of(source)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action": None}, "expected data/action"),
        ({"state": np.zeros((9, 5), np.float32)}, "data/state, rows 5 to 12: expected at least the 12 rows .* got 9"),
        ({"img": pusht()["img"] / 255}, "img, row 0: expected pixels 0 to 255 without fractions"),
        ({"action": np.full((12, 2), np.nan, np.float32)}, "action, rows 5 to 12: expected finite numbers, got nan"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    arrays = {key: array for key, array in {**pusht(), **change}.items() if array is not None}
    path = write(tmp_path / "bad.zarr", arrays)
    with pytest.raises(DatasetError, match=said) as caught:
        open_diffusion_policy(path, Hints()).read(2)
    assert "bad.zarr" in str(caught.value) or "data/img" in str(caught.value)


def test_a_fraction_in_a_later_frame_is_refused(tmp_path: Path) -> None:
    arrays = pusht()
    arrays["img"][9, 2, 3, 1] = 7.5
    source = open_diffusion_policy(write(tmp_path / "x.zarr", arrays), Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"data/img, rows 5 to 12: .* got 7\.5"):
        source.read(2)


@pytest.mark.parametrize(
    ("lengths", "said"),
    [((4, -2, 5), "rising numbers, got 2 for episode 1"), ((), "at least one")],
)
def test_ends_that_do_not_rise(tmp_path: Path, lengths: tuple[int, ...], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        open_diffusion_policy(write(tmp_path / "x.zarr", pusht(), lengths), Hints())


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_diffusion_policy(tmp_path / "none.zarr", Hints())
    (tmp_path / "empty").mkdir()
    assert not recognise(tmp_path / "empty")
    with pytest.raises(DatasetError, match=r"empty: expected a Zarr store .*, got one with nothing"):
        open_diffusion_policy(tmp_path / "empty", Hints())
    path = write(tmp_path / "x.zarr", pusht())
    archive = zipped(path)
    archive.write_bytes(archive.read_bytes()[:-200])
    assert recognise(archive)  # so that opening it says what is wrong
    with pytest.raises(DatasetError, match=r"x\.zarr\.zip: the zip archive is cut short"):
        open_diffusion_policy(archive, Hints())
    description = json.loads((path / "data/img/.zarray").read_text())
    (path / "data/img/.zarray").write_text(json.dumps({**description, "compressor": {"id": "nobody_knows"}}))
    with pytest.raises(DatasetError, match="nobody_knows"):
        open_diffusion_policy(path, Hints())


@pytest.mark.parametrize("compressor", [LZ4, ZSTD, None], ids=["lz4", "zstd", "raw"])
@pytest.mark.parametrize("cut", [1, 9, 30, 45])
def test_chunks_cut_short_are_refused(tmp_path: Path, compressor: Any, cut: int) -> None:
    """Blosc would read beyond the end."""
    path = write(tmp_path / "x.zarr", pusht(), compressor=compressor)
    chunk = path / "data/img/1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-cut])
    source = open_diffusion_policy(path, Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"x\.zarr"):
        source.read(2)


def test_missing_chunks_are_not_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", pusht())
    (path / "data/action/1.0").unlink()
    source = open_diffusion_policy(path, Hints())
    assert any("1 of 3 episodes cannot be read; the first, 2:" in note for note in source.notes)
    assert len(source.read(0)) == 4
    with pytest.raises(DatasetError, match=r"data/action, rows 5 to 12: chunk data/action/1\.0 is missing"):
        source.read(2)


@pytest.mark.parametrize("name", ["out dir/aus.zarr", "out dir/aus.zarr.zip"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    source = open_diffusion_policy(
        write(tmp_path / "in.zarr", pusht()), Hints(instruction="push", task="pusht", robot="pusher")
    )
    dataset, frames = store(source, tmp_path / "store"), []
    check_dataset(dataset)
    out = tmp_path / name
    exported = export_diffusion_policy(dataset, out, frames.append)
    assert (exported.episodes, exported.steps, frames) == (3, 12, [4, 1, 7])
    assert list(out.parent.iterdir()) == [out]
    assert exported.lost == (
        "Instructions, in 3 episodes: the format has no language.",
        "Task names, in 3 episodes.",
        "Provenance, in 3 episodes.",
        "Units and limits of the state.",
        "Units and limits of the action.",
        "The robot's name and its rate.",
    )
    again = open_diffusion_policy(out, Hints(instruction="push", task="pusht", robot="pusher"))
    assert again.contract == dataset.contract
    for number in range(3):
        ours, theirs = again.read(number), source.read(number)
        for key in ("state", "action", "time_ns", "done"):
            np.testing.assert_array_equal(getattr(ours, key), getattr(theirs, key))
        np.testing.assert_array_equal(ours.images["img"], theirs.images["img"])


def test_layout_of_the_export(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    """Read by the rules of version 2 alone: JSON files, and chunks that Blosc decodes."""
    dataset = make_dataset([[4, 6], [5]])
    out = tmp_path / "out.zarr"
    exported = export_diffusion_policy(dataset, out)
    for word in ("Instructions", "Alternative", "Signals", "Seeds", "succeeded", "learned from", "Names, units"):
        assert any(word in line for line in exported.lost), word
    assert not any(word in line for word in ("split", "Rewards", "Depth", "clocks") for line in exported.lost)
    for group in ("", "data", "meta"):
        assert json.loads((out / group / ".zgroup").read_text()) == {"zarr_format": 2}
    assert {path.name for path in (out / "data").iterdir() if path.is_dir()} == {"front", "wrist", "state", "action"}
    ends = json.loads((out / "meta/episode_ends/.zarray").read_text())
    assert (ends["dtype"], ends["compressor"], ends["shape"]) == ("<i8", None, [3])
    assert np.frombuffer((out / "meta/episode_ends/0").read_bytes(), "<i8").tolist() == [4, 10, 15]
    front = json.loads((out / "data/front/.zarray").read_text())
    assert (front["shape"], front["chunks"], front["dtype"]) == ([15, 6, 8, 3], [1, 6, 8, 3], "|u1")
    assert {k: front["compressor"][k] for k in ("id", "cname", "clevel", "shuffle")} == {
        "id": "blosc",
        "cname": "lz4",
        "clevel": 5,
        "shuffle": 0,
    }
    frame = np.frombuffer(Blosc().decode((out / "data/front/11.0.0.0").read_bytes()), np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(frame, dataset.read_episode(2).images["front"][1])
    state = json.loads((out / "data/state/.zarray").read_text())
    assert (state["shape"], state["chunks"], state["dtype"]) == ([15, 5], [15, 5], "<f4")
    rows = np.frombuffer(Blosc().decode((out / "data/state/0.0").read_bytes()), "<f4").reshape(15, 5)
    np.testing.assert_array_equal(rows[4:10], dataset.read_episode(1).state)


def test_zeros_are_written(tmp_path: Path, make_episode: Callable[..., Episode], contract: Contract) -> None:
    black = {name: np.zeros((3, 6, 8, 3), np.uint8) for name in ("front", "wrist")}
    create_dataset(tmp_path / "store", contract)
    with SegmentWriter(tmp_path / "store", contract, {}) as writer:
        writer.append(make_episode(3, images=black, state=np.zeros((3, 5), np.float32)))
        publish(tmp_path / "store", [writer.seal()], "test")
    export_diffusion_policy(Dataset.open(tmp_path / "store"), tmp_path / "out.zarr")
    episode = open_diffusion_policy(tmp_path / "out.zarr", Hints()).read(0)
    assert not episode.images["front"].any()
    assert not episode.state.any()


def test_export_refuses_and_cleans_up(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset([[4, 4]])
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(DatasetError, match=r"there\.zarr exists"):
        export_diffusion_policy(dataset, tmp_path / "there.zarr")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_diffusion_policy(dataset, tmp_path / "out" / "new.zarr", stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_names_of_the_state_that_are_taken(
    tmp_path: Path, make_episode: Callable[..., Episode], contract: Contract
) -> None:
    """A camera called as a part of the state does not lose either."""
    state = tuple(Dimension(name=f"front.{i}", unit="m", low=-3.0, high=3.0) for i in range(5))
    contract = replace(contract, state=state)
    create_dataset(tmp_path / "store", contract)
    with SegmentWriter(tmp_path / "store", contract, {}) as writer:
        writer.append(make_episode(3))
        publish(tmp_path / "store", [writer.seal()], "test")
    export_diffusion_policy(Dataset.open(tmp_path / "store"), tmp_path / "out.zarr")
    again = open_diffusion_policy(tmp_path / "out.zarr", Hints()).read(0)
    np.testing.assert_array_equal(again.state, make_episode(3).state)
    np.testing.assert_array_equal(again.images["front"], make_episode(3).images["front"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=8),
            st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=4),
        ),
        unique_by=lambda pair: pair[0],
        max_size=5,
    )
)
def test_keys_are_found_again_and_limits_hold(parts: list[tuple[str, list[float]]]) -> None:
    dimensions = [d for key, values in parts for d in dimensions_of(key, values, values)]
    found = keys_of(dimensions)
    assert found is not None
    assert {key: place.stop - place.start for key, place in found.items()} == {k: len(v) for k, v in parts}
    assert [dimensions[place][0].name for place in found.values()] == [f"{key}.0" for key, _ in parts]
    for dimension, value in zip(dimensions, [v for _, values in parts for v in values], strict=True):
        assert dimension.low <= value <= dimension.high
        assert dimension.low < dimension.high


@pytest.mark.parametrize("names", [["a.0", "a.2"], ["a.1"], ["a.0", "b.0", "a.1"], ["x"], ["a.0", "a.0"]])
def test_other_names_have_no_keys(names: list[str]) -> None:
    assert keys_of([Dimension(name=name, unit="1", low=0.0, high=1.0) for name in names]) is None
