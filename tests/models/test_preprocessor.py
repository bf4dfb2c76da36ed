"""Training and serving see the same numbers, bit for bit, and what a model answers becomes what was recorded."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.action_transform import ActionTransform
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError, ContractError
from vla.core.scaling import compute_statistics
from vla.core.types import Episode, Observation
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.sampling.mixture import Mixture
from vla.datasets.sampling.settings import MixtureConfig, MixtureEntry
from vla.datasets.sampling.windows import Windows
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.models.preprocessor import Embodiment, Preprocessor
from vla.models.text.words import WordTokenizer
from vla.models.trunk.inputs import Inputs, Prediction

HORIZON, HISTORY = 4, 3
SENTENCES = ("pick it up", "put it on the plate", "open the drawer and close it again")


def _joints(units: Sequence[str]) -> tuple[Dimension, ...]:
    return tuple(Dimension(name=f"j{i}", unit=unit, low=-3.0, high=3.0) for i, unit in enumerate(units))


def _camera(name: str, height: int = 6, width: int = 8) -> Camera:
    return Camera(name=name, height=height, width=width)


ARM = Contract(
    robot="arm",
    cameras=(_camera("front"), _camera("wrist")),
    state=_joints(["rad", "rad", "m"]),
    action=_joints(["rad", "m", "m", "rad", "m"]),
    signals={"place": (Dimension(name="x", unit="m", low=-1.0, high=1.0),)},
    control_hz=10.0,
)
TWO_ARMS = Contract(
    robot="two arms",
    cameras=(_camera("top", 12, 14),),
    state=_joints(["rad"] * 6),
    action=_joints(["rad", "rad"]),
    control_hz=10.0,
)


def _record(root: Path, contract: Contract, lengths: Sequence[int]) -> Dataset:
    create_dataset(root, contract)
    with SegmentWriter(root, contract, {}) as writer:
        for seed, steps in enumerate(lengths):
            rng = np.random.default_rng(seed)

            def floats(width: int, steps: int = steps, rng: np.random.Generator = rng) -> np.ndarray:
                return rng.uniform(-2, 2, (steps, width)).astype(np.float32)

            time_ns = np.arange(steps, dtype=np.int64) * 100_000_000
            writer.append(
                Episode(
                    images={c.name: rng.integers(0, 256, (steps, *c.shape), np.uint8) for c in contract.cameras},
                    state=floats(len(contract.state)),
                    action=floats(len(contract.action)),
                    action_executed=floats(len(contract.action)),
                    reward=np.zeros(steps, np.float32),
                    done=np.arange(steps) == steps - 1,
                    valid=rng.random(steps) < 0.9,
                    time_ns=time_ns,
                    command_time_ns=time_ns,
                    signals={name: floats(len(signal)) for name, signal in contract.signals.items()},
                    instruction=SENTENCES[seed % 3],
                    task="t",
                    split="train",
                    seed=seed,
                    success=True,
                )
            )
        publish(root, [writer.seal()], "test")
    return Dataset.open(root)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _record(tmp_path_factory.mktemp("arm") / "data", ARM, (9, 5, 2))


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return _record(tmp_path_factory.mktemp("two arms") / "data", TWO_ARMS, (4, 6))


def _embodiment(contract: Contract, cameras: tuple[str | None, ...], seed: int = 0, **changes: Any) -> Embodiment:
    """Scaled by statistics of numbers that are not round."""
    rng = np.random.default_rng(seed)
    state, action = (rng.normal(0.3, 1.7, (200, len(part))) for part in (contract.state, contract.action))
    values: dict[str, Any] = {
        "contract": contract,
        "cameras": cameras,
        "space": ActionTransform.of(contract),
        "state": compute_statistics(state),
        "action": compute_statistics(action),
    }
    return Embodiment(**(values | changes))


def _preprocessor(*embodiments: Embodiment, **changes: Any) -> Preprocessor:
    values: dict[str, Any] = {
        "embodiments": embodiments or (_embodiment(ARM, ("front", "wrist")),),
        "tokenizer": WordTokenizer.fit(SENTENCES),
        "words": ("pick", "put"),
        "text_tokens": 8,
        "image_size": (6, 8),
        "history": HISTORY,
        "horizon": HORIZON,
    }
    return Preprocessor(**(values | changes))


BOTH = (
    _embodiment(ARM, ("front", "wrist"), seed=1),
    _embodiment(TWO_ARMS, ("top", None), seed=2),
)


def _moment(data: Dataset, step: int, *, history: int = 0) -> Observation:
    """What the robot saw at a step of the dataset, as it would send it."""
    episode = int(np.searchsorted(data.episode_starts, step, side="right")) - 1
    first = int(data.episode_starts[episode])
    return Observation(
        images={c.name: data.frame(c.name, step) for c in data.contract.cameras},
        state=data.state[step],
        instruction=data.episodes[episode].instruction,
        time_ns=int(data.time_ns[step]),
        history=tuple(_moment(data, i) for i in range(max(first, step - history), step)),
    )


def _assert_identical(ours: Inputs, theirs: Inputs) -> None:
    for field in dataclasses.fields(Inputs):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert a.dtype == b.dtype, field.name
        assert torch.equal(a, b), field.name


# -- training and serving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [1, 3])
def test_recorded_windows_equal_live_observations_bit_for_bit(arm: Dataset, history: int) -> None:
    preprocessor = _preprocessor(history=history)
    windows = Windows(arm, HORIZON, history=history)
    batch = preprocessor.samples(windows.batch(np.arange(len(windows))), preprocessor.texts(windows.instructions))
    # With more history than asked for, as a client that does not know the policy may send it.
    live = [_moment(arm, step, history=history + 1) for step in windows.rows.tolist()]
    _assert_identical(preprocessor.observations(live), batch.inputs)
    assert bool(batch.inputs.observed.all()) == (history == 1)
    assert batch.inputs.images.float().std() > 50


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (16, 16)])
def test_a_mixture_equals_live_observations_of_each_robot_bit_for_bit(
    arm: Dataset, two_arms: Dataset, size: tuple[int, int]
) -> None:
    entries = (
        MixtureEntry(path=arm.url, cameras={"base": "front", "wrist": "wrist"}),
        MixtureEntry(path=two_arms.url, cameras={"base": "top"}),
    )
    config = MixtureConfig(entries=entries, slots=("base", "wrist"), image_size=size)
    mixture = Mixture(config, horizon=HORIZON, history=HISTORY)
    preprocessor = _preprocessor(*BOTH, image_size=size)
    arrays = mixture.batch(np.arange(len(mixture)))
    batch = preprocessor.samples(arrays, preprocessor.texts(mixture.instructions))
    for number, data in enumerate((arm, two_arms)):
        mine = arrays["dataset"] == number
        live = [_moment(data, step, history=HISTORY) for step in arrays["index"][mine].tolist()]
        first = int(np.flatnonzero(mine)[0])
        _assert_identical(
            preprocessor.observations(live, embodiment=number), batch.inputs[first : first + int(mine.sum())]
        )


def test_a_short_history_is_padded_with_its_first_moment(arm: Dataset) -> None:
    """As a window at the beginning of an episode is, whatever the step."""
    preprocessor = _preprocessor()
    short = preprocessor.observations([_moment(arm, 5, history=1)])
    assert short.observed.tolist() == [[False, True, True]]
    assert torch.equal(short.state[0, 0], short.state[0, 1])
    assert torch.equal(short.images[0, 0], short.images[0, 1])
    assert preprocessor.observations([_moment(arm, 5)]).observed.tolist() == [[False, False, True]]


def test_samples_give_the_labels_that_the_space_says(arm: Dataset) -> None:
    preprocessor, windows = _preprocessor(), Windows(arm, HORIZON, history=HISTORY)
    arrays = windows.batch(np.arange(len(windows)))
    batch = preprocessor.samples(arrays, preprocessor.texts(windows.instructions))
    robot = preprocessor.embodiments[0]
    offsets = arrays["actions"].copy()
    assert robot.space.relative_to == (0, None, None, None, None)  # the one angle that both sides have
    offsets[..., 0] -= arrays["state"][:, -1, 0, None]
    np.testing.assert_array_equal(batch.targets.actions.numpy(), robot.action.normalise(offsets))
    np.testing.assert_array_equal(batch.targets.valid.numpy(), np.tile(arrays["action_valid"][..., None], (1, 1, 5)))
    np.testing.assert_array_equal(batch.targets.signals["place"].numpy(), arrays["signals/place"])
    items = np.arange(len(windows))
    fitted = preprocessor.scaled_chunks(arm.state[windows.rows[items]], windows.chunks(items)[0])
    assert torch.equal(fitted, batch.targets.actions)


def test_several_robots_are_padded_and_masked(arm: Dataset, two_arms: Dataset) -> None:
    entries = (
        MixtureEntry(path=arm.url, cameras={"base": "front", "wrist": "wrist"}),
        MixtureEntry(path=two_arms.url, cameras={"base": "top"}),
    )
    config = MixtureConfig(entries=entries, slots=("base", "wrist"), image_size=(6, 8))
    mixture = Mixture(config, horizon=HORIZON, history=HISTORY)
    preprocessor = _preprocessor(*BOTH)
    arrays = mixture.batch(np.arange(len(mixture)))
    batch = preprocessor.samples(arrays, preprocessor.texts(mixture.instructions))
    for number, data in enumerate((arm, two_arms)):
        mine = torch.from_numpy(arrays["dataset"] == number)
        inputs, targets = batch.inputs, batch.targets
        s, d = data.state.shape[1], data.action.shape[1]
        assert (inputs.state_valid[mine] == (torch.arange(6) < s)).all()
        assert not inputs.state[mine][..., s:].any()
        assert inputs.state[mine][..., :s].abs().amin() > 0
        assert not targets.actions[mine][..., d:].any()
        assert torch.equal(
            targets.valid[mine], torch.from_numpy(arrays["action_valid"])[mine][..., None] & (torch.arange(5) < d)
        )
        assert (inputs.camera_valid[mine] == torch.tensor([True, number == 0])).all()
        assert (inputs.embodiment[mine] == number).all()
        assert targets.signals["place"][mine].isnan().all() == (number == 1)
        (alone,) = preprocessor.embodiments[number : number + 1]
        np.testing.assert_array_equal(
            inputs.state[mine][:, -1, :s].numpy(), alone.state.normalise(arrays["state"][mine.numpy()][:, -1, :s])
        )


# -- in and out ------------------------------------------------------------------------------------------------------


def _moves(kinds: Sequence[str], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """float32 (*shape, kinds): what dimensions of these kinds do."""
    columns = []
    for kind in kinds:
        column = rng.normal(size=shape) * {"constant": 0.0, "small": 1e-4}.get(kind, 1.0)
        column = np.where(rng.random(shape) < 0.995, 0.04, column) if kind == "narrow" else column
        columns.append(column + (100.0 if kind == "far" else 0.5))
    return np.stack(columns, axis=-1).astype(np.float32)


def _robot(
    state_units: list[str], action_units: list[str], kinds: list[str], absolute: bool, seed: int
) -> tuple[Embodiment, np.ndarray, np.ndarray]:
    """A robot scaled by what it does, and states (b, s) and actions (b, h, d) of it."""
    contract = dataclasses.replace(ARM, state=_joints(state_units), action=_joints(action_units), signals={})
    rng, b = np.random.default_rng(seed), 40
    state = _moves(kinds[: len(state_units)], (b,), rng)
    actions = _moves(kinds[5 : 5 + len(action_units)], (b, HORIZON), rng)
    space = ActionTransform.absolute(contract) if absolute else ActionTransform.of(contract)
    learned = space.apply(state, actions).reshape(b * HORIZON, -1)
    scales = {"state": compute_statistics(state), "action": compute_statistics(learned)}
    return _embodiment(contract, ("front",), space=space, **scales), state, actions


def _arrays(state: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
    b = len(state)
    return {
        "images": np.zeros((b, 1, 1, 6, 8, 3), np.uint8),
        "state": state[:, None],
        "observation_valid": np.ones((b, 1), bool),
        "actions": actions,
        "action_valid": np.ones((b, HORIZON), bool),
        "instruction": np.zeros(b, np.int64),
    }


UNITS = st.lists(st.sampled_from(["rad", "m"]), min_size=1, max_size=5)
KINDS = st.lists(st.sampled_from(["wide", "constant", "narrow", "far", "small"]), min_size=10, max_size=10)


@given(state_units=UNITS, action_units=UNITS, kinds=KINDS, absolute=st.booleans(), seed=st.integers(0, 999))
def test_chunks_mirror_samples(
    state_units: list[str], action_units: list[str], kinds: list[str], absolute: bool, seed: int
) -> None:
    embodiment, state, actions = _robot(state_units, action_units, kinds, absolute, seed)
    preprocessor = _preprocessor(embodiment, history=1)
    batch = preprocessor.samples(_arrays(state, actions), preprocessor.texts([""]))
    assert batch.targets.actions.isfinite().all()
    assert batch.targets.actions.abs().max() <= 39.1
    images = {"front": np.zeros((6, 8, 3), np.uint8)}
    received = embodiment.inside(state)
    live = [Observation(images=images, state=row, instruction="", time_ns=i) for i, row in enumerate(received)]
    chunks = preprocessor.chunks(Prediction(actions=batch.targets.actions), live)
    assert [chunk.time_ns for chunk in chunks] == list(range(len(state)))
    assert {chunk.actions.dtype for chunk in chunks} == {np.dtype(np.float32)}
    answered = np.stack([chunk.actions for chunk in chunks])
    size = np.abs(actions).max(axis=(0, 1)) + np.abs(state).max() + embodiment.action.spread()
    np.testing.assert_array_less(np.abs(answered - actions).max(axis=(0, 1)), 1e-5 * size)


def test_chunks_are_as_wide_as_their_robot_and_say_what_is_believed() -> None:
    preprocessor = _preprocessor(*BOTH)
    prediction = Prediction(actions=torch.zeros(1, HORIZON, 5), signals={"place": torch.tensor([[0.25]])})
    for number, contract in enumerate((ARM, TWO_ARMS)):
        live = Observation(
            images={c.name: np.zeros(c.shape, np.uint8) for c in contract.cameras},
            state=np.ones(len(contract.state), np.float32),
            instruction="",
            time_ns=7,
        )
        (chunk,) = preprocessor.chunks(prediction, [live], embodiment=number)
        assert chunk.actions.shape == (HORIZON, len(contract.action))
        robot = preprocessor.embodiments[number]
        centre = robot.action.centre() + [0 if i is None else 1 for i in robot.space.relative_to]
        np.testing.assert_allclose(chunk.actions, np.tile(centre, (HORIZON, 1)), rtol=1e-6)
        assert chunk.signals["place"].tolist() == [0.25]
        assert chunk.signals["place"].dtype == np.float32


# -- what it is ------------------------------------------------------------------------------------------------------


def test_the_interface_is_as_wide_as_the_widest_robot() -> None:
    interface = _preprocessor(*BOTH).interface
    assert (interface.cameras, interface.state, interface.action) == (("front", "wrist"), 6, 5)
    assert (interface.history, interface.horizon, interface.text, interface.embodiments) == (3, 4, 8, 2)
    assert interface.signals == ARM.signals
    assert interface.words == len(WordTokenizer.fit(SENTENCES))


def test_json_is_exact() -> None:
    preprocessor = _preprocessor(*BOTH)
    value = json.loads(json.dumps(preprocessor.to_json()))
    again = Preprocessor.from_json(value, preprocessor.tokenizer, where="here")
    assert again == preprocessor
    assert again.digest() == preprocessor.digest()
    assert again.image_size == (6, 8)


def test_the_digest_changes_with_everything_but_versions() -> None:
    plain, robot = _preprocessor(), _embodiment(ARM, ("front", "wrist"))
    contract = dataclasses.replace(ARM, versions={"mujoco": "3"})
    assert _preprocessor(dataclasses.replace(robot, contract=contract)).digest() == plain.digest()
    others = [
        _preprocessor(words=("pick",)),
        _preprocessor(text_tokens=9),
        _preprocessor(image_size=(8, 6)),
        _preprocessor(history=2),
        _preprocessor(horizon=5),
        _preprocessor(_embodiment(ARM, ("front", "wrist"), seed=1)),
        _preprocessor(dataclasses.replace(robot, cameras=("wrist", "front"))),
        _preprocessor(dataclasses.replace(robot, space=ActionTransform.absolute(ARM))),
        _preprocessor(dataclasses.replace(robot, contract=dataclasses.replace(ARM, control_hz=5.0))),
        _preprocessor(*BOTH),
        _preprocessor(*reversed(BOTH)),
    ]
    assert len({p.digest() for p in (plain, *others)}) == 12


@pytest.mark.parametrize("key", ["embodiments", "words", "text_tokens", "image_size", "history", "horizon"])
def test_damage_is_a_checkpoint_error(key: str) -> None:
    value = _preprocessor().to_json()
    for damaged in ({k: v for k, v in value.items() if k != key}, value | {key: None}):
        with pytest.raises(CheckpointError, match=r"here is damaged \(.*copy the whole checkpoint folder"):
            Preprocessor.from_json(damaged, _preprocessor().tokenizer, where="here")


def test_signals_of_one_name_mean_one_thing() -> None:
    other = dataclasses.replace(TWO_ARMS, signals={"place": (Dimension(name="x", unit="m", low=0.0, high=1.0),)})
    with pytest.raises(ContractError, match="signal place means other things for two arms than for another robot"):
        _ = _preprocessor(BOTH[0], _embodiment(other, ("top", None))).signals


# -- what is refused -------------------------------------------------------------------------------------------------


def _live(**changes: Any) -> Observation:
    values: dict[str, Any] = {
        "images": {c.name: np.zeros(c.shape, np.uint8) for c in ARM.cameras},
        "state": np.zeros(3, np.float32),
        "instruction": "",
        "time_ns": 0,
    }
    return Observation(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": {"front": np.zeros((6, 8, 3), np.uint8), "left": np.zeros((6, 8, 3), np.uint8)}},
            r"the policy: expected cameras front, wrist, got front, left; send wrist",
        ),
        (
            {"images": {"front": np.zeros((6, 8, 3), np.uint8), "wrist": np.zeros((8, 6, 3), np.uint8)}},
            r"wrist: expected uint8 \(6, 8, 3\).*got uint8 \(8, 6, 3\)",
        ),
        ({"state": np.zeros(2, np.float32)}, r"state: expected float32 \(3,\).*got float32 \(2,\)"),
        ({"state": np.array([0.0, np.nan, 0.0], np.float32)}, "expected finite numbers"),
    ],
    ids=["camera", "shape", "state", "not finite"],
)
def test_what_an_observation_lacks_is_named(changes: dict[str, Any], message: str) -> None:
    preprocessor = _preprocessor()
    with pytest.raises(ContractError, match=message):
        preprocessor.observations([_live(), _live(**changes)])
    with pytest.raises(ContractError, match=message):
        preprocessor.observations([_live(history=(_live(**changes),))])


def test_a_robot_finds_its_embodiment() -> None:
    preprocessor = _preprocessor(*BOTH)
    assert [preprocessor.embodiment_for(contract) for contract in (ARM, TWO_ARMS)] == [0, 1]
    assert preprocessor.embodiment_for(dataclasses.replace(ARM, signals={})) == 0  # it need not know what it taught


def test_a_robot_that_fits_none_is_told_the_nearest() -> None:
    stranger = dataclasses.replace(TWO_ARMS, control_hz=50.0)
    with pytest.raises(ContractError, match=r"trained for arm, two arms; control_hz: 10\.0 ≠ 50\.0$"):
        _preprocessor(*BOTH).embodiment_for(stranger)
