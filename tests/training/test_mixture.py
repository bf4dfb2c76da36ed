"""Robots trained together: one scale for each, a loss that counts what each has, and a checkpoint that acts for all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.core.action_transform import ActionTransform
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Observation
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.settings import MixtureConfig
from vla.datasets.sampling.statistics import compute, scale_of
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.models.checkpoint import load_model
from vla.policies.learned import LearnedPolicy
from vla.training.engines import Stopped, train
from vla.training.loop import STOP
from vla.training.metrics import read_metrics
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples

MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def slide(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another robot: two lengths and one camera, at the rate of the first, and no signal."""
    root = tmp_path_factory.mktemp("slide") / "slide"
    source = Dataset.open(dataset)
    axes = tuple(Dimension(name=name, unit="m", low=0.0, high=5.0) for name in "xy")
    camera = Camera(name="top", height=24, width=20)
    contract = Contract(
        robot="slide", cameras=(camera,), state=axes, action=axes, control_hz=source.contract.control_hz
    )
    create_dataset(root, contract)
    rng = np.random.default_rng(0)
    with SegmentWriter(root, contract, {}) as writer:
        for number in range(4):
            episode = source.read_episode(number)
            t = len(episode)
            way = rng.uniform(1, 2, (t, 2)).astype(np.float32)
            writer.append(
                replace(
                    episode,
                    images={"top": rng.integers(0, 256, (t, *camera.shape), np.uint8)},
                    state=way,
                    action=way + 1,
                    action_executed=way + 1,
                    signals={},
                    sim_state=None,
                    instruction="slide along",
                )
            )
        publish(root, [writer.seal()], "test")
    return root


@pytest.fixture(scope="module")
def twin(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More of the first robot, which moves less there."""
    root = tmp_path_factory.mktemp("twin") / "twin"
    source = Dataset.open(dataset)
    create_dataset(root, source.contract)
    with SegmentWriter(root, source.contract, {}) as writer:
        for number in range(3):
            episode = source.read_episode(number)
            writer.append(replace(episode, state=episode.state * 0.5, action=episode.action * 0.5))
        publish(root, [writer.seal()], "test")
    return root


MakeMixture = Callable[..., TrainConfig]


@pytest.fixture
def make_mixture(make_recipe: MakeRecipe, dataset: Path) -> MakeMixture:
    def make(*others: Path, **changes: Any) -> TrainConfig:
        slots = {"base": "front", "hand": "wrist"}
        names = {c.name for c in Dataset.open(dataset).contract.cameras}
        assert names >= set(slots.values())
        entries = [{"path": str(dataset), "weight": 2.0, "cameras": slots}]
        for path in others:
            own = {"base": "top"} if Dataset.open(path).contract.robot == "slide" else slots
            entries.append({"path": str(path), "cameras": own})
        mixture = {"slots": list(slots), "image_size": [32, 32], "entries": entries}
        data = {"path": "", "strata": {}, "mixture": mixture, "validation": 0.25}
        return make_recipe(data=data | changes.pop("data", {}), **changes)

    return make


def _observe(contract: Contract, seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    return Observation(
        images={c.name: rng.integers(0, 256, c.shape, np.uint8) for c in contract.cameras},
        state=np.array([(d.low + d.high) / 2 for d in contract.state], np.float32),
        instruction="slide along",
        time_ns=seed,
    )


def test_two_robots_train_and_the_checkpoint_acts_for_each(
    make_mixture: MakeMixture, slide: Path, dataset: Path, tmp_path: Path
) -> None:
    config = make_mixture(slide, steps=2)
    checkpoint = train(config, tmp_path / "run")
    blueprint, _ = load_model(checkpoint)
    contracts = [Dataset.open(path).contract for path in (dataset, slide)]
    assert [e.contract.robot for e in blueprint.preprocessor.embodiments] == [c.robot for c in contracts]
    assert [(v.path, v.manifest) for v in blueprint.datasets] == [(dataset.name, 1), (slide.name, 1)]
    assert len(blueprint.statistics) == 2
    for contract in contracts:
        policy = LearnedPolicy(checkpoint, robot=contract, device="cpu")
        assert policy.contract.robot == contract.robot
        chunks = policy.act([_observe(contract, seed) for seed in range(3)])
        for chunk in chunks:
            assert chunk is not None
            assert chunk.actions.shape == (config.model.horizon, len(contract.action))
            assert np.isfinite(chunk.actions).all()
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [1, 2]


def test_a_resumed_mixture_is_exact(make_mixture: MakeMixture, slide: Path, tmp_path: Path) -> None:
    config = make_mixture(slide, steps=4)

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            (tmp_path / "halves" / STOP).touch()

    whole = train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "halves", stop)
    halves = train(config, tmp_path / "halves")
    ours, theirs = (load_model(path)[1].state_dict() for path in (whole, halves))
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_each_robot_is_scaled_by_its_own_statistics(make_mixture: MakeMixture, slide: Path) -> None:
    """Its quantiles become -1 and 1, and what is learned becomes absolute again."""
    samples = open_samples(make_mixture(slide, data={"validation": 0.0}))
    preprocessor, horizon = samples.blueprint.preprocessor, samples.blueprint.config.horizon
    arrays = samples.train.batch(np.arange(len(samples.train)))
    batch = preprocessor.samples(arrays, preprocessor.texts(samples.train.instructions))
    for number, robot in enumerate(preprocessor.embodiments):
        mine = arrays["embodiment"] == number
        data = Dataset.open(samples.train.parts[number].dataset.url)  # type: ignore[attr-defined]
        statistics = compute(data, ActionTransform.of(data.contract), horizon)
        assert (robot.state, robot.action) == (statistics.state, statistics.action)
        assert statistics.hash in samples.blueprint.statistics
        d, s = data.action.shape[1], data.state.shape[1]
        targets = batch.targets.actions[mine].numpy()
        valid = batch.targets.valid[mine].numpy()
        assert not valid[..., d:].any()
        assert not targets[..., d:].any()
        assert not batch.inputs.state[mine][..., s:].any()
        inside = targets[valid[..., 0]]
        for i, kind in enumerate(robot.action.kind):
            if kind == "ok":
                np.testing.assert_allclose(np.quantile(inside[:, i], [0.01, 0.99]), [-1, 1], atol=1e-4)
        offsets = robot.action.denormalise(targets[..., :d])
        absolute = robot.space.undo(arrays["state"][mine][:, -1, :s], offsets)
        np.testing.assert_allclose(absolute, arrays["actions"][mine][..., :d], atol=1e-5)


def test_datasets_of_one_robot_have_one_scale(make_mixture: MakeMixture, twin: Path, dataset: Path) -> None:
    samples = open_samples(make_mixture(twin, data={"validation": 0.0}))
    (robot,) = samples.blueprint.preprocessor.embodiments
    datasets = [Dataset.open(path) for path in (dataset, twin)]
    space = ActionTransform.of(datasets[0].contract)
    pooled = scale_of([(data, None, None) for data in datasets], space, samples.blueprint.config.horizon)
    assert (robot.state, robot.action) == (pooled.state, pooled.action)
    assert samples.blueprint.statistics == pooled.hashes
    alone = open_samples(make_mixture(data={"validation": 0.0})).blueprint.preprocessor.embodiments[0]
    assert robot.state.count == alone.state.count + int(datasets[1].valid.sum())


def test_episodes_are_held_out_of_each_dataset(make_mixture: MakeMixture, slide: Path) -> None:
    samples = open_samples(make_mixture(slide))
    for source, other in ((samples.train, samples.validation), (samples.validation, samples.train)):
        for mine, theirs in zip(source.parts, other.parts, strict=True):  # type: ignore[attr-defined]
            assert len(mine.windows)
            assert not set(mine.windows.owner) & set(theirs.windows.owner)
    first = samples.held_out(samples.validation.first_items())
    assert first.inputs.embodiment.unique().tolist() == [0, 1]
    assert first.targets.signals["grounding"][first.inputs.embodiment == 1].isnan().all()


def test_a_mixture_is_measured_where_it_can_be(make_mixture: MakeMixture, slide: Path, tmp_path: Path) -> None:
    """The second robot has no signals: what is known of the first counts, and everything stays finite."""
    train(make_mixture(slide, steps=2, validate_s=1e-6), tmp_path)
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "validation"]
    assert len(lines) == 2
    assert all(0 < line["first_frame_grounding_error"] < 2 for line in lines)


def test_signals_that_nothing_held_out_knows_are_not_measured(
    make_mixture: MakeMixture, slide: Path, dataset: Path, tmp_path: Path
) -> None:
    """Of the robot that has signals too few episodes may be there to hold one out; that is no divergence, and no 0."""
    config = make_mixture(slide, data={"validation": 0.13}, steps=1, validate_s=1e-6)
    data = replace(config.data, mixture=_only(config, dataset, tmp_path / "few"))
    train(replace(config, data=data), tmp_path / "run")
    (line,) = [line for line in read_metrics(tmp_path / "run") if line["kind"] == "validation"]
    assert {"action_loss", "first_frame_action_error"} <= line.keys()
    assert not [name for name in line if "grounding" in name or "pointing" in name]


def _only(config: TrainConfig, dataset: Path, root: Path) -> MixtureConfig:
    """The mixture with three episodes of the first dataset alone, of which 13 % are none."""
    source = Dataset.open(dataset)
    create_dataset(root, source.contract)
    with SegmentWriter(root, source.contract, {}) as writer:
        for number in range(3):
            writer.append(source.read_episode(number))
        publish(root, [writer.seal()], "test")
    mixture = config.data.mixture
    assert mixture is not None
    first, *rest = mixture.entries
    return replace(mixture, entries=(replace(first, path=str(root)), *rest))


def test_a_robot_of_which_everything_is_held_out_is_refused(make_mixture: MakeMixture, slide: Path) -> None:
    split = Dataset.open(slide).episodes[0].split
    with pytest.raises(DatasetError, match="no step of it may be learned from"):
        open_samples(make_mixture(slide, data={"held_out": split}))
