"""What stores of others lack: chunks, descriptions, codecs, rows; each is named, and never made up."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import Blosc

from vla.core.errors import DatasetError
from vla.datasets.dataset import Dataset
from vla.datasets.formats.diffusion_policy.source import open_diffusion_policy, recognise
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source

NESTED = Path(__file__).parents[1] / "fixtures" / "nested.zarr.zip"
"""Of zarr-python 2: three episodes of 4 rows, each in a chunk of its own, in folders."""
ENDS = (4, 8, 12)


def values() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "img": rng.integers(1, 256, (12, 6, 8, 3), np.uint8),
        "state": rng.uniform(1, 2, (12, 2)).astype(np.float32),
        "action": rng.uniform(1, 2, (12, 2)).astype(np.float32),
    }


def write(path: Path, version: Any = 2, ends: Any = ENDS, **more: Any) -> Path:
    root = zarr.open_group(path, mode="w", zarr_format=version)
    arrays = {**{f"data/{key}": array for key, array in values().items()}, "meta/episode_ends": np.array(ends)}
    for key, array in arrays.items():
        shape = array.shape if key.startswith("meta") else (4, *array.shape[1:])
        settings = {"chunks": shape, **(more if key.startswith("data") else {})}
        root.create_array(key, shape=array.shape, dtype=array.dtype, **settings)[...] = array
    return path


def read(path: Path) -> list[np.ndarray]:
    source = open_diffusion_policy(path, Hints(instruction="push"))
    return [source.read(number).action for number in range(len(source))]


def refused(path: Path, number: int = 1) -> str:
    """What is said of one episode; the others can be read."""
    source = open_diffusion_policy(path, Hints())
    for other in range(len(source)):
        if other != number:
            source.read(other)
    with pytest.raises(DatasetError) as caught:
        source.read(number)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    with zipfile.ZipFile(NESTED) as file:
        file.extractall(tmp_path / "nested.zarr")
    return tmp_path / "nested.zarr"


def test_chunks_in_folders_are_read_and_missing_ones_refused(nested: Path, tmp_path: Path) -> None:
    for path in (NESTED, nested):
        assert recognise(path)
        np.testing.assert_allclose(np.concatenate(read(path))[:, 0], 5 + 0.01 * np.arange(12), rtol=1e-6)
        assert open_diffusion_policy(path, Hints()).read(2).images["img"].ravel()[0] == 8 * 144 % 251
    shutil.rmtree(nested / "data/action/1")
    assert "data/action, rows 4 to 8: chunk data/action/1/0 is missing" in refused(nested)
    shutil.rmtree(nested / "data/img/2")
    with pytest.raises(DatasetError, match=r"data/img, rows 8 to 12: chunk data/img/2/0/0/0 is missing"):
        open_diffusion_policy(nested, Hints()).read(2)


def test_what_is_missing_is_skipped_and_counted(nested: Path, tmp_path: Path) -> None:
    shutil.rmtree(nested / "data/action/1")
    source = open_source(nested, Hints())
    settings = ImportSettings(codecs={}, engine="inline", skip_invalid=True)
    imported = import_source(source, tmp_path / "store", where="x", settings=settings, provenance={})
    assert (imported.episodes, len(imported.invalid)) == (2, 1)
    assert Dataset.open(tmp_path / "store").episode_lengths.tolist() == [4, 4]
    assert any("1 of 3 episodes cannot be read" in note for note in source.notes)


def test_folders_that_the_description_does_not_mention(nested: Path) -> None:
    """zarr-python wrote such stores until 2.8 (zarr-python 530, 769)."""
    for description in nested.glob("data/*/.zarray"):
        value = json.loads(description.read_text())
        del value["dimension_separator"]
        description.write_text(json.dumps(value))
    np.testing.assert_allclose(np.concatenate(read(nested))[:, 0], 5 + 0.01 * np.arange(12), rtol=1e-6)
    shutil.rmtree(nested / "data/action/1")
    assert "chunk data/action/1.0 is missing" in refused(nested)


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_zarr(tmp_path: Path, version: int) -> None:
    path = write(tmp_path / "x.zarr", version)
    assert recognise(path)
    np.testing.assert_array_equal(np.concatenate(read(path)), values()["action"])
    chunk = path / {2: "data/action/1.0", 3: "data/action/c/1/0"}[version]
    chunk.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "is a Git LFS pointer" in refused(path)
    chunk.write_bytes(b"\x00\x01")
    said = refused(path)
    assert "data/action, rows 4 to 8: " in said
    assert "cut short" in said or "cannot be unpacked" in said
    chunk.unlink()
    assert f"chunk {chunk.relative_to(path)} is missing" in refused(path)


def test_blosc_chunks_of_version_3_that_are_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", 3, compressors=zarr.codecs.BloscCodec(cname="lz4"))
    chunk = path / "data/img/c/1/0/0/0"
    size = chunk.stat().st_size
    chunk.write_bytes(chunk.read_bytes()[:-9])
    assert f"chunk data/img/c/1/0/0/0: expected {size} bytes, got {size - 9}" in refused(path)


def test_a_shard_says_which_of_its_chunks_hold_nothing(tmp_path: Path) -> None:
    """There the fill value is what was written; a missing shard is damage as a missing chunk is."""
    path = write(tmp_path / "x.zarr", 3)
    zarr.open_group(path, mode="a").create_array(
        "data/extra", shape=(12, 2), chunks=(2, 2), shards=(4, 2), dtype="f4", fill_value=0
    )[...] = np.repeat(np.arange(12)[:, None] % 4 // 2, 2, axis=1)
    source = open_diffusion_policy(path, Hints())
    place = [dimension.name for dimension in source.contract.state].index("extra.0")
    assert source.read(1).state[:, place].tolist() == [0, 0, 1, 1]
    (path / "data/extra/c/1/0").unlink()
    assert "chunk data/extra/c/1/0 is missing" in refused(path)


def edited(path: Path, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads((path / key).read_text())
    change(value)
    (path / key).write_text(json.dumps(value))


V3 = "data/action/zarr.json"
DAMAGE: dict[str, tuple[int, Callable[[Path], Any], str]] = {
    "no .zarray": (2, lambda p: (p / "data/img/.zarray").unlink(), r"data/img has no \.zarray: .* hidden files"),
    "no zarr.json": (3, lambda p: (p / "data/img/zarr.json").unlink(), r"data/img has no zarr\.json"),
    "no .zgroup": (2, lambda p: (p / ".zgroup").unlink(), r"\.zgroup is missing; copies that leave out hidden files"),
    "no ends": (2, lambda p: (p / "meta/episode_ends/.zarray").unlink(), r"meta/episode_ends/\.zarray is missing"),
    "no group": (2, lambda p: (p / "data/.zgroup").unlink(), r"data/\.zgroup is missing"),
    "keys": (
        2,
        lambda p: edited(p, "data/action/.zarray", lambda v: (v.pop("order"), v.pop("compressor"))),
        r"data/action/\.zarray lacks compressor, order",
    ),
    "no JSON": (2, lambda p: (p / "data/action/.zarray").write_text("{"), r"data/action/\.zarray is no JSON"),
    "a list": (2, lambda p: (p / "data/action/.zarray").write_text("[]"), "expected a JSON object"),
    "codec": (
        2,
        lambda p: edited(p, "data/action/.zarray", lambda v: v.update(compressor={"id": "nobody_knows"})),
        "data/action is packed with the codec 'nobody_knows'.*install the package",
    ),
    "codec of 3": (
        3,
        lambda p: edited(p, V3, lambda v: v["codecs"].append({"name": "acme.zip", "configuration": {}})),
        "data/action is packed with the codec 'acme.zip'",
    ),
    "pickle": (
        2,
        lambda p: edited(p, "data/action/.zarray", lambda v: v.update(filters=[{"id": "pickle", "protocol": 5}])),
        "data/action is packed with pickle, which may run any program",
    ),
    "pickle in 3": (
        3,
        lambda p: edited(p, V3, lambda v: v["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})),
        "packed with pickle",
    ),
    "shape": (
        2,
        lambda p: edited(p, "data/action/.zarray", lambda v: v.update(shape="x")),
        "not a readable Zarr store",
    ),
    "ends lost": (2, lambda p: (p / "meta/episode_ends/0").unlink(), "chunk meta/episode_ends/0 is missing"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_lost_is_named(tmp_path: Path, name: str) -> None:
    version, damage, said = DAMAGE[name]
    path = write(tmp_path / "x.zarr", version)
    damage(path)
    assert recognise(path)
    with pytest.raises(DatasetError, match=rf"x\.zarr: .*{said}") as caught:
        open_diffusion_policy(path, Hints())
    assert "\n" not in str(caught.value)


def test_a_store_in_a_folder_of_an_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "replay.zarr")
    archive = Path(shutil.make_archive(str(tmp_path / "sent"), "zip", tmp_path, "replay.zarr"))
    assert recognise(archive)
    np.testing.assert_array_equal(np.concatenate(read(archive)), values()["action"])
    shutil.rmtree(path / "data/img")
    (path / "data/img").mkdir()
    (path / "data/img/0.0.0.0").write_bytes(b"x")
    archive = Path(shutil.make_archive(str(tmp_path / "again"), "zip", tmp_path, "replay.zarr"))
    with pytest.raises(DatasetError, match=r"data/img has no \.zarray"):
        open_diffusion_policy(archive, Hints())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(99), "cut short"),
        (b"<html>", "HTML page"),
    ],
)
def test_archives_that_are_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.zarr.zip"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        open_source(path, Hints())
    with pytest.raises(DatasetError, match=said):
        open_source(path, Hints(), "diffusion-policy")


def test_episodes_without_rows_and_beyond_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", ends=(4, 4, 12, 15))
    source = open_diffusion_policy(path, Hints())
    assert [len(source.read(number)) for number in (0, 2)] == [4, 8]
    with pytest.raises(DatasetError, match="episode 1 has no steps"):
        source.read(1)
    with pytest.raises(DatasetError, match=r"rows 12 to 15: expected at least the 15 rows .*, got 12"):
        source.read(3)


def test_arrays_of_episodes_and_of_groups(tmp_path: Path) -> None:
    root = zarr.open_group(write(tmp_path / "x.zarr"), mode="a", zarr_format=2)
    for key, array in {
        "data/goal": np.ones((3, 2)),
        "data/more/vel": np.ones((12, 2)),
        "meta/seed": np.ones(3),
    }.items():
        root.create_array(key, shape=array.shape, dtype="f4")[...] = array
    source = open_diffusion_policy(tmp_path / "x.zarr", Hints())
    assert [d.name for d in source.contract.state] == ["state.0", "state.1", "more/vel.0", "more/vel.1"]
    notes = " ".join(source.notes)
    assert "goal is left out: it has no row for each step" in notes
    assert "These arrays of meta are left out: seed" in notes
    assert "success is unknown" in notes
    source.read(0)


def test_pictures_are_turned_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "x.zarr", compressors=Blosc())
    source = open_source(path, Hints(flip_images=("img",)))
    np.testing.assert_array_equal(source.read(0).images["img"], values()["img"][:4, ::-1])
    assert any("img are turned, as asked" in note for note in source.notes)
    with pytest.raises(DatasetError, match="--flip-images: expected names of img, got 'wrist'"):
        open_source(path, Hints(flip_images=("wrist",)))
