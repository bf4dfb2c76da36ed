"""A checkpoint as a policy: batching changes nothing, and what it is not given it asks for."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.bench.measure import in_fresh_process
from vla.core.action_transform import ActionTransform
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError, ConfigError, ContractError
from vla.core.scaling import Statistics
from vla.core.types import SPEECH_HZ, ActionChunk, Observation, Policy, SeededPolicy
from vla.library import load_policy
from vla.models.checkpoint import Blueprint, load_model, write_checkpoint
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.preprocessor import Embodiment, Preprocessor
from vla.models.readers.config import ImagesConfig, SoundConfig, StateConfig, TextConfig
from vla.models.runtime import Compile
from vla.models.text.words import WordTokenizer
from vla.models.trunk.config import TransformerConfig
from vla.policies.checker import check_policy
from vla.policies.learned import LearnedPolicy

_JOINTS = tuple(Dimension(name=name, unit="rad", low=-2.0, high=2.0) for name in ("shoulder", "elbow", "wrist"))
_POINTS = tuple(
    Dimension(name=f"{camera}.cup.{axis}", unit="image", low=-1.0, high=1.0)
    for camera in ("front", "hand")
    for axis in ("row", "column")
)
_ARM = Contract(
    robot="three-link",
    cameras=(Camera(name="front", height=16, width=16), Camera(name="hand", height=16, width=16)),
    state=_JOINTS,
    action=_JOINTS,
    signals={"grounding": (Dimension(name="x", unit="m", low=-1.0, high=1.0),), "pointing": _POINTS},
    control_hz=10.0,
)
_SLIDE = Contract(
    robot="slide",
    cameras=(Camera(name="top", height=20, width=16),),
    state=(Dimension(name="place", unit="m", low=0.0, high=1.0),),
    action=(Dimension(name="place", unit="m", low=0.0, high=1.0),),
    control_hz=10.0,
)
_SENTENCES = ("reach the red cup", "reach the blue cup", "")
HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=8),
    "joint": BinsHeadConfig(bins=8, layout="joint"),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=8)),
    "flow": FlowHeadConfig(steps=3),
}
MakeCheckpoint = Callable[..., Path]


def _embodiment(contract: Contract, cameras: tuple[str | None, ...]) -> Embodiment:
    return Embodiment(
        contract=contract,
        cameras=cameras,
        space=ActionTransform.of(contract),
        state=Statistics.between([d.low for d in contract.state], [d.high for d in contract.state]),
        action=Statistics.between([-0.3] * len(contract.action), [0.3] * len(contract.action)),
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size only lose by sharing their work among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    def make(head: str = "step", history: int = 1, committed: int = 0, listens: bool = False) -> Path:
        asks = ("text", "sound") if listens else ("text",)
        images = ImagesConfig(channels=8, tokens=4, asks=asks)
        sound = {"sound": SoundConfig(channels=8, layers=1)} if listens else {}
        config = UnifiedConfig(
            trunk=TransformerConfig(width=32, layers=1, heads=2),
            readers={"text": TextConfig(), "images": images, "state": StateConfig(), **sound},
            text_tokens=6,
            horizon=4,
            history=history,
            head=HEADS[head],
            committed=committed,
        )
        preprocessor = Preprocessor(
            embodiments=(_embodiment(_ARM, ("front", "hand")), _embodiment(_SLIDE, ("top", None))),
            tokenizer=WordTokenizer.fit(_SENTENCES),
            words=(),
            text_tokens=6,
            image_size=(16, 16),
            history=history,
            horizon=4,
        )
        fitted = config.fit(torch.tensor([-1.0, 1.0])[:, None, None].expand(2, 4, 3))
        blueprint = Blueprint(preprocessor=preprocessor, config=config, fitted=fitted)
        torch.manual_seed(0)
        model = blueprint.build()
        with torch.no_grad():  # weights far from their small initial values, so that everything matters
            model.table.weight.normal_(std=0.3)  # type: ignore[union-attr, operator]
        write_checkpoint(tmp_path / "checkpoint", blueprint, model.state_dict(), {})
        return tmp_path / "checkpoint"

    return make


def _loaded(path: Path, robot: Contract) -> Policy:
    return load_policy(path, contract=robot, device="cpu")


def _turned(seen: Observation) -> Observation:
    committed = None if seen.committed is None else seen.committed[:, ::-1].copy()
    history = tuple(_turned(moment) for moment in seen.history)
    return dataclasses.replace(seen, state=seen.state[::-1].copy(), committed=committed, history=history)


@pytest.fixture
def policy(make_checkpoint: MakeCheckpoint) -> LearnedPolicy:
    return LearnedPolicy(make_checkpoint())


def _observe(seed: int, robot: Contract = _ARM, **changes: Any) -> Observation:
    rng = np.random.default_rng(seed)
    values = {
        "images": {c.name: rng.integers(0, 256, c.shape, np.uint8) for c in reversed(robot.cameras)},
        "state": rng.uniform([d.low for d in robot.state], [d.high for d in robot.state]).astype(np.float32),
        "instruction": _SENTENCES[seed % len(_SENTENCES)],
        "time_ns": 100 + seed,
    }
    return Observation(**(values | changes))


@pytest.mark.parametrize("make", [lambda path, robot: LearnedPolicy(path, robot=robot), _loaded])
def test_a_robot_with_its_joints_in_another_order_is_driven_by_name(
    make: Callable[[Path, Contract], Policy], make_checkpoint: MakeCheckpoint
) -> None:
    """Whoever names a robot gets a policy in its order: states, what was before, and what is decided already."""
    path = make_checkpoint(history=2, committed=2)
    turned = dataclasses.replace(_ARM, cameras=_ARM.cameras[::-1], state=_JOINTS[::-1], action=_JOINTS[::-1])
    policy = make(path, turned)
    assert [d.name for d in policy.contract.action] == ["wrist", "elbow", "shoulder"]
    assert policy.contract.policy is not None
    before = _observe(2)
    seen = _observe(1, history=(before,), committed=np.array([[0.1, -0.2, 0.3]], np.float32))
    (ours,) = LearnedPolicy(path).act([seen])
    (theirs,) = policy.act([_turned(seen)])
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(theirs.actions[:, ::-1], ours.actions)
    assert len(np.unique(ours.actions[1])) == 3


def _one(policy: LearnedPolicy, observation: Observation) -> ActionChunk:
    (chunk,) = policy.act([observation])
    assert chunk is not None
    return chunk


def _assert_close(ours: Sequence[ActionChunk | None], theirs: Sequence[ActionChunk | None]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None
        assert b is not None
        assert a.time_ns == b.time_ns
        np.testing.assert_allclose(a.actions, b.actions, atol=1e-4)
        assert set(a.signals) == set(b.signals) == {"grounding", "pointing"}
        for name, signal in a.signals.items():
            np.testing.assert_allclose(signal, b.signals[name], atol=1e-4)


def test_it_is_a_policy(policy: LearnedPolicy) -> None:
    assert isinstance(policy, Policy)
    assert policy.contract.policy is not None
    assert policy.contract.policy.kind == "unified"
    policy.reset(0)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("history", [1, 2])
def test_a_batch_answers_as_single_observations_do(make_checkpoint: MakeCheckpoint, head: str, history: int) -> None:
    policy = LearnedPolicy(make_checkpoint(head, history))
    observations = [_observe(seed, history=(_observe(9 + seed),) * (seed % 3)) for seed in range(6)]
    together = policy.act(observations)
    policy.reset(0)  # where a head draws, it draws the episode's first chunk again
    alone = []
    for observation in observations:
        alone.append(_one(policy, observation))
        policy.reset(0)
    _assert_close(together, alone)


def test_slots_without_observation_stay_empty_and_the_rest_in_order(policy: LearnedPolicy) -> None:
    a, b = _observe(0), _observe(1)
    answers = policy.act([None, b, None, a])
    assert answers[0] is None
    assert answers[2] is None
    _assert_close([answers[1], answers[3]], policy.act([b, a]))
    assert policy.act([None, None]) == [None, None]
    assert policy.act([]) == []


def test_answers_have_the_shapes_of_the_contract(policy: LearnedPolicy) -> None:
    chunk = _one(policy, _observe(0))
    assert (chunk.actions.shape, chunk.actions.dtype) == ((4, 3), np.float32)
    assert {name: (s.shape, s.dtype) for name, s in chunk.signals.items()} == {
        "grounding": ((1,), np.float32),
        "pointing": ((4,), np.float32),
    }
    assert chunk.time_ns == 100


def test_answers_are_in_the_units_of_the_robot(policy: LearnedPolicy) -> None:
    """Angles begin at the state: nowhere further from it than the scale and the margins of the bins allow."""
    for seed in range(5):
        observation = _observe(seed)
        assert np.abs(_one(policy, observation).actions - observation.state).max() <= 0.3 * 1.05


def test_an_instruction_that_is_too_long_is_refused_by_name(policy: LearnedPolicy) -> None:
    with pytest.raises(ContractError, match=r"the instruction 'cup cup .*' has 100 tokens, .* reads at most 6"):
        _one(policy, _observe(0, instruction="cup " * 100))


def test_capitals_and_spaces_change_no_bit(policy: LearnedPolicy) -> None:
    plain, other = (_one(policy, _observe(0, instruction=s)) for s in (_SENTENCES[0], "Reach  the\tRED\u00a0cup."))
    np.testing.assert_array_equal(plain.actions, other.actions)


@pytest.mark.parametrize("instruction", ["", "   ", "Привет 你好 🤖"])
def test_any_instruction_gives_finite_actions(policy: LearnedPolicy, instruction: str) -> None:
    chunk = _one(policy, _observe(0, instruction=instruction))
    assert np.isfinite(chunk.actions).all()
    assert all(np.isfinite(signal).all() for signal in chunk.signals.values())


def test_the_order_of_cameras_in_an_observation_does_not_matter(policy: LearnedPolicy) -> None:
    observation = _observe(0)
    other = _observe(0, images=dict(reversed(list(observation.images.items()))))
    _assert_close([_one(policy, observation)], [_one(policy, other)])


def test_history_is_read(make_checkpoint: MakeCheckpoint) -> None:
    policy = LearnedPolicy(make_checkpoint(history=2))
    one, other = (_one(policy, _observe(0, history=(_observe(seed),))) for seed in (1, 2))
    assert np.abs(one.signals["grounding"] - other.signals["grounding"]).max() > 1e-6
    further = _one(policy, _observe(0, history=(_observe(3), _observe(1))))
    _assert_close([one], [further])  # no more of it than the model was trained with


def test_it_acts_for_the_robot_that_it_is_told(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    slide = LearnedPolicy(checkpoint, robot=_SLIDE)
    assert (slide.contract.robot, LearnedPolicy(checkpoint, robot=_ARM).contract.robot) == ("slide", "three-link")
    assert LearnedPolicy(checkpoint).contract.robot == "three-link"
    observation = _observe(0, _SLIDE)
    chunk = _one(slide, observation)
    assert chunk.actions.shape == (4, 1)
    assert np.abs(chunk.actions).max() <= 0.3 * 1.05  # a length is absolute
    with pytest.raises(ContractError, match=r"expected cameras front, hand, got top; send front"):
        LearnedPolicy(checkpoint).act([observation])


def test_a_robot_that_does_not_fit_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    with pytest.raises(
        ContractError,
        match=r"checkpoint .*checkpoint does not fit: trained for three-link, slide; control_hz: 10\.0 ≠ 50\.0$",
    ):
        LearnedPolicy(checkpoint, robot=dataclasses.replace(_ARM, control_hz=50.0))


def test_a_device_that_is_not_there_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(ConfigError, match="cuda:99"):
        LearnedPolicy(make_checkpoint(), device="cuda:99")


def test_a_missing_camera_is_named(policy: LearnedPolicy) -> None:
    images = {"front": _observe(0).images["front"], "left": _observe(0).images["hand"]}
    with pytest.raises(ContractError, match="got front, left; send hand"):
        policy.act([_observe(0, images=images)])


def test_images_of_another_size_are_refused(policy: LearnedPolicy) -> None:
    images = {"front": _observe(0).images["front"], "hand": np.zeros((32, 16, 3), np.uint8)}
    with pytest.raises(ContractError, match=r"hand.*\(16, 16, 3\), got uint8 \(32, 16, 3\)"):
        policy.act([_observe(0, images=images)])


def test_a_state_of_another_size_is_refused(policy: LearnedPolicy) -> None:
    with pytest.raises(ContractError, match=r"state: expected float32 \(3,\).*got float32 \(2,\)"):
        policy.act([_observe(0, state=np.zeros(2, np.float32))])


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        LearnedPolicy(tmp_path / "nowhere")


def test_a_policy_that_draws_depends_on_the_seed_of_its_episode_alone(make_checkpoint: MakeCheckpoint) -> None:
    """Not on the slot, on who else is asked, or on what was drawn for others."""
    policy = LearnedPolicy(make_checkpoint("flow"))
    assert isinstance(policy, SeededPolicy)

    def episode(seed: int, slot: int, company: int) -> list[np.ndarray]:
        policy.reset(slot)
        policy.seed(slot, seed)
        chunks = []
        for _ in range(3):
            asked: list[Observation | None] = [_observe(2) if i < company else None for i in range(4)]
            asked[slot] = _observe(0)
            chunk = policy.act(asked)[slot]
            assert chunk is not None
            chunks.append(chunk.actions)
        return chunks

    first = episode(5, slot=0, company=0)
    np.testing.assert_allclose(episode(5, slot=2, company=4), first, atol=1e-5)
    assert np.abs(np.subtract(episode(6, slot=0, company=0), first)).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3  # each chunk is drawn anew
    assert check_policy(policy, [_observe(seed) for seed in range(3)]) == []


def _decided(policy: LearnedPolicy, observation: Observation, steps: int) -> np.ndarray:
    """The first steps of what it answers, moved a little."""
    rows: np.ndarray = _one(policy, observation).actions[:steps] + np.float32(0.0123)
    return rows


@pytest.mark.parametrize("head", HEADS)
def test_what_is_committed_comes_back_bit_for_bit_and_is_gone_on_from(
    make_checkpoint: MakeCheckpoint, head: str
) -> None:
    policy = LearnedPolicy(make_checkpoint(head, committed=3))
    assert policy.contract.policy is not None
    assert policy.contract.policy.committed == 3
    observations = [_observe(seed) for seed in range(3)]
    given = [None, _decided(policy, observations[1], 1), _decided(policy, observations[2], 3)]
    asked = [dataclasses.replace(o, committed=rows) for o, rows in zip(observations, given, strict=True)]
    for slot in range(3):
        policy.reset(slot)
    answers = policy.act(asked)
    for answer, rows in zip(answers, given, strict=True):
        assert answer is not None
        assert rows is None or np.array_equal(answer.actions[: len(rows)], rows)
    for slot in range(3):
        policy.reset(slot)
    free = policy.act(observations)
    _assert_close(answers[:1], free[:1])
    last = [(a.actions[-1], f.actions[-1]) for a, f in zip(answers[1:], free[1:], strict=True) if a and f]
    if head != "tokens":  # which moves by whole bins, if at all
        assert all(not np.array_equal(*pair) for pair in last)


def test_committed_commands_are_scaled_as_labels_are(make_checkpoint: MakeCheckpoint) -> None:
    """What a recorded chunk is as targets, its first steps are as what is committed, bit for bit."""
    blueprint, _ = load_model(make_checkpoint(committed=3))
    preprocessor = blueprint.preprocessor
    observation = _observe(0)
    chunk = observation.state + np.linspace(-0.2, 0.2, 12, dtype=np.float32).reshape(4, 3)
    inputs = preprocessor.observations([dataclasses.replace(observation, committed=chunk[:2])])
    assert inputs.committed is not None
    assert inputs.committed.steps.tolist() == [2]
    labels = preprocessor.scaled_chunks(observation.state[None], chunk[None])
    assert torch.equal(inputs.committed.actions[0, :2], labels[0, :2])
    assert not inputs.committed.actions[0, 2:].any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 3), np.float32), r"committed: expected at most 2 steps, .* trained for, got 3; train with"),
        (np.zeros((1, 2), np.float32), r"committed: actions: expected float32 \(horizon, 3\).*, got float32 \(1, 2\)"),
        (np.full((1, 3), np.nan, np.float32), r"committed: actions: expected finite numbers"),
        (np.full((1, 3), 9, np.float32), r"committed shoulder: expected -2 to 2 rad"),
    ],
)
def test_commands_that_cannot_have_been_committed_are_refused(
    rows: np.ndarray, message: str, make_checkpoint: MakeCheckpoint
) -> None:
    with pytest.raises(ContractError, match=f"the policy: {message}"):
        _one(LearnedPolicy(make_checkpoint(committed=2)), _observe(0, committed=rows))


def test_a_policy_that_was_not_trained_for_it_refuses_what_is_committed(policy: LearnedPolicy) -> None:
    with pytest.raises(ContractError, match=r"expected at most 0 steps"):
        _one(policy, _observe(0, committed=np.zeros((1, 3), np.float32)))


def _actions(checkpoint: Path, compile: Compile) -> list[np.ndarray]:
    torch.set_num_threads(1)
    policy = LearnedPolicy(checkpoint, device="cpu", compile=compile)
    return [_one(policy, _observe(seed)).actions for seed in range(3)]


@pytest.mark.long
@pytest.mark.parametrize("head", ["step", "tokens", "flow"])
def test_compiled_it_answers_as_it_is_written(make_checkpoint: MakeCheckpoint, head: str) -> None:
    """In a process of its own: what is compiled must not be watched by the checks of types that tests run under."""
    checkpoint = make_checkpoint(head)
    ours, expected = (in_fresh_process(_actions, checkpoint, compile) for compile in ("default", "none"))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_graphs_are_refused_where_there_is_no_gpu(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(ConfigError, match=r"compile=graphs: expected a CUDA device, got cpu; set compile=default"):
        LearnedPolicy(make_checkpoint(), device="cpu", compile="graphs")


def _aloud(seed: int, seconds: float, **changes: Any) -> Observation:
    said = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * SPEECH_HZ)).astype(np.float32)
    return _observe(seed, instruction="", speech=said, **changes)


def test_what_is_said_aloud_is_heard_and_not_a_bit_of_what_others_say(make_checkpoint: MakeCheckpoint) -> None:
    """In batches of one size, as evaluations ask: whoever speaks longer beside somebody changes nothing for him."""
    policy = LearnedPolicy(make_checkpoint(listens=True))
    assert policy.contract.policy is not None
    assert policy.contract.policy.speech
    mine, short, long = _aloud(1, 1.0), _aloud(2, 0.4), _aloud(3, 7.9)
    alone = policy.act([mine, short])
    beside = policy.act([mine, long])
    assert alone[0] is not None
    assert beside[0] is not None
    np.testing.assert_array_equal(alone[0].actions, beside[0].actions)
    other = dataclasses.replace(mine, speech=short.speech)
    silent = dataclasses.replace(mine, speech=None)
    answers = [_one(policy, seen).actions for seen in (mine, other, silent)]
    assert all(np.abs(a - b).max() > 1e-4 for a, b in itertools.combinations(answers, 2))


def test_a_listening_policy_still_reads(make_checkpoint: MakeCheckpoint) -> None:
    policy = LearnedPolicy(make_checkpoint(listens=True, history=2))
    one, other = (_one(policy, _observe(1, instruction=text)).actions for text in _SENTENCES[:2])
    assert np.abs(one - other).max() > 1e-4
    both = policy.act([_observe(1, history=(_aloud(3, 1.0),)), _aloud(2, 1.0)])
    assert all(chunk is not None for chunk in both)


def test_speech_is_refused_by_who_was_not_trained_to_listen(make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(ContractError, match=r"the policy: speech: the policy reads .* with model\.readers\.sound"):
        LearnedPolicy(make_checkpoint()).act([_aloud(1, 1.0)])
    with pytest.raises(ContractError, match=r"the policy: speech: expected 0\.1 to 8 s"):
        LearnedPolicy(make_checkpoint(listens=True)).act([_aloud(1, 9.0)])
