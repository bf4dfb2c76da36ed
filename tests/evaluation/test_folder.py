"""The folder of an evaluation keeps every episode, and refuses what does not belong there."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla.core.errors import VlaError
from vla.evaluation.folder import ResultFolder, read_episodes, read_result, sessions, write_result
from vla.evaluation.result import EvaluationResult, PolicyIdentity
from vla.evaluation.rows import summarise
from vla.evaluation.runner import Origin
from vla.evaluation.trials import Condition, EpisodeResult, Trial

_IDENTITY = {"seed": 0, "settings": {"blocks": 2}, "versions": {"mujoco": "3.3.0"}}


def _ended(seed: int) -> tuple[Trial, EpisodeResult]:
    actions = np.full((2, 3), seed, np.float32)
    result = EpisodeResult(seed=seed, instruction="go", goal="there", success=True, steps=2, actions=actions)
    return Trial(condition=Condition(env="x", perturbation={"image_noise": 5.0}), seed=seed), result


def test_what_was_kept_is_there_for_the_next_session(tmp_path: Path) -> None:
    with ResultFolder(tmp_path, _IDENTITY, {"git": "one"}) as folder:
        folder.append(*_ended(3))
    with ResultFolder(tmp_path, _IDENTITY, {"git": "two"}) as folder:
        folder.append(*_ended(4))
        trial, _ = _ended(3)
        assert list(folder.outcome.results) == [trial.key]
    assert [trial.seed for trial, _ in read_episodes(tmp_path)] == [3, 4]
    np.testing.assert_array_equal(read_episodes(tmp_path)[1][1].actions, np.full((2, 3), 4, np.float32))
    assert [session["git"] for session in sessions(tmp_path)] == ["one", "two"]


def test_another_evaluation_is_refused(tmp_path: Path) -> None:
    ResultFolder(tmp_path, _IDENTITY, {}).__exit__(None, None, None)
    changed = _IDENTITY | {"settings": {"blocks": 3}, "more": 1}
    with pytest.raises(VlaError, match=r"settings\.blocks: 2 there, 3 now; more: None there, 1 now"):
        ResultFolder(tmp_path, changed, {})
    ResultFolder(tmp_path, _IDENTITY, {}).__exit__(None, None, None)


def test_another_renderer_is_refused(tmp_path: Path) -> None:
    with ResultFolder(tmp_path, _IDENTITY, {}) as folder:
        folder.outcome.origins["x"] = Origin(env="x", renderer="llvmpipe", contract="abc")
        folder.append(*_ended(0))
    with ResultFolder(tmp_path, _IDENTITY, {}) as folder:
        assert folder.outcome.origins["x"].renderer == "llvmpipe"
        folder.outcome.origins["x"] = Origin(env="x", renderer="NVIDIA", contract="abc")
        with pytest.raises(VlaError, match="renderer: 'llvmpipe' there, 'NVIDIA' now"):
            folder.append(*_ended(1))


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with ResultFolder(tmp_path, _IDENTITY, {}), pytest.raises(VlaError, match="another process"):
        ResultFolder(tmp_path, _IDENTITY, {})


def test_results_are_read_from_folders_and_files(tmp_path: Path) -> None:
    with ResultFolder(tmp_path, _IDENTITY, {}), pytest.raises(VlaError, match="not finished"):
        read_result(tmp_path)
    trial, episode = _ended(3)
    row = summarise(trial.condition, [episode])
    result = EvaluationResult(
        policy=PolicyIdentity(name="p"), success=row.success, rows=(row,), origins={}, config={}, provenance={}
    )
    write_result(tmp_path, result)
    assert read_result(tmp_path) == read_result(tmp_path / "result.json") == result
    (tmp_path / "other.json").write_text(json.dumps({"kind": "bench"}))
    with pytest.raises(VlaError, match="not a result"):
        read_result(tmp_path / "other.json")
    (tmp_path / "other.json").write_text("{")
    with pytest.raises(VlaError, match="damaged"):
        read_result(tmp_path / "other.json")
