"""The log of a run: lines that are numbers, each step once."""

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.core.errors import ConfigError, VlaError
from vla.training.metrics import Means, MetricsLog, read_metrics
from vla.training.parallel import Single


def _nothing(line: dict[str, Any]) -> None:
    pass


def test_lines_are_written_and_passed_on(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    log = MetricsLog(tmp_path, heard.append, step=0)
    log.write("train", 1, 0.123456, {"loss": 2.5})
    log.write("validation", 1, 0.5, {"action_loss": 1.0, "other": -0.25})
    expected = [
        {"kind": "train", "step": 1, "seconds": 0.12, "loss": 2.5},
        {"kind": "validation", "step": 1, "seconds": 0.5, "action_loss": 1.0, "other": -0.25},
    ]
    assert read_metrics(tmp_path) == heard == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_ends_the_run_and_is_not_written(tmp_path: Path, bad: float) -> None:
    log = MetricsLog(tmp_path, _nothing, step=0)
    with pytest.raises(VlaError, match=r"diverged at step 3: grad, loss is not finite; lower optimiser\.lr"):
        log.write("train", 3, 1.0, {"grad": bad, "fine": 1.0, "loss": bad})
    assert read_metrics(tmp_path) == []


def test_a_resumed_run_drops_what_it_repeats(tmp_path: Path) -> None:
    first = MetricsLog(tmp_path, _nothing, step=0)
    for step in (1, 2, 3):
        first.write("train", step, 0.0, {"loss": 1.0})
    MetricsLog(tmp_path, _nothing, step=2).write("train", 3, 9.0, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}]
    assert read_metrics(tmp_path / "nowhere") == []


@pytest.mark.parametrize("line", ["", "3", '{"kind": "train"}', '{"step": 1, "loss": 0.1', '{"step": "1"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + f"\n{line}\n")
    with pytest.raises(VlaError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_metrics(tmp_path)


def test_a_note_is_written_once(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    for _ in range(2):
        MetricsLog(tmp_path, heard.append, step=0).event("note", text="nothing is held out")
    assert read_metrics(tmp_path) == heard == [{"kind": "note", "step": 0, "text": "nothing is held out"}]


def _step(loss: float, **parts: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in {"loss": loss, **parts}.items()}


def _means(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> Means:
    """Of steps of 8 samples, by a clock that goes on by so much with each row."""
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr("vla.training.metrics.time.monotonic", lambda: next(clock))
    return Means(samples=8)


def test_means_are_of_the_steps_in_which_a_part_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    means = _means(monkeypatch, seconds=2.0)
    means.add(_step(1.0, grounding_loss=math.nan, pointing_loss=math.nan))
    means.add(_step(2.0, grounding_loss=5.0, pointing_loss=math.nan))
    assert means.take(Single("cpu")) == {"loss": 1.5, "grounding_loss": 5.0, "samples_per_s": 8.0}
    means.add(_step(4.0, grounding_loss=1.0, pointing_loss=0.0))
    expected = {"loss": 4.0, "grounding_loss": 1.0, "pointing_loss": 0.0, "samples_per_s": 4.0}
    assert means.take(Single("cpu")) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_is_no_missing_measurement(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    means = _means(monkeypatch, seconds=1.0)
    means.add(_step(1.0, action_loss=1.0))
    means.add(_step(bad, action_loss=bad))
    row = means.take(Single("cpu"))
    assert row.pop("samples_per_s") == 16.0
    assert not any(math.isfinite(value) for value in row.values())


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, _nothing, step=0)
    for step in (1, 2):
        log.write("train", step, 0.0, {"loss": 1.0 / step})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]


def test_weights_and_biases_is_asked_for_and_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    MetricsLog(tmp_path, _nothing, step=0).close()
    with pytest.raises(ConfigError, match=r"train\.wandb=mine: .* not installed; pip install wandb"):
        MetricsLog(tmp_path, _nothing, step=0, wandb="mine")


def test_weights_and_biases_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is optional")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for step in (0, 1):  # the second is a resumed run
        log = MetricsLog(tmp_path, _nothing, step=step, wandb="mine")
        log.write("train", step + 1, 0.0, {"loss": 0.5})
        log.close()
    kept = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len({path.name for path in kept}) == 1, "one run of theirs"
    assert b"train/loss" in b"".join(path.read_bytes() for path in kept)
