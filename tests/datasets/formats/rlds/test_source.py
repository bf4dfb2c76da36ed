"""RLDS folders as TFDS writes them: its JSON, its file names, and records encoded by Google's protobuf."""

import io
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google_crc32c import value as crc32c
from PIL import Image

from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.datasets.care.checker import check_dataset
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.formats.rlds.layout import RldsKeys
from vla.datasets.formats.rlds.source import RldsSource, open_rlds, recognise
from vla.datasets.formats.source import Hints, Source, notes_of
from vla.datasets.store.episode_check import check_episode
from vla.datasets.store.layout import check_names
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter

CORE = "tensorflow_datasets.core.features"


def tensor(shape: list[int], dtype: str, encoding: str = "none") -> dict[str, Any]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    kind = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    return {"pythonClassName": f"{CORE}.{kind}", "tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image(shape: list[int], dtype: str = "uint8", encoding: str = "png") -> dict[str, Any]:
    content = {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": dtype, "encodingFormat": encoding}
    return {"pythonClassName": f"{CORE}.image_feature.Image", "image": content}


def text() -> dict[str, Any]:
    return {"pythonClassName": f"{CORE}.text_feature.Text", "text": {}}


def tree(features: dict[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": f"{CORE}.features_dict.FeaturesDict", "featuresDict": {"features": features}}


def sequence(feature: dict[str, Any], kind: str = "sequence_feature.Sequence", length: int = -1) -> dict[str, Any]:
    return {"pythonClassName": f"{CORE}.{kind}", "sequence": {"feature": feature, "length": str(length)}}


def episodes_of(steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return tree({"steps": sequence(tree(steps), "dataset_feature.Dataset"), **more})


FLAGS = {name: tensor([], "bool") for name in ("is_first", "is_last", "is_terminal")}
BRIDGE = episodes_of(
    {
        "action": tensor([7], "float32"),
        "discount": tensor([], "float32"),
        "reward": tensor([], "float32"),
        "language_instruction": text(),
        "language_embedding": tensor([512], "float32"),
        "observation": tree(
            {
                "image_0": image([6, 8, 3], encoding="jpeg"),
                "image_1": image([6, 8, 3]),
                "state": tensor([7], "float32"),
            }
        ),
        **FLAGS,
    },
    episode_metadata=tree({"file_path": text(), "episode_id": tensor([], "int32"), "has_image_1": tensor([], "bool")}),
)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    lists = {"BytesList": kinds.TYPE_BYTES, "FloatList": kinds.TYPE_FLOAT, "Int64List": kinds.TYPE_INT64}
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(lists.items(), 1):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=3)
        feature.field.add(name=name, number=number, type=11, type_name=f".tf.{name}", label=1, oneof_index=0)
    file.message_type.append(feature)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".tf.Feature", label=1)
    features.field.add(name="feature", number=1, type=11, type_name=".tf.Features.FeatureEntry", label=3)
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=11, type_name=".tf.Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


EXAMPLE = _example_class()


def encode(values: dict[str, Any]) -> bytes:
    """As TFDS: integers and truths as int64, all floats as float32, everything flat."""
    example = EXAMPLE()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, list):
            feature.BytesList.value.extend(v.encode() if isinstance(v, str) else v for v in value)
        elif np.asarray(value).dtype.kind == "f":
            feature.FloatList.value.extend(np.asarray(value).ravel().tolist())
        else:
            feature.Int64List.value.extend(np.asarray(value).astype(np.int64).ravel().tolist())
    return bytes(example.SerializeToString())


def frame(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = crc32c(part)
        return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

    length = len(data).to_bytes(8, "little")
    return length + masked(length) + data + masked(data)


def write(
    folder: Path, features: dict[str, Any], splits: dict[str, list[list[dict[str, Any]]]], name: str = "my_bridge"
) -> Path:
    """A TFDS folder: for each split its shards, each with the values of its episodes."""
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(features, indent=4))
    infos = []
    for split, shards in splits.items():
        for number, shard in enumerate(shards):
            file = folder / f"{name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
            file.write_bytes(b"".join(frame(encode(values)) for values in shard))
        lengths = [str(len(shard)) for shard in shards]
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        infos.append({"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": lengths})
    info = {"fileFormat": "tfrecord", "moduleName": name, "name": name, "splits": infos, "version": "1.0.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return folder


def flags(steps: int) -> dict[str, Any]:
    last = np.arange(steps) == steps - 1
    return {"steps/is_first": np.arange(steps) == 0, "steps/is_last": last, "steps/is_terminal": last}


def bridge(seed: int, steps: int = 4, **changes: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The values of one episode, and the truth."""
    rng = np.random.default_rng(seed)
    truth = {
        "action": rng.standard_normal((steps, 7)).astype(np.float32),
        "state": rng.standard_normal((steps, 7)).astype(np.float32),
        "image_0": np.full((steps, 6, 8, 3), [[[200, 30, 90]]], np.uint8),
        "image_1": rng.integers(0, 256, (steps, 6, 8, 3), np.uint8),
    }
    values = {
        "steps/action": truth["action"],
        "steps/discount": np.ones(steps, np.float32),
        "steps/reward": (np.arange(steps) == steps - 1).astype(np.float32),
        "steps/language_instruction": ["räume den Tisch ab"] * steps,
        "steps/language_embedding": rng.standard_normal((steps, 512)).astype(np.float32),
        "steps/observation/image_0": [jpeg(pixels) for pixels in truth["image_0"]],
        "steps/observation/image_1": [png(pixels) for pixels in truth["image_1"]],
        "steps/observation/state": truth["state"],
        **flags(steps),
        "episode_metadata/file_path": [f"/nfs/kun2/traj {seed}.npy"],
        "episode_metadata/episode_id": [],
        "episode_metadata/has_image_1": np.array([True]),
    }
    values["episode_metadata/episode_id"] = np.array([seed])
    return {**values, **changes}, truth


def write_bridge(root: Path) -> tuple[Path, list[dict[str, np.ndarray]]]:
    made = [bridge(seed, steps) for seed, steps in enumerate((4, 1, 6, 3))]
    data = [values for values, _ in made]
    folder = write(root / "my bridge" / "1.0.0", BRIDGE, {"train": [data[:2], data[2:3]], "val": [data[3:]]})
    return folder, [truth for _, truth in made]


def open_one(tmp_path: Path, features: dict[str, Any], *data: dict[str, Any], **hints: Any) -> RldsSource:
    return open_rlds(write(tmp_path / "set" / "0.1.0", features, {"train": [list(data)]}), Hints(**hints))


def check_fits(source: Source) -> list[Episode]:
    """Every episode has the shapes, dtypes and rates of the contract."""
    assert isinstance(source, Source)
    contract = source.contract
    episodes = [source.read(number) for number in range(len(source))]
    check_names(contract)
    for episode in episodes:
        check_episode(episode, contract)
        steps = len(episode)
        assert steps > 0
        assert set(episode.images) == {camera.name for camera in contract.cameras}
        for camera in contract.cameras:
            pixels = episode.images[camera.name]
            assert pixels.shape == (steps, *camera.shape)
            assert pixels.dtype == camera.dtype
        assert episode.state.shape == (steps, len(contract.state))
        assert episode.action.shape == episode.action_executed.shape == (steps, len(contract.action))
        assert episode.signals == {}
        for name in ("done", "valid"):
            assert getattr(episode, name).dtype == bool
            assert getattr(episode, name).shape == (steps,)
        for name in ("time_ns", "command_time_ns"):
            assert getattr(episode, name).dtype == np.int64
        for values, dimensions in ((episode.state, contract.state), (episode.action, contract.action)):
            for column, dimension in zip(values.T, dimensions, strict=True):
                assert dimension.low < column.min() <= column.max() < dimension.high
        assert json.loads(json.dumps(episode.provenance)) == episode.provenance
    for dimensions in (contract.state, contract.action):
        assert len({dimension.name for dimension in dimensions}) == len(dimensions)
    return episodes


def test_bridge(tmp_path: Path) -> None:
    folder, truth = write_bridge(tmp_path)
    source = open_rlds(folder, Hints(control_hz=5.0, robot="widowx"))
    episodes = check_fits(source)
    assert [len(episode) for episode in episodes] == [4, 1, 6, 3]
    assert [episode.split for episode in episodes] == ["train", "train", "train", "val"]
    assert [dimension.name for dimension in source.contract.action] == [f"action.{i}" for i in range(7)]
    for number, (episode, expected) in enumerate(zip(episodes, truth, strict=True)):
        np.testing.assert_array_equal(episode.action, expected["action"])
        np.testing.assert_array_equal(episode.state, expected["state"])
        np.testing.assert_array_equal(episode.images["image_1"], expected["image_1"])
        assert np.abs(episode.images["image_0"].astype(int) - expected["image_0"]).max() < 6
        assert episode.instruction == episode.task == "räume den Tisch ab"
        assert episode.instruction_alternatives == ()
        assert episode.success is True
        assert episode.done.tolist() == [False] * (len(episode) - 1) + [True]
        assert episode.valid.all()
        assert episode.provenance["metadata"] == {
            "episode_metadata/episode_id": number,
            "episode_metadata/file_path": f"/nfs/kun2/traj {number}.npy",
            "episode_metadata/has_image_1": True,
        }
        np.testing.assert_array_equal(episode.time_ns, np.arange(len(episode)) * 200_000_000)
    assert [episode.provenance["record"] for episode in episodes] == [0, 1, 0, 0]
    assert episodes[2].provenance["file"] == "my_bridge-train.tfrecord-00001-of-00002"
    assert any("language_embedding" in note for note in source.notes)
    assert not any("Hz" in note for note in source.notes)


def test_default_rate_is_noted_and_exact(tmp_path: Path) -> None:
    folder, _ = write_bridge(tmp_path)
    source = open_rlds(folder, Hints())
    assert source.contract.control_hz == 10.0
    assert any("10 Hz is assumed" in note for note in source.notes)
    third = open_rlds(folder, Hints(control_hz=3.0)).read(2)
    assert third.time_ns.tolist() == [step * 1_000_000_000 // 3 for step in range(6)]
    with pytest.raises(DatasetError, match="positive rate"):
        open_rlds(folder, Hints(control_hz=0.0))


def test_source_is_picklable(tmp_path: Path) -> None:
    folder, truth = write_bridge(tmp_path)
    source = pickle.loads(pickle.dumps(open_rlds(folder, Hints())))
    np.testing.assert_array_equal(source.read(2).action, truth[2]["action"])


def test_recognise(tmp_path: Path) -> None:
    folder, _ = write_bridge(tmp_path)
    assert recognise(folder)
    assert recognise(folder.parent)
    assert not recognise(folder / "features.json")
    assert not recognise(tmp_path / "nowhere")
    (tmp_path / "other" / "meta").mkdir(parents=True)
    (tmp_path / "other" / "features.json").write_text("{}")
    assert not recognise(tmp_path / "other")


def test_highest_version(tmp_path: Path) -> None:
    folder, truth = write_bridge(tmp_path)
    for version, seed in (("0.9.0", 11), ("0.10.0", 12)):
        write(folder.parent / version, BRIDGE, {"train": [[bridge(seed)[0]]]})
    source = open_rlds(folder.parent, Hints())
    assert source.folder == folder
    assert any("1.0.0, is read" in note for note in source.notes)
    np.testing.assert_array_equal(source.read(0).action, truth[0]["action"])
    write(tmp_path / "second" / "1.0.0", BRIDGE, {"train": [[bridge(1)[0]]]})
    with pytest.raises(DatasetError, match="several datasets"):
        open_rlds(tmp_path, Hints())


FRACTAL = episodes_of(
    {
        "action": tree(
            {
                "world_vector": tensor([3], "float32"),
                "rotation_delta": tensor([3], "float32"),
                "gripper_closedness_action": tensor([1], "float32"),
                "terminate_episode": tensor([3], "int32"),
                "open_gripper": tensor([], "bool"),
            }
        ),
        "observation": tree(
            {
                "image": image([-1, -1, 3], encoding="jpeg"),
                "depth": image([6, 8, 1], "uint16"),
                "depth_float": image([6, 8, 1], "float32"),
                "mask": image([6, 8, 1]),
                "natural_language_instruction": tensor([], "string"),
                "natural_language_embedding": tensor([4], "float32"),
                "workspace_bounds": tensor([3, 3], "float32"),
                "base_pose_tool_reached": tensor([7], "float64"),
                "gripper_closed": tensor([1], "float32"),
                "tactile": tensor([65], "float32"),
                "height_to_bottom": tensor([], "float32"),
                "objects": sequence(tensor([2], "float32")),
                "history": sequence(tensor([2], "float32"), length=3),
                "packed": tensor([2], "float64", "zlib"),
                "raw": tensor([3], "float32", "bytes"),
                "count": tensor([], "int64"),
            }
        ),
        **FLAGS,
    },
    success=tensor([], "bool"),
)


def fractal(steps: int = 5, size: tuple[int, int] = (10, 12)) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(steps)

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal((steps, *shape)).astype(np.float32)

    truth = {
        "world_vector": floats(3),
        "rotation_delta": floats(3),
        "gripper_closedness_action": floats(1),
        "open_gripper": rng.random((steps, 1)) < 0.5,
        "base_pose_tool_reached": floats(7),
        "gripper_closed": floats(1),
        "height_to_bottom": floats(1),
        "history": floats(3, 2),
        "packed": rng.standard_normal((steps, 2)),
        "raw": floats(3),
        "workspace_bounds": floats(3, 3),
        "depth": rng.integers(0, 2**16, (steps, 6, 8), np.uint16),
    }
    values: dict[str, Any] = {f"steps/action/{name}": truth[name] for name in list(truth)[:4]}
    values |= {f"steps/observation/{name}": truth[name] for name in list(truth)[4:11]}
    values |= {
        "steps/action/terminate_episode": np.tile([0, 1, 0], (steps, 1)),
        "steps/observation/image": [jpeg(np.full((*size, 3), 40 * step, np.uint8)) for step in range(steps)],
        "steps/observation/depth": [png(pixels) for pixels in truth["depth"]],
        "steps/observation/depth_float": [png(np.zeros((6, 8, 4), np.uint8))] * steps,
        "steps/observation/mask": [png(np.zeros((6, 8), np.uint8))] * steps,
        "steps/observation/natural_language_instruction": ["pick apple"] * 3 + ["place apple"] * (steps - 3),
        "steps/observation/natural_language_embedding": floats(4),
        "steps/observation/tactile": floats(65),
        "steps/observation/objects/ragged_flat_values": floats(2),
        "steps/observation/objects/ragged_row_lengths_0": np.ones(steps, np.int64),
        "steps/observation/history/ragged_flat_values": truth["history"],
        "steps/observation/history/ragged_row_lengths_0": np.full(steps, 3),
        "steps/observation/packed": [zlib.compress(row.tobytes()) for row in truth["packed"]],
        "steps/observation/raw": [row.tobytes() for row in truth["raw"]],
        "steps/observation/count": np.arange(steps),
        "success": np.array([False]),
        **flags(steps),
    }
    del values["steps/observation/history"]
    return values, truth


def test_fractal(tmp_path: Path) -> None:
    """Nested actions, sizes from the first picture, depth, packed tensors, several instructions, no reward."""
    values, truth = fractal()
    source = open_one(tmp_path, FRACTAL, values)
    (episode,) = check_fits(source)
    contract = source.contract
    assert [(c.name, c.kind, c.height, c.width) for c in contract.cameras] == [
        ("depth", "depth", 6, 8),
        ("image", "rgb", 10, 12),
    ]
    np.testing.assert_array_equal(episode.images["depth"][..., 0], truth["depth"])
    actions = ["gripper_closedness_action", "open_gripper", "rotation_delta", "world_vector"]
    expected = np.concatenate([truth[name] for name in actions], axis=1, dtype=np.float32)
    np.testing.assert_array_equal(episode.action, expected)
    assert [d.name for d in contract.action][:3] == [
        "gripper_closedness_action.0",
        "open_gripper.0",
        "rotation_delta.0",
    ]
    states = ["base_pose_tool_reached", "gripper_closed", "height_to_bottom", "history", "packed", "raw"]
    parts = [truth[name].reshape(5, -1) for name in (*states, "workspace_bounds")]
    np.testing.assert_array_equal(episode.state, np.concatenate(parts, axis=1).astype(np.float32))
    assert episode.instruction == "pick apple"
    assert episode.instruction_alternatives == ("place apple",)
    assert [span["step"] for span in episode.provenance["instructions"]] == [0, 3]
    assert episode.success is False
    notes = " ".join(source.notes)
    for word in ("tactile", "embedding", "objects (a sequence within each step)", "terminate_episode", "mask"):
        assert word in notes
    assert "depth_float" in notes
    assert "millimetres" in notes


def test_named_keys(tmp_path: Path) -> None:
    values, truth = fractal()
    folder = write(tmp_path / "0.1.0", FRACTAL, {"train": [[values]]})
    keys = RldsKeys(state=("observation/raw", "observation/count"), action=("steps/action/world_vector",))
    episode = open_rlds(folder, Hints(), keys).read(0)
    np.testing.assert_array_equal(episode.state[:, :3], truth["raw"])
    np.testing.assert_array_equal(episode.state[:, 3], np.arange(5))
    np.testing.assert_array_equal(episode.action, truth["world_vector"])
    with pytest.raises(DatasetError, match=r"'action/nothing' is no feature with numbers; choose of"):
        open_rlds(folder, Hints(), RldsKeys(action=("action/nothing",)))


def test_pictures_of_another_size(tmp_path: Path) -> None:
    source = open_one(tmp_path, FRACTAL, fractal(5)[0], fractal(4, size=(10, 14))[0])
    source.read(0)
    with pytest.raises(DatasetError, match=r"episode 1 .*step 0: expected a picture \(10, 12, 3\).*\(10, 14, 3\)"):
        source.read(1)


def legacy(node: dict[str, Any], *, packed: bool) -> dict[str, Any]:
    """The older spellings of a tree: with its messages as text, or with plain lists."""
    name = node["pythonClassName"]
    kind = next(key for key in node if key != "pythonClassName")
    content = node[kind]
    if kind == "featuresDict":
        inner = {key: legacy(child, packed=False) for key, child in content["features"].items()}
        return {"type": name, "content": inner}
    if kind == "sequence":
        length = None if content["length"] == "-1" else int(content["length"])
        return {"type": name, "content": {"feature": legacy(content["feature"], packed=packed), "length": length}}
    if packed:
        return {"type": name, "content": json.dumps(content), "proto_cls": "tensorflow_datasets.Any"}
    plain = dict(content)
    if "shape" in plain:
        sizes = plain["shape"].get("dimensions", [])
        plain["shape"] = [None if size == "-1" else int(size) for size in sizes]
    return {"type": name, "content": plain}


@pytest.mark.parametrize("packed", [False, True])
def test_older_spellings_of_features(tmp_path: Path, packed: bool) -> None:
    values, _ = fractal()
    new = open_rlds(write(tmp_path / "new" / "1.0.0", FRACTAL, {"train": [[values]]}), Hints())
    old = open_rlds(write(tmp_path / "old" / "1.0.0", legacy(FRACTAL, packed=packed), {"train": [[values]]}), Hints())
    assert old.contract == new.contract
    np.testing.assert_array_equal(old.read(0).state, new.read(0).state)


def test_features_of_a_sequence_as_json_text(tmp_path: Path) -> None:
    inner = legacy(BRIDGE["featuresDict"]["features"]["steps"], packed=False)
    steps = {"pythonClassName": inner["type"], "jsonFeature": {"json": json.dumps(inner["content"])}}
    source = open_one(tmp_path, tree({"steps": steps}), bridge(0)[0])
    assert [camera.name for camera in source.contract.cameras] == ["image_0", "image_1"]
    assert len(check_fits(source)) == 1


DROID = episodes_of(
    {
        "action": tensor([2], "float64"),
        "action_dict": tree({"joint_velocity": tensor([2], "float64")}),
        "language_instruction": text(),
        "language_instruction_2": text(),
        "language_instruction_3": text(),
        "observation": tree({"joint_position": tensor([2], "float64"), "gripper_position": tensor([1], "float64")}),
        **FLAGS,
    }
)


def droid(steps: int, texts: tuple[str, str, str], action: np.ndarray | None = None) -> dict[str, Any]:
    values = {f"steps/language_instruction{end}": [t] * steps for end, t in zip(("", "_2", "_3"), texts, strict=True)}
    return {
        "steps/action": np.ones((steps, 2), np.float32) if action is None else action,
        "steps/action_dict/joint_velocity": np.zeros((steps, 2), np.float32),
        "steps/observation/joint_position": np.arange(2 * steps, dtype=np.float32),
        "steps/observation/gripper_position": np.full(steps, 7, np.float32),
        **values,
        **flags(steps),
    }


def test_droid_has_up_to_three_instructions(tmp_path: Path) -> None:
    data = [droid(3, ("a", "b", "a")), droid(2, ("", "second", "")), droid(2, ("", "", ""))]
    source = open_one(tmp_path, DROID, *data)
    first, second = source.read(0), source.read(1)
    assert (first.instruction, first.instruction_alternatives) == ("a", ("b",))
    assert (second.instruction, second.instruction_alternatives) == ("second", ())
    assert first.images == {}
    np.testing.assert_array_equal(first.state, [[7, 0, 1], [7, 2, 3], [7, 4, 5]])
    assert [d.name for d in source.contract.state] == ["gripper_position.0", "joint_position.0", "joint_position.1"]
    with pytest.raises(DatasetError, match=r"episode 2 .*has no instruction; give one"):
        source.read(2)
    with_hint = open_rlds(source.folder, Hints(instruction="tidy up", task="t", split="s"))
    assert with_hint.read(2).instruction == "tidy up"
    assert with_hint.read(0).instruction == "a"
    assert (with_hint.read(0).task, with_hint.read(0).split) == ("t", "s")


def test_filler_action_of_the_last_step(tmp_path: Path) -> None:
    action = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    source = open_one(
        tmp_path,
        DROID,
        droid(3, ("a", "", ""), action),
        droid(2, ("a", "", ""), action[[0, 1]]),
        droid(1, ("a", "", ""), action[[0]]),
    )
    assert [source.read(number).valid.tolist() for number in range(3)] == [[True, True, False], [True, True], [False]]
    assert source.read(0).success is None
    assert any("marked as not valid" in note for note in source.notes)


def test_actions_in_parts_and_an_episode_of_one_step(tmp_path: Path) -> None:
    """As RT-1 has them: parts side by side, zeros at the end, one episode of nothing but its end."""
    parts = {"world_vector": 3, "gripper_closedness_action": 1, "rotation_delta": 3}
    features = episodes_of(
        {
            "action": tree(
                {name: tensor([width], "float32") for name, width in parts.items()}
                | {"terminate_episode": tensor([3], "int32")}
            ),
            "observation": tree({"image": image([6, 8, 3]), "state": tensor([3], "float64")}),
            "language_instruction": text(),
            **FLAGS,
        }
    )
    data = []
    for steps in (5, 1, 6):
        moves = {f"steps/action/{name}": np.ones((steps, width), np.float32) for name, width in parts.items()}
        for move in moves.values():
            move[-1] = 0
        data.append(
            {
                **moves,
                "steps/action/terminate_episode": np.tile([0, 1, 0], (steps, 1)),
                "steps/observation/image": [png(np.zeros((6, 8, 3), np.uint8))] * steps,
                "steps/observation/state": np.arange(steps * 3.0),
                "steps/language_instruction": ["räume den Würfel weg ☕"] * steps,
                **flags(steps),
            }
        )
    source = open_one(tmp_path, features, *data)
    episodes = check_fits(source)
    assert [episode.valid.tolist() for episode in episodes] == [[True] * 4 + [False], [False], [True] * 5 + [False]]
    assert {episode.instruction for episode in episodes} == {"räume den Würfel weg ☕"}


def ending(*rows: tuple[float, float]) -> dict[str, Any]:
    return droid(len(rows), ("a", "", ""), np.array(rows, np.float32))


def test_fillers_that_are_no_zeros(tmp_path: Path) -> None:
    """What is not finite, and what every episode ends with."""
    nan = float("nan")
    broken = ending((1, 2), (nan, nan))
    source = open_one(tmp_path / "nan", DROID, broken, ending((1, 2), (3, 4)))
    assert source.read(0).valid.tolist() == [True, False]
    assert source.read(0).action.tolist() == [[1, 2], [0, 0]]
    assert source.read(1).valid.all()
    same = [ending((place, 2), (place, 3), (-1, 1)) for place in range(3)]
    source = open_one(tmp_path / "same", DROID, *same, ending((-1, 1)))
    assert [source.read(number).valid.tolist() for number in (0, 2, 3)] == [[True, True, False]] * 2 + [[False]]
    assert any("[-1.0, 1.0] as in all episodes" in note for note in source.notes)
    again = [ending((place, 2), (place, 3), (place, 3)) for place in range(3)]
    source = open_one(tmp_path / "again", DROID, *again)
    assert source.read(1).valid.tolist() == [True, True, False]
    source = open_one(tmp_path / "some", DROID, *again, ending((1, 2), (3, 4)))
    assert source.read(1).valid.all()  # one that moves to its end: the others may just stand still


def test_flags_at_other_steps_are_said(tmp_path: Path) -> None:
    values = bridge(0)[0] | {"steps/is_last": np.array([0, 1, 0, 1]), "steps/is_first": np.zeros(4, bool)}
    assert notes_of(open_one(tmp_path, BRIDGE, values).read(0)) == (
        "is_first is set at steps [], expected 0 alone: the order of steps counts",
        "is_last is set at steps [1, 3], expected 3 alone: the order of steps counts",
    )


def test_instruction_as_character_codes(tmp_path: Path) -> None:
    features = episodes_of(
        {"action": tensor([2], "float32"), "observation": tree({"instruction": tensor([512], "int32")}), **FLAGS}
    )
    codes = np.zeros((2, 512), np.int64)
    codes[:, :8] = list("schön!!".encode())
    values = {"steps/action": np.zeros((2, 2), np.float32), "steps/observation/instruction": codes, **flags(2)}
    episode = open_one(tmp_path, features, values).read(0)
    assert episode.instruction == "schön!!"
    assert episode.state.shape == (2, 0)


def test_rewards_tell_success(tmp_path: Path) -> None:
    rewards = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    data = [bridge(0, **{"steps/reward": np.array(row, np.float32)})[0] for row in rewards]
    source = open_one(tmp_path, BRIDGE, *data)
    assert [source.read(number).success for number in range(3)] == [None, None, True]
    assert any("its one reward is a 1 at the end; else unknown" in note for note in source.notes)
    np.testing.assert_array_equal(source.read(1).reward, [0, 1, 0, 0])


def test_without_dataset_info(tmp_path: Path) -> None:
    folder, _ = write_bridge(tmp_path)
    (folder / "dataset_info.json").unlink()
    source = open_rlds(folder, Hints())
    assert [source.read(number).split for number in range(4)] == ["train", "train", "train", "val"]
    assert any("dataset_info.json is missing" in note for note in source.notes)
    (folder / "my_bridge-train.tfrecord-00000-of-00002").unlink()
    source = open_rlds(folder, Hints())
    assert any("1 of 3 episodes cannot be read, for 1 of 3 files are missing" in note for note in source.notes)
    with pytest.raises(DatasetError, match="00000-of-00002 is missing: it is file 1 of 2 of the split train"):
        source.read(0)
    assert [source.read(number).split for number in (1, 2)] == ["train", "val"]


def test_own_template(tmp_path: Path) -> None:
    folder, truth = write_bridge(tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [{"name": "test", "shardLengths": ["2"], "filepathTemplate": "{SPLIT}_{SHARD_INDEX}.{FILEFORMAT}"}]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    (folder / "my_bridge-train.tfrecord-00000-of-00002").rename(folder / "test_00000.tfrecord")
    source = open_rlds(folder, Hints())
    assert len(source) == 2
    assert source.read(1).split == "test"
    np.testing.assert_array_equal(source.read(1).action, truth[1]["action"])


_INSTEAD = {
    "empty": b"",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "page": b"<!DOCTYPE html><html><title>Sign in</title></html>",
    "gzip": b"\x1f\x8b\x08\x00 and so on, as gzip has it",
}


def _spoil(folder: Path, what: str) -> None:
    shard = folder / "my_bridge-train.tfrecord-00000-of-00002"
    if what == "cut":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif what == "missing":
        shard.unlink()
    elif what == "short":
        shard.write_bytes(frame(encode(bridge(0)[0])))
    elif what in _INSTEAD:
        shard.write_bytes(_INSTEAD[what])
    elif what == "no features":
        (folder / "features.json").unlink()
    elif what == "bad features":
        (folder / "features.json").write_text('{"pythonClassName": ')
    elif what == "other features":
        (folder / "features.json").write_text(json.dumps(tree({"label": tensor([], "int64")})))
    elif what == "not features":
        (folder / "features.json").write_text("[1, 2]")
    elif what == "array_record":
        info = json.loads((folder / "dataset_info.json").read_text())
        (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    elif what == "bad info":
        (folder / "dataset_info.json").write_text('{"splits": [{"shardLengths": ["Unknown"]}]}')
    elif what == "no splits":
        (folder / "dataset_info.json").write_text('{"name": "my_bridge", "splits": []}')


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no features", r"features.json does not exist.*download it"),
        ("bad features", r"features.json cannot be read"),
        ("other features", r"expected a dataset named 'steps'.*got \['label'\]"),
        ("not features", r"not a tree of features"),
        ("array_record", r"expected files of the format tfrecord, got array_record"),
        ("bad info", r"dataset_info.json: not the description"),
        ("no splits", r"expected at least 1 episode, got none"),
    ],
)
def test_damaged_folders(tmp_path: Path, what: str, message: str) -> None:
    folder, _ = write_bridge(tmp_path)
    _spoil(folder, what)
    with pytest.raises(DatasetError, match=message):
        open_rlds(folder, Hints())


@pytest.mark.parametrize(
    ("what", "whole", "message"),
    [
        ("cut", [0, 2, 3], r"00000-of-00002: record 1 .*cut short"),
        (
            "missing",
            [2, 3],
            r"my_bridge-train.tfrecord-00000-of-00002 is missing: it is file 1 of 2 of the split train",
        ),
        ("short", [0, 2, 3], r"expected 2 records as shardLengths .* says, got 1"),
        ("empty", [2, 3], r"00000-of-00002: it is empty \(0 bytes\)"),
        ("pointer", [2, 3], r"00000-of-00002: it is a Git LFS pointer, not the file itself: run git lfs pull"),
        ("page", [2, 3], r"00000-of-00002: it is an HTML page"),
        ("gzip", [2, 3], r"00000-of-00002: expected a TFRecord file, got compressed with gzip: unpack it"),
    ],
)
def test_damaged_files_cost_their_episodes_alone(tmp_path: Path, what: str, whole: list[int], message: str) -> None:
    folder, truth = write_bridge(tmp_path)
    _spoil(folder, what)
    source = open_rlds(folder, Hints())
    assert len(source) == 4
    assert any(f"{4 - len(whole)} of 4 episodes cannot be read, for 1 of 3 files" in note for note in source.notes)
    for number in range(4):
        if number in whole:
            np.testing.assert_array_equal(source.read(number).action, truth[number]["action"])
        else:
            with pytest.raises(DatasetError, match=message):
                source.read(number)


def test_files_and_records_that_the_description_does_not_know(tmp_path: Path) -> None:
    folder, _ = write_bridge(tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [{**info["splits"][0], "shardLengths": ["1", "1"]}]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    source = open_rlds(folder, Hints())
    assert len(source) == 3
    notes = " ".join(source.notes)
    assert "1 files that dataset_info.json does not list are left out" in notes
    assert "00000-of-00002 has 2 records, dataset_info.json says 1: all are read" in notes


def test_flipped_byte_in_a_picture(tmp_path: Path) -> None:
    folder, _ = write_bridge(tmp_path)
    shard = folder / "my_bridge-train.tfrecord-00001-of-00002"
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    shard.write_bytes(data)
    source = open_rlds(folder, Hints())
    source.read(0)
    with pytest.raises(DatasetError, match=r"00001-of-00002: record at byte 0: .*checksum"):
        source.read(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps/action": np.full((4, 7), np.nan, np.float32)},
            r"episode 0 .*step 0: expected finite numbers of action",
        ),
        ({"steps/observation/state": np.full((4, 7), np.inf, np.float32)}, r"finite numbers of state"),
        ({"steps/reward": np.full(4, np.nan, np.float32)}, r"finite numbers of reward"),
        ({"steps/language_instruction": [b"\xff"] * 4}, r"language_instruction is not UTF-8"),
        ({"steps/language_instruction": ["a", "b"]}, r"expected 4 texts of steps/language_instruction, got 2"),
        (
            {"steps/action": np.ones((4, 7), np.int64)},
            r"expected float32 of steps/action as features.json says, got int",
        ),
        ({"steps/observation/image_1": [b"junk"] * 4}, r"step 0: steps/observation/image_1: 4 bytes cannot be decoded"),
        ({"steps/observation/image_1": [b""] * 4}, r"0 bytes cannot be decoded"),
        ({"steps/observation/image_1": [png(np.zeros((6, 8, 3), np.uint8))] * 3}, r"expected 4 pictures .*got 3"),
        ({"steps/observation/image_0": [jpeg(np.zeros((8, 6, 3), np.uint8))] * 4}, r"expected a picture \(6, 8, 3\)"),
    ],
)
def test_damaged_episodes(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = open_one(tmp_path, BRIDGE, bridge(0, **changes)[0], bridge(1)[0])
    with pytest.raises(DatasetError, match=message):
        source.read(0)
    assert np.isfinite([(d.low, d.high) for d in (*source.contract.state, *source.contract.action)]).all()
    source.read(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps/action": np.zeros((3, 7), np.float32)},
            r"expected 28 numbers of steps/action \(4 steps of \[7\]\), got 21",
        ),
        ({"steps/action": [b"bytes"]}, r"expected numbers of steps/action, got bytes"),
        ({"steps/observation/state": np.zeros(0, np.float32)}, r"expected 28 numbers of steps/observation/state"),
        ({"steps/is_last": np.zeros(3, bool)}, r"expected 4 numbers of steps/is_last"),
        ({"steps/language_instruction": []}, r"has no instruction"),
        ({key: [] for key in bridge(0)[0]}, r"episode 1 .* the episode has no steps"),
    ],
)
def test_contradicting_episodes_do_not_hide_others(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = open_one(tmp_path, BRIDGE, bridge(0)[0], bridge(1, **changes)[0])
    source.read(0)
    with pytest.raises(DatasetError, match=message):
        source.read(1)


def test_no_action(tmp_path: Path) -> None:
    features = episodes_of({"observation": tree({"state": tensor([2], "float32")}), **FLAGS})
    with pytest.raises(DatasetError, match=r"expected numbers in steps/action, got .*--set action=\[feature\]"):
        open_one(tmp_path, features, {"steps/observation/state": np.zeros((2, 2), np.float32), **flags(2)})


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected features\.json there"):
        open_rlds(tmp_path, Hints())


def test_into_a_dataset(tmp_path: Path) -> None:
    source = open_rlds(write_bridge(tmp_path)[0], Hints())
    episodes = check_fits(source)
    root = tmp_path / "data set"
    create_dataset(root, source.contract)
    with SegmentWriter(root, source.contract, {"notes": list(source.notes)}) as writer:
        for episode in episodes:
            writer.append(episode)
        publish(root, [writer.seal()], "import")
    dataset = Dataset.open(root)
    check_dataset(dataset)
    assert dataset.contract == source.contract
    assert [record.length for record in dataset.episodes] == [len(episode) for episode in episodes]
    for number, episode in enumerate(episodes):
        stored = dataset.read_episode(number)
        np.testing.assert_array_equal(stored.state, episode.state)
        np.testing.assert_array_equal(stored.time_ns, episode.time_ns)
        assert stored.instruction == episode.instruction
        for camera, times in episode.image_time_ns.items():
            np.testing.assert_array_equal(stored.image_time_ns[camera], times)
        for camera, frames in episode.images.items():
            assert stored.images[camera].shape == frames.shape
