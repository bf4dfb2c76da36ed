"""From demonstrations with questions to a checkpoint that answers and imagines: through data, training and commands."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.bench.modalities.bench import bench_modalities
from vla.bench.settings import ModalitiesConfig
from vla.cli.main import main
from vla.core.errors import ConfigError, DatasetError
from vla.core.types import Question
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.windows import Windows
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]


def _bench(checkpoint: Path) -> ModalitiesConfig:
    out = checkpoint.parent / "bench"
    return ModalitiesConfig(
        checkpoint=str(checkpoint), against=str(checkpoint), scenes=2, questions=2, boxes=1, episodes=1, out=str(out)
    )


def _run(*words: str) -> int:
    import sys

    before = sys.argv
    sys.argv = ["vla", *words]
    try:
        return main()
    finally:
        sys.argv = before


@pytest.fixture
def recipe(asked: Path, codes: Path, make_recipe: MakeRecipe) -> MakeRecipe:
    def make(**changes: Any) -> TrainConfig:
        writers = {"answers": {"kind": "text"}, "ends": {"kind": "picture", "path": str(codes), "rounds": 2}}
        base = make_recipe()
        config = make_recipe(
            data={"path": str(asked), "validation": 0.25, "strata": {"questions": 0.5}},
            model={
                "trunk": {"width": 32, "layers": 1, "heads": 2},
                "readers": {"text": {"kind": "text"}, "images": {"kind": "images", "channels": 8, "tokens": 4}},
                "head": {"bins": 16},
                "auxiliaries": {"grounding": {"kind": "grounding", "bins": 8}},
                "writers": writers,
            },
            augmentation={"channels": 0.5, "colours": ["red"], "rotate": 0.5},
            **changes,
        )
        assert base.batch == config.batch
        return config

    return make


def test_questions_are_samples_of_their_own(asked: Path) -> None:
    data = Dataset.open(asked)
    plain, windows = Windows(data, 4), Windows(data, 4, written=("answer", "goal"))
    records = [(number, q) for number, found in data.episodes.questions() for q in found]
    assert len(records) == 8 * 5
    assert windows.steps == len(plain)
    assert len(windows) == len(plain) + len(records)
    assert np.array_equal(windows.first_items(), plain.first_items())
    items = np.arange(len(windows))
    batch = windows.batch(items)
    asks = items >= windows.steps
    assert np.array_equal(batch["answer"] < 0, ~asks)
    assert not batch["action_valid"][asks].any()
    for name in data.signals:
        assert np.array_equal(batch[f"signals/{name}"][~asks], plain.batch(items[~asks])[f"signals/{name}"])
    for item, (episode, question) in zip(items[asks], records, strict=True):
        assert windows.instructions[batch["instruction"][item]] == question.text
        assert windows.answers[batch["answer"][item]] == question.answer
        assert batch["index"][item] == data.episode_starts[episode] + question.step
        for name, signal in data.signals.items():  # of what it is about, and of nothing where it is about too much
            told = question.signals.get(name, (np.nan,) * signal.shape[1])
            np.testing.assert_array_equal(batch[f"signals/{name}"][item], np.float32(told))
        assert np.array_equal(batch["images"][item, 0, 0], data.frame("front", batch["index"][item]))
    assert windows.instructions[: len(plain.instructions)] == plain.instructions
    assert {bool(question.signals) for _, question in records} == {True, False}


def test_ends_are_those_of_successes(asked: Path) -> None:
    data = Dataset.open(asked)
    data.episodes.success[2] = 0
    windows = Windows(data, 4, written=("goal",))
    batch = windows.batch(np.arange(len(windows)))
    every = np.arange(len(windows)) % 8 == 0
    assert np.array_equal(batch["goal_valid"], every & (batch["episode"] != 2))
    assert batch["goal_valid"].sum() > 5
    for item in np.flatnonzero(batch["goal_valid"]):
        last = data.episode_starts[batch["episode"][item]] + data.episode_lengths[batch["episode"][item]] - 1
        assert np.array_equal(batch["goal"][item, 1], data.frame("wrist", int(last)))


def test_questions_survive_copies_and_refuse_what_is_wrong(asked: Path, tmp_path: Path) -> None:
    source = Dataset.open(asked)
    episode = source.read_episode(1)
    assert len(episode.questions) == 5
    create_dataset(tmp_path / "copy", source.contract)
    with SegmentWriter(tmp_path / "copy", source.contract, {}) as writer:
        writer.append(episode)
        wrong = (Question(text="where", answer="here", step=len(episode)),)
        with pytest.raises(DatasetError, match=rf"'where' is asked of step {len(episode)}: expected 0 to"):
            writer.append(replace(episode, questions=wrong))
        with pytest.raises(DatasetError, match=r"expected words, got an empty answer at step 0"):
            writer.append(replace(episode, questions=(Question(text="where", answer=" "),)))
        for signals in ({"grounding": (1.0,)}, {"smell": (1.0,)}, {"grounding": (math.inf,) * 5}):
            with pytest.raises(DatasetError, match=r"'where' at step 0 says .* of signal (grounding|smell): expected"):
                writer.append(replace(episode, questions=(Question(text="where", answer="here", signals=signals),)))
        unknown = Question(text="where", answer="here", signals={"grounding": (0.1, math.nan, 0.0, 0.2, 0.3)})
        writer.append(replace(episode, questions=(unknown,)))
        publish(tmp_path / "copy", [writer.seal()], "a copy")
    assert Dataset.open(tmp_path / "copy").read_episode(0).questions == episode.questions
    (read,) = Dataset.open(tmp_path / "copy").read_episode(1).questions
    np.testing.assert_array_equal(read.signals["grounding"], unknown.signals["grounding"])


@pytest.mark.parametrize("format_", ["robomimic", "lerobot"])
def test_an_export_says_that_it_leaves_them_behind(
    format_: str, asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("data", "convert", str(asked), str(tmp_path / "out.hdf5"), "--to", format_) == 0
    assert "Questions and their answers, in 8 episodes" in " ".join(capsys.readouterr().out.split())


def test_batches_hold_their_share_of_questions(recipe: MakeRecipe) -> None:
    samples = open_samples(recipe())
    batch = samples.batches(batch=8, rank=0, world=1, start=0)[0]
    answer = batch.targets.written["answer"]
    assert len(answer.rows) == 4
    acting = batch.targets.acting
    assert acting is not None
    assert len(acting) == 4
    assert batch.targets.valid[acting].any()
    words = samples.blueprint.preprocessor
    said = [text for text, known in zip(words.said(answer), answer.known.any(dim=1), strict=True) if known]
    assert set(said) <= set(samples.train.answers)


def test_a_share_of_questions_has_to_be_said(recipe: MakeRecipe, make_recipe: MakeRecipe) -> None:
    config = recipe()
    with pytest.raises(ConfigError, match=r"train.data.strata: the model learns to answer, and the data asks \d+"):
        open_samples(replace(config, data=replace(config.data, strata={"approach": 0.5})))


def test_a_run_answers_imagines_and_acts(
    recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = train(recipe(steps=3, gradient_steps=1), tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "train"]
    for name in ("action_loss", "answer_loss", "answer_right", "gradient_norm/answers"):
        assert name in lines[-1], name
    assert any("goal_loss" in line for line in lines)
    found = tmp_path / "answers.json"
    words = ["--set", "image_size=32", "--steps", "2"]
    assert _run("ask", str(checkpoint), *words, "--json", str(found), "--out", str(tmp_path / "a.png")) == 0
    answers = json.loads(found.read_text())["answers"]
    assert len(answers) == 12
    assert all(row["right"] for row in answers)
    assert _run("ask", str(checkpoint), "what is your name", *words, "--json", str(found)) == 0
    (one,) = json.loads(found.read_text())["answers"]
    assert one["right"] is None
    assert _run("imagine", str(checkpoint), *words, "--out", str(tmp_path / "goal.png")) == 0
    rows = {row.name.split(" (")[0]: row for row in bench_modalities(_bench(checkpoint), lambda text: None)}
    assert rows["answers, wrong, against the commonest answer"].against is not None
    assert rows["the block is not on the plate in what is imagined"].bar == 20
    unknown = rows["boxes, mean of 1 - intersection over union, against the same model without pictures"]
    assert (unknown.value, unknown.against) == (100, 100)  # it has never been told a number
    (acting,) = [row for name, row in rows.items() if name.startswith("scenes that are failed")]
    assert acting.value == acting.against
    for picture in ("a.png", "goal.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "→" in capsys.readouterr().out


def test_a_checkpoint_that_only_acts_says_so(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    checkpoint = train(make_recipe(steps=1), tmp_path / "run")
    policy = LearnedPolicy(checkpoint)
    with pytest.raises(ConfigError, match=r"was not trained to write its answer; train one with a writer of kind text"):
        policy.ask([], [])


def test_words_of_questions_keep_their_order(recipe: MakeRecipe) -> None:
    """Rotated they would ask something else; commands are rotated all the same."""
    from vla.training.loop import _altering

    config = recipe()
    samples = open_samples(replace(config, augmentation=replace(config.augmentation, words=0.0, rotate=1.0)))
    augmentation = replace(config.augmentation, words=0.0, rotate=1.0)
    alter = _altering(augmentation, samples.blueprint.preprocessor, samples.train, None)
    batch = samples.batches(batch=16, rank=0, world=1, start=0)[0]
    torch.manual_seed(0)
    inputs, _ = alter(batch.inputs, batch.targets)
    acting = batch.targets.acting
    assert acting is not None
    length = inputs.text.shape[1]
    asks = torch.ones(16, dtype=torch.bool).scatter(0, acting, False)
    assert torch.equal(inputs.text[asks], batch.inputs.text[asks, :length])
    assert not torch.equal(inputs.text[acting], batch.inputs.text[acting, :length])
    changed = (inputs.images != batch.inputs.images).flatten(1).any(dim=1)
    assert not changed[asks].any()  # an answer may name a colour that its question does not


def test_a_picture_of_the_end_changes_as_the_present_does() -> None:
    from tests.training.augmentation.test_pictures import _augmentation, _batch
    from vla.models.trunk.inputs import Written

    inputs, targets = _batch(0)
    goal = Written(value=inputs.images[:, -1].clone(), known=torch.ones(len(inputs), 2, dtype=torch.bool))
    with_goal = replace(targets, written={"goal": goal})
    torch.manual_seed(1)
    changed, also = _augmentation(shift=0.2, crop=0.2, brightness=0.2)(inputs, with_goal)
    assert torch.equal(also.written["goal"].value, changed.images[:, -1])
    assert not torch.equal(changed.images, inputs.images)
