"""What is measured while training: on what was held out, absent where there is nothing, and never 0 instead."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.core.errors import UnknownNameError
from vla.models.model import Model
from vla.models.trunk.inputs import Batch
from vla.training.engines import train
from vla.training.evaluators import EVALUATORS, FirstFrames, HeldOutLoss
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import Samples, open_samples

MakeRecipe = Callable[..., TrainConfig]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(make_recipe: MakeRecipe) -> Samples:
    return open_samples(make_recipe())


def _model(samples: Samples) -> Model:
    torch.manual_seed(0)
    return samples.blueprint.build().eval().requires_grad_(False)


def _all_held_out(samples: Samples) -> Batch:
    return samples.held_out(np.arange(len(samples.validation)))


def test_the_held_out_loss_is_that_of_the_model(samples: Samples) -> None:
    model = _model(samples)
    count = len(samples.validation)
    assert count <= 256, "then the sample is everything"
    batch = _all_held_out(samples)
    _, expected = model.loss(batch.inputs, batch.targets)
    found = dict(HeldOutLoss(samples, seed=0)(model, CPU))
    assert found.keys() == {"action_loss", "grounding_loss", "grounding_error", "pointing_loss"}
    for name, value in found.items():
        assert value == pytest.approx(expected[name].item(), rel=1e-5)


def test_the_sample_is_fixed(samples: Samples) -> None:
    model = _model(samples)
    first, again = (dict(HeldOutLoss(samples, seed=3)(model, CPU)) for _ in range(2))
    assert first == again


def test_first_frames_are_measured_in_units_of_each_signal(samples: Samples) -> None:
    model = _model(samples)
    batch = samples.held_out(samples.validation.first_items())
    answer = model.act(batch.inputs)
    found = dict(FirstFrames(samples, seed=0)(model, CPU))
    assert found.keys() == {
        "first_frame_action_error",
        "first_frame_grounding_error",
        "first_frame_pointing_error",
    }
    difference = (answer.actions - batch.targets.actions).abs()
    assert found["first_frame_action_error"] == pytest.approx(difference[batch.targets.valid].mean().item())
    for name in ("grounding", "pointing"):
        error = (answer.signals[name] - batch.targets.signals[name]).abs().nanmean().item()
        assert found[f"first_frame_{name}_error"] == pytest.approx(error)


@pytest.mark.parametrize("name", EVALUATORS)
def test_where_nothing_is_held_out_nothing_is_said(name: str, make_recipe: MakeRecipe) -> None:
    everything = open_samples(make_recipe(data={"validation": 0.0}))
    assert len(everything.validation) == 0
    assert list(EVALUATORS[name](everything, 0)(_model(everything), CPU)) == []


@pytest.mark.parametrize("name", EVALUATORS)
def test_without_signals_only_actions_are_measured(name: str, bare: Path, make_recipe: MakeRecipe) -> None:
    samples = open_samples(make_recipe(data={"path": str(bare)}))
    found = dict(EVALUATORS[name](samples, 0)(_model(samples), CPU))
    assert found.keys() == {"action_loss" if name == "held_out" else "first_frame_action_error"}
    assert all(0 < value < math.inf for value in found.values())


def test_a_run_logs_them(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(steps=2, validate_s=1e-6, evaluators=["first_frames"]), tmp_path)
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "validation"]
    assert [line["step"] for line in lines] == [1, 2]
    assert all("first_frame_action_error" in line and "action_loss" not in line for line in lines)


def test_an_unknown_evaluator_is_answered_with_the_list(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown evaluator 'heldout': did you mean 'held_out'"):
        train(make_recipe(evaluators=["heldout"]), tmp_path)
