"""Each mistake that a user can make ends with exit code 2 and one line that names the fix."""

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla.datasets.dataset import Dataset

_QUICK = ("--episodes", "1", "--workers", "1")


def _assert_refused(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer.err
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    for word in words:
        assert word in lines[0]


def test_an_unknown_environment(call: Callable) -> None:
    _assert_refused(call("eval", "random", "--env", "tabletop/plaice", *_QUICK), "did you mean 'tabletop/place'?")


def test_an_unknown_environment_to_collect_in(call: Callable, tmp_path: Path) -> None:
    _assert_refused(
        call("collect", tmp_path / "new", "--env", "table", *_QUICK), "did you mean", "tabletop/", "vla envs lists"
    )
    assert not (tmp_path / "new").exists()


def test_an_unknown_colour(call: Callable) -> None:
    answer = call("eval", "random", *_QUICK, "--set", "colours=[red,bleu]")
    _assert_refused(answer, "colour 'bleu'", "did you mean 'blue'?")


def test_an_unknown_setting(call: Callable) -> None:
    _assert_refused(call("eval", "random", *_QUICK, "--set", "block=3"), "did you mean 'blocks'?")


def test_a_setting_without_value(call: Callable) -> None:
    _assert_refused(call("eval", "random", *_QUICK, "--set", "blocks"), "blocks=3")


def test_an_unknown_key_in_a_recipe(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("optimiser: {clp: 0.1}")
    _assert_refused(call("train", tmp_path / "r.yaml"), "r.yaml", "optimiser", "did you mean 'clip'?")


def test_a_wrong_type_in_a_recipe(call: Callable, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("optimiser: {lr: 1e-4}")
    _assert_refused(call("train", tmp_path / "r.yaml"), "optimiser.lr must be float", "write 1.0e-4")


def test_a_missing_recipe(call: Callable, tmp_path: Path) -> None:
    _assert_refused(call("train", tmp_path / "r.yaml"), "r.yaml does not exist")
    _assert_refused(call("train"), "vla train demo")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (("train", "RECIPE", "--steps", "many"), "--steps"),
        (("train", "RECIPE", "--stepps", "3"), "--stepps"),
        (("eval", "random", "--episodes", "x"), "--episodes"),
    ],
)
def test_a_wrong_flag_exits_with_2_and_names_it(call: Callable, recipe: Path, arguments: tuple, flag: str) -> None:
    answer = call(*(recipe if a == "RECIPE" else a for a in arguments))
    assert answer.code == 2
    assert flag in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_missing_dataset(call: Callable, recipe: Path, tmp_path: Path) -> None:
    answer = call("train", recipe, "--data.path", tmp_path / "nowhere", "--out", tmp_path / "run")
    _assert_refused(answer, "nowhere is no dataset")


def test_a_missing_checkpoint(call: Callable, tmp_path: Path) -> None:
    _assert_refused(call("eval", tmp_path / "nowhere", *_QUICK), "give a checkpoint folder, expert, random")
    _assert_refused(call("serve", tmp_path / "nowhere"), "nowhere does not exist", "vla train")


def test_no_policy(call: Callable) -> None:
    _assert_refused(call("eval"), "which policy?")


def test_an_environment_with_other_cameras_is_refused_before_the_weights(call: Callable, checkpoint: Path) -> None:
    (checkpoint / "weights.safetensors").unlink()
    answer = call("eval", checkpoint, *_QUICK, "--set", "image_size=16")
    _assert_refused(answer, "cameras.front: 32x32 ≠ 16x16", "cameras.wrist", "with the same settings")


def test_a_checkpoint_with_another_camera(call: Callable, edit_contract: Callable) -> None:
    checkpoint = edit_contract(lambda contract: contract["cameras"][1].update(name="overhead"))
    answer = call("eval", checkpoint, *_QUICK, "--set", "image_size=32")
    _assert_refused(answer, "contract.json is not of the robot in preprocessor.json", "copy the whole folder")


def test_truncated_weights(call: Callable, checkpoint: Path) -> None:
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    answer = call("eval", checkpoint, *_QUICK, "--set", "image_size=32")
    _assert_refused(answer, "weights.safetensors fails its checksum", "copy the whole checkpoint folder again")


def test_a_dataset_of_another_robot(call: Callable, dataset: Path) -> None:
    before = Dataset.open(dataset).manifest
    answer = call("collect", dataset, *_QUICK, "--set", "image_size=16")
    _assert_refused(answer, "cameras.front: 16x16 ≠ 32x32", "another folder")
    assert Dataset.open(dataset).manifest == before


def test_a_run_of_another_recipe(call: Callable, recipe: Path, dataset: Path, tmp_path: Path) -> None:
    train = ("train", recipe, "--data.path", dataset, "--out", tmp_path / "run")
    assert call(*train).code == 0
    _assert_refused(call(*train, "--batch", "2"), "batch: 4 there, 2 here", "another --out")


def test_a_busy_port(call: Callable, checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _assert_refused(call("serve", checkpoint, "--port", port), f"port {port}", "choose another with --port")


def test_a_public_address_needs_a_key(call: Callable, checkpoint: Path) -> None:
    _assert_refused(call("serve", checkpoint, "--host", "0.0.0.0"), "no API key", "127.0.0.1")


def test_a_server_that_is_not_there(call: Callable) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    _assert_refused(call("eval", "--server", f"ws://127.0.0.1:{port}", *_QUICK), str(port), "vla serve")


def test_no_gl(shell: Callable) -> None:
    env = dict(os.environ, MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_FILENAMES="/nonexistent.json")
    _assert_refused(shell("eval", "random", *_QUICK, env=env), "MUJOCO_GL=egl does not work here")


def test_mistakes_in_evaluation_processes_are_one_line_too(shell: Callable, checkpoint: Path) -> None:
    answer = shell("eval", checkpoint, "--episodes", "2", "--workers", "2")
    _assert_refused(answer, "cameras.front: 32x32 ≠ 64x64")


def _small_disk(size: int) -> Callable[[], None]:
    """No file may grow beyond ``size`` bytes: what a full disk looks like to a process."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_while_collecting_keeps_what_was_sealed(shell: Callable, dataset: Path, tmp_path: Path) -> None:
    import shutil

    root = shutil.copytree(dataset, tmp_path / "data")
    before = Dataset.open(root)
    arguments = ("collect", root, *_QUICK, "--seed", "50", "--set", "image_size=32")
    answer = shell(*arguments, before=_small_disk(6_000))  # an episode of a camera is one file of about 20 kB
    _assert_refused(answer, "disk full", f"{len(before.episodes)} episodes sealed before are safe", "free space")
    after = Dataset.open(root)
    assert after.manifest == before.manifest
    assert len(after.read_episode(len(after.episodes) - 1)) > 0
