"""A checkpoint that version 1 wrote answers, once it is upgraded, what it answered then."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vla.core.errors import CheckpointError
from vla.core.fit import limits
from vla.core.types import ActionChunk, Observation
from vla.models import upgrade
from vla.models.checkpoint import read_blueprint
from vla.models.upgrade import upgrade_checkpoint
from vla.policies.learned import LearnedPolicy

VERSION1 = Path(__file__).parents[1] / "version1"
EXPECTED = json.loads((VERSION1 / "expected.json").read_text())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    with zipfile.ZipFile(VERSION1 / "checkpoint.zip") as archive:
        archive.extractall(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def _answer(checkpoint: Path) -> ActionChunk:
    policy = LearnedPolicy(checkpoint, device="cpu")
    rng = np.random.default_rng(EXPECTED["seed"])
    images = {c.name: rng.integers(0, 256, c.shape, dtype=np.uint8) for c in policy.contract.cameras}
    state = np.array(EXPECTED["state"], np.float32)
    observation = Observation(images=images, state=state, instruction=EXPECTED["instruction"], time_ns=0)
    (chunk,) = policy.act([observation])
    assert chunk is not None
    return chunk


def _expected_actions(checkpoint: Path) -> np.ndarray:
    """What version 1 answered, where the robot can go: commands beyond its limits are brought inside today."""
    return np.clip(np.array(EXPECTED["actions"]), *limits(read_blueprint(checkpoint).contract.action))


def test_it_answers_what_it_answered(checkpoint: Path) -> None:
    assert upgrade_checkpoint(checkpoint) == "converted"
    chunk = _answer(checkpoint)
    np.testing.assert_allclose(chunk.actions, _expected_actions(checkpoint), atol=1e-5)
    beliefs = np.concatenate([chunk.signals["grounding"], chunk.signals["pointing"]])
    np.testing.assert_allclose(beliefs, EXPECTED["grounding"], atol=1e-5)


def test_it_is_refused_before_and_names_the_command(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="vla upgrade"):
        read_blueprint(checkpoint)


def test_the_old_one_is_kept_and_twice_is_harmless(checkpoint: Path) -> None:
    before = {p.name: p.read_bytes() for p in checkpoint.iterdir()}
    upgrade_checkpoint(checkpoint)
    old = checkpoint.with_name("checkpoint-version1")
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before
    after = {p.name: p.read_bytes() for p in checkpoint.iterdir()}
    assert upgrade_checkpoint(checkpoint) == "current"
    assert {p.name: p.read_bytes() for p in checkpoint.iterdir()} == after


@pytest.mark.parametrize("renames", [0, 1])
def test_stopped_anywhere_it_goes_on(checkpoint: Path, renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def rename(a: Path, b: Path) -> None:
        if str(a).startswith(str(checkpoint.parent)) and Path(a).is_dir():
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(str(a))
        original(a, b)

    original = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(upgrade.os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            upgrade_checkpoint(checkpoint)
    assert upgrade_checkpoint(checkpoint) == "converted"
    np.testing.assert_allclose(_answer(checkpoint).actions, _expected_actions(checkpoint), atol=1e-5)


def test_what_is_no_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        upgrade_checkpoint(tmp_path)
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint of version 1"):
        upgrade_checkpoint(checkpoint)
