"""``vla data``: every verb on a real dataset, what it prints, what it leaves on disk, and how it refuses."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.datasets.formats.mcap.recordings import MS, START, joints, write_ros
from vla.cli.data.group import VERBS
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig
from vla.datasets.dataset import Dataset


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six demonstrations in three segments; do not change it."""
    root = tmp_path_factory.mktemp("collected") / "place"
    for seed in (0, 10, 20):
        collect(CollectConfig(episodes=2, seed=seed, workers=1, settings={"image_size": 32}), root)
    return root


@pytest.fixture
def place(collected: Path, tmp_path: Path) -> Path:
    """A copy, in a path with spaces."""
    return Path(shutil.copytree(collected, tmp_path / "my data" / "place"))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_help_names_every_verb(call: Callable) -> None:
    answer = call("data", "--help")
    assert answer.code == 0
    assert all(f"  {verb}" in answer.out for verb in VERBS)
    assert call("data", "inof").err.startswith("vla data: unknown command 'inof': did you mean 'info'?")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(call: Callable, verb: str) -> None:
    answer = call("data", verb, "--help")
    assert answer.code == 0
    assert "examples:" in answer.out


def test_upgrade(call: Callable, place: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    with zipfile.ZipFile(Path(__file__).parents[1] / "version1" / "dataset.zip") as file:
        file.extractall(old)
    answer = call("data", "info", old)
    assert (answer.code, f"convert it with vla data upgrade {old}" in answer.err) == (2, True)
    answer = call("data", "upgrade", old, "--json", tmp_path / "upgrade.json")
    assert (answer.code, _json(tmp_path / "upgrade.json")) == (0, {"upgraded": True}), answer.err
    assert call("data", "validate", old, "--deep").code == 0
    answer = call("data", "upgrade", place)
    assert (answer.code, "nothing to do" in answer.out) == (0, True)


def test_info(call: Callable, place: Path, tmp_path: Path) -> None:
    answer = call("data", "info", place, "--episodes", 3, "--json", tmp_path / "info.json")
    assert answer.code == 0, answer.err
    facts, data = _json(tmp_path / "info.json"), Dataset.open(place)
    assert (facts["episodes"], facts["steps"], facts["robot"], facts["fps"]) == (
        len(data.episodes),
        len(data),
        "tabletop-panda",
        10.0,
    )
    assert [camera["name"] for camera in facts["cameras"]] == ["front", "wrist"]
    assert sum(facts["instructions"].values()) == len(data.episodes)
    assert data.episodes[2].uid in answer.out
    assert data.episodes[3].uid not in answer.out


def test_validate_says_what_is_damaged_and_repair_saves_the_rest(call: Callable, place: Path, tmp_path: Path) -> None:
    for level in ("--quick", "--full", "--deep"):
        answer = call("data", "validate", place, level, "--json", tmp_path / "v.json")
        assert answer.code == 0, answer.out
        assert _json(tmp_path / "v.json")["errors"] == 0
    data = Dataset.open(place)
    before = {record.uid: data.read_episode(number) for number, record in enumerate(data.episodes)}
    damaged = data.episodes[3].uid
    segment = data.manifest.segments[data.episodes.segments[3]]
    shard = place / "segments" / segment / f"data.zarr/images/front/{data.episodes.numbers[3]:06d}/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert call("data", "validate", place, "--quick").code == 0
    answer = call("data", "validate", place, "--full")
    assert answer.code == 1
    assert "fails its checksum" in answer.out
    answer = call("data", "repair", place, "--json", tmp_path / "r.json")
    assert answer.code == 1  # an episode was lost
    assert len(_json(tmp_path / "r.json")["lost"]) == 1
    assert call("data", "validate", place, "--full").code == 0
    after = Dataset.open(place)
    assert {record.uid for record in after.episodes} == before.keys() - {damaged}
    for number, record in enumerate(after.episodes):
        np.testing.assert_array_equal(after.read_episode(number).images["front"], before[record.uid].images["front"])
    assert "nothing to repair" in call("data", "repair", place).out
    assert (place / "quarantine" / segment).is_dir()


def test_edits_are_new_versions(call: Callable, place: Path, tmp_path: Path) -> None:
    version = Dataset.open(place).manifest.number
    count = len(Dataset.open(place).episodes)
    uid = Dataset.open(place).episodes[0].uid
    assert call("data", "split", place, "--shares", "train=0.5", "test=0.5", "--json", tmp_path / "s.json").code == 0
    assert sum(_json(tmp_path / "s.json")["splits"].values()) == count
    answer = call("data", "relabel", place, "--set", "instruction=räume auf", "success=false", "--uids", uid)
    assert answer.code == 0, answer.err
    answer = call("data", "filter", place, "--success", "True", "--json", tmp_path / "f.json")
    assert answer.code == 0, answer.err
    assert _json(tmp_path / "f.json") == {"manifest": version + 3, "before": count, "episodes": count - 1}
    relabelled = Dataset.open(place, version + 2).episodes[0]
    assert (relabelled.instruction, relabelled.success) == ("räume auf", False)
    assert relabelled.split in ("train", "test")
    assert Dataset.open(place, version).episodes[0].instruction != "räume auf"
    (tmp_path / "labels.json").write_text(json.dumps({Dataset.open(place).episodes[0].uid: {"sucess": True}}))
    answer = call("data", "relabel", place, "--file", tmp_path / "labels.json")
    assert answer.code == 2
    assert "did you mean 'success'?" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("filter",), "which episodes?"),
        (("filter", "--tasks", "tabletop/plaice"), "did you mean 'tabletop/place'?"),
        (("filter", "--min-length", "9999"), "no episode fits"),
        (("split", "--shares", "train=1", "test=1"), "sum of 1"),
        (("split", "--shares", "train"), "train=0.9"),
        (("relabel",), "give one of --set"),
        (("view", "--episode", "99"), "expected 0 to 5"),
        (("view", "--uid", "nobody"), "no episode 'nobody'"),
        (("info", "--manifest", "9"), "The latest manifest"),
        (("validate", "--quick", "--full"), "one of --quick, --full and --deep"),
    ],
)
def test_mistakes_are_one_line(call: Callable, collected: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = call("data", arguments[0], collected, *arguments[1:])
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_pack_and_merge(call: Callable, place: Path, tmp_path: Path) -> None:
    before = Dataset.open(place)
    answer = call("data", "pack", place, "--workers", 1, "--json", tmp_path / "p.json")
    assert answer.code == 0, answer.err
    assert _json(tmp_path / "p.json") == {"manifest": before.manifest.number + 1, "before": 3, "after": 1}
    answer = call(
        "data", "merge", place, place, "--out", tmp_path / "all", "--workers", 1, "--json", tmp_path / "m.json"
    )
    assert answer.code == 0, answer.err
    assert _json(tmp_path / "m.json")["duplicates"] == len(before.episodes)
    merged = Dataset.open(tmp_path / "all")
    assert [record.uid for record in merged.episodes] == [record.uid for record in before.episodes]
    for number in range(len(before.episodes)):
        np.testing.assert_array_equal(
            merged.read_episode(number).images["wrist"], before.read_episode(number).images["wrist"]
        )


def test_replay_and_render_agree_with_the_recording(call: Callable, collected: Path, tmp_path: Path) -> None:
    answer = call("data", "replay", collected, "--episodes", 2, "--json", tmp_path / "r.json")
    assert answer.code == 0, answer.out
    result = _json(tmp_path / "r.json")
    assert (result["agree"], result["count"], result["state_error"]) == (2, 2, 0.0)
    assert [(row["sim_state_error"], row["image_error"]) for row in result["episodes"]] == [(0.0, 0.0)] * 2
    answer = call("data", "render", collected, tmp_path / "big", "--set", "image_size=64", "--engine", "inline")
    assert answer.code == 0, answer.err
    assert call("data", "replay", tmp_path / "big", "--episodes", 1, "--json", tmp_path / "r.json").code == 0
    assert _json(tmp_path / "r.json")["episodes"][0]["image_error"] == 0.0


def test_replay_notices_other_commands(call: Callable, place: Path) -> None:
    answer = call("data", "replay", place, "--env", "tabletop/place", "--set", "image_size=32", "blocks=3")
    assert answer.code == 2
    assert "recorded instruction" in answer.err


def test_view(call: Callable, collected: Path, tmp_path: Path) -> None:
    page = tmp_path / "episode.html"
    assert call("data", "view", collected, "--episode", 1, "--out", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert Dataset.open(collected).episodes[1].uid in text
    assert Dataset.open(collected).episodes[1].instruction in text


@pytest.mark.parametrize("target", ["lerobot", "robomimic", "diffusion-policy"])
def test_convert_there_and_back(call: Callable, collected: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / ("out.hdf5" if target == "robomimic" else "out.zarr")
    arguments = ("--to", target, "--json", tmp_path / "out.json")
    answer = call("data", "convert", collected, out, *arguments, *(("--lossless",) if target == "lerobot" else ()))
    assert answer.code == 0, answer.err
    assert _json(tmp_path / "out.json")["episodes"] == 6
    assert "not in the export" in answer.out
    answer = call("data", "convert", out, tmp_path / "back", "--engine", "inline", "--json", tmp_path / "in.json")
    assert answer.code == 0, answer.err
    ours, back = Dataset.open(collected), Dataset.open(tmp_path / "back")
    np.testing.assert_array_equal(back.state, ours.state)
    np.testing.assert_array_equal(back.action, ours.action)
    np.testing.assert_array_equal(back.frame("front", 7), ours.frame("front", 7))
    answer = call("data", "convert", out, tmp_path / "back", "--engine", "inline")
    assert "nothing new" in answer.out
    answer = call("data", "convert", out, collected, "--engine", "inline", "--robot", "other")
    assert answer.code == 2
    assert len(Dataset.open(collected).episodes) == 6


@pytest.mark.parametrize("target", ["lerobot", "robomimic", "diffusion-policy"])
def test_a_description(call: Callable, collected: Path, tmp_path: Path, target: str) -> None:
    source, path = tmp_path / ("out.hdf5" if target == "robomimic" else "out.zarr"), tmp_path / "about.yaml"
    assert call("data", "convert", collected, source, "--to", target).code == 0
    hints = ("--engine", "inline", "--instruction", "stack")
    answer = call("data", "convert", source, "--describe-template", path, "--instruction", "stack")
    assert answer.code == 0, answer.err
    assert f"{path} exists" in call("data", "convert", source, "--describe-template", path).err
    assert call("data", "convert", source, tmp_path / "plain", *hints).code == 0
    answer = call("data", "convert", source, tmp_path / "same", *hints, "--describe", path)
    assert answer.code == 0, answer.err
    plain = Dataset.open(tmp_path / "plain")
    assert Dataset.open(tmp_path / "same").contract == plain.contract
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("action:")) + 1
    lines[place] = re.sub("name: .*}", 'name: "mine", unit: deg, low: -720, high: 720}', lines[place])
    path.write_text("\n".join(lines), encoding="utf-8")
    answer = call("data", "convert", source, tmp_path / "said", *hints, "--describe", path)
    assert answer.code == 0, answer.err
    said = Dataset.open(tmp_path / "said")
    assert (said.contract.action[0].name, said.contract.action[0].unit) == ("mine", "rad")
    np.testing.assert_allclose(said.action[:, 0], np.radians(plain.action[:, 0]), rtol=1e-5)
    assert said.provenance(0)["description"]["action"][0]["name"] == "mine"
    answer = call("data", "info", tmp_path / "said", "--json", tmp_path / "info.json")
    facts = _json(tmp_path / "info.json")["policy"]
    assert facts["absolute"]["mine"] == "no state has its name"
    assert facts["limits"][0].startswith(f"known: described in {path} for 1 of ")
    assert "no state has its name" in answer.out


def test_info_says_what_a_policy_makes_of_it(call: Callable, collected: Path, tmp_path: Path) -> None:
    assert call("data", "convert", collected, tmp_path / "out.zarr", "--to", "diffusion-policy").code == 0
    answer = call("data", "convert", tmp_path / "out.zarr", tmp_path / "back", "--engine", "inline")
    assert "warning the actions have neither names nor units" in answer.out
    for dataset, relative, gripper in ((collected, 7, "gripper"), (tmp_path / "back", 0, None)):
        assert call("data", "info", dataset, "--json", tmp_path / "info.json").code == 0
        policy = _json(tmp_path / "info.json")["policy"]
        assert (len(policy["relative"]), policy["gripper"], policy["cameras"]) == (
            relative,
            gripper,
            ["front", "wrist"],
        )
    assert set(policy["absolute"].values()) == {"its unit is 1, not rad"}
    assert policy["limits"][0].startswith("not known")


def test_topics_on_the_command_line(call: Callable, tmp_path: Path) -> None:
    """Arm and gripper publish on topics of their own: side by side they are the state, called as the commands are."""
    arm, names = ["a", "b", "c"], ["a", "b", "c", "finger"]
    times = [START + step * 33 * MS for step in range(20)]
    topics = {
        topic: ("sensor_msgs/msg/JointState", [(t, joints(t, np.full(len(n), i), n)) for i, t in enumerate(times)])
        for topic, n in (("/arm/joint_states", arm), ("/grip/joint_states", names[3:]), ("/leader/joint_states", names))
    }
    bag = write_ros(tmp_path / "bag.mcap", topics)
    answer = call("data", "convert", bag, tmp_path / "x", "--instruction", "go")
    assert answer.code == 2
    setting = re.search(r'--set "(.*?)"', answer.err)
    assert setting is not None
    assert setting[1] == "state=[/arm/joint_states, /grip/joint_states]"
    answer = call("data", "convert", bag, tmp_path / "x", "--instruction", "go", "--set", setting[1])
    assert answer.code == 0, answer.err
    dataset = Dataset.open(tmp_path / "x")
    assert [d.name for d in dataset.contract.state] == [d.name for d in dataset.contract.action] == names
    np.testing.assert_array_equal(dataset.state, dataset.action)


def test_convert_asks_which_way_is_up(call: Callable, tmp_path: Path) -> None:
    """A file of LIBERO whose attributes were lost."""
    frames = np.arange(3 * 6 * 8 * 3, dtype=np.uint8).reshape(3, 6, 8, 3)
    with h5py.File(tmp_path / "open_the_drawer_demo.hdf5", "w") as file:
        file["data/demo_0/actions"] = file["data/demo_0/obs/joint_states"] = np.ones((3, 7), np.float32)
        file["data/demo_0/obs/agentview_rgb"] = file["data/demo_0/obs/eye_in_hand_rgb"] = frames
    command = ("data", "convert", tmp_path / "open_the_drawer_demo.hdf5", tmp_path / "out", "--engine", "inline")
    answer = call(*command)
    assert (answer.code, "give --flip-images" in answer.err, answer.err.count("\n")) == (2, True, 1)
    assert not (tmp_path / "out").exists()
    assert call(*command, "--flip-images", "agentview").code == 0
    images = Dataset.open(tmp_path / "out").read_episode(0).images
    np.testing.assert_array_equal(images["agentview"], frames[:, ::-1])
    np.testing.assert_array_equal(images["eye_in_hand"], frames)
    assert "agentview are turned, as asked" in call("data", "validate", tmp_path / "out").out
    shutil.rmtree(tmp_path / "out")
    assert call(*command, "--flip-images").code == 0
    np.testing.assert_array_equal(Dataset.open(tmp_path / "out").read_episode(0).images["agentview"], frames)


def test_convert_needs_a_target(call: Callable, collected: Path, tmp_path: Path) -> None:
    for more, said in (((), "the dataset to import into"), (("--to", "lerobot"), "a path to export to")):
        answer = call("data", "convert", collected, *more)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_convert_what_nobody_knows(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    answer = call("data", "convert", tmp_path / "notes.txt", tmp_path / "x")
    assert answer.code == 2
    assert "lerobot: a folder with meta/info.json" in answer.err
    assert not (tmp_path / "x").exists()


def test_convert_refuses_options_that_nobody_takes(call: Callable, tmp_path: Path) -> None:
    for more, said in (
        (("--describe", "nowhere.yaml"), "description nowhere.yaml does not exist"),
        (("--describe-template", "x.yaml"), "leave out the dataset"),
        (("--from", "lerobot", "--set", "state=[/joints]"), "lerobot has no options"),
        (("--from", "mcap", "--set", "states=[/joints]"), "did you mean 'state'"),
        (("--from", "mkap"), "unknown dataset format 'mkap': did you mean 'mcap'"),
        (("--to", "mcap"), "is read, not written; written are lerobot, robomimic, diffusion-policy"),
    ):
        answer = call("data", "convert", tmp_path, tmp_path / "x", *more)
        assert (answer.code, said in answer.err) == (2, True), answer.err


def test_bench(call: Callable, collected: Path, tmp_path: Path) -> None:
    arguments = ("--seconds", 0.2, "--loaders", 0, "--json", tmp_path / "b.json")
    assert call("data", "bench", collected, *arguments).code == 0
    assert _json(tmp_path / "b.json")["frames_per_s"] > 0
