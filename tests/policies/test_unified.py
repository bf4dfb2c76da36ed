"""A checkpoint as a policy: batching changes nothing, and what it is not given it asks for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError, ContractError
from vla.core.types import ActionChunk, Observation, Policy
from vla.models.bins import ActionCodec, BinCodec
from vla.models.checkpoint import ModelParts, write_checkpoint
from vla.models.config import TransformerConfig, UnifiedConfig, VisionConfig
from vla.models.text import InstructionTokenizer
from vla.policies.unified import UnifiedPolicy

_JOINTS = tuple(Dimension(name=name, unit="rad", low=-2.0, high=2.0) for name in ("shoulder", "elbow", "wrist"))
_POINTS = tuple(
    Dimension(name=f"{camera}.cup.{axis}", unit="image", low=-1.0, high=1.0)
    for camera in ("front", "hand")
    for axis in ("row", "column")
)
_CONTRACT = Contract(
    robot="three-link",
    cameras=(Camera(name="front", height=16, width=16), Camera(name="hand", height=16, width=16)),
    state=_JOINTS,
    action=_JOINTS,
    grounding=(Dimension(name="x", unit="m", low=-1.0, high=1.0), *_POINTS),
    control_hz=10.0,
)
_SENTENCES = ("reach the red cup", "reach the blue cup", "")
MakePolicy = Callable[..., UnifiedPolicy]


@pytest.fixture
def make_policy(tmp_path: Path) -> MakePolicy:
    def make(decoding: str = "parallel", layout: str = "step") -> UnifiedPolicy:
        low = np.full((4, 3), -0.3, np.float32)
        parts = ModelParts(
            contract=_CONTRACT,
            tokenizer=InstructionTokenizer.train(_SENTENCES),
            config=UnifiedConfig(
                trunk=TransformerConfig(width=32, layers=1, heads=2),
                vision=VisionConfig(channels=8, tokens=4),
                text_tokens=6,
                horizon=4,
                action_bins=8,
                grounding_bins=8,
                decoding=decoding,  # type: ignore[arg-type]
                layout=layout,  # type: ignore[arg-type]
            ),
            actions=ActionCodec(codec=BinCodec(low=low, high=-low, bins=8), relative_to=(0, 1, 2)),
            grounding=BinCodec(low=np.array([-1.0], np.float32), high=np.array([1.0], np.float32), bins=8),
            state_range=(np.full(3, -2, np.float32), np.full(3, 2, np.float32)),
        ).bind()
        torch.manual_seed(0)
        write_checkpoint(tmp_path / "checkpoint", parts, parts.build().state_dict(), {})
        return UnifiedPolicy(tmp_path / "checkpoint")

    return make


def _observe(seed: int, **changes: object) -> Observation:
    rng = np.random.default_rng(seed)
    values = {
        "images": {name: rng.integers(0, 256, (16, 16, 3), np.uint8) for name in ("hand", "front")},
        "state": rng.uniform(-2, 2, 3).astype(np.float32),
        "instruction": _SENTENCES[seed % len(_SENTENCES)],
        "time_ns": 100 + seed,
    }
    return Observation(**(values | changes))  # type: ignore[arg-type]


def _one(policy: UnifiedPolicy, observation: Observation) -> ActionChunk:
    (chunk,) = policy.act([observation])
    assert chunk is not None
    return chunk


def _assert_close(ours: Sequence[ActionChunk | None], theirs: Sequence[ActionChunk | None]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None
        assert b is not None
        assert a.time_ns == b.time_ns
        np.testing.assert_allclose(a.actions, b.actions, atol=1e-4)
        np.testing.assert_allclose(a.grounding, b.grounding, atol=1e-4)  # type: ignore[arg-type]


def test_it_is_a_policy(make_policy: MakePolicy) -> None:
    policy = make_policy()
    assert isinstance(policy, Policy)
    assert policy.contract.policy["kind"] == "unified"
    policy.reset(0)


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
@pytest.mark.parametrize("layout", ["step", "joint"])
def test_a_batch_answers_as_single_observations_do(make_policy: MakePolicy, decoding: str, layout: str) -> None:
    policy = make_policy(decoding, layout)
    observations = [_observe(seed) for seed in range(6)]
    _assert_close(policy.act(observations), [_one(policy, observation) for observation in observations])


def test_slots_without_observation_stay_empty_and_the_rest_in_order(make_policy: MakePolicy) -> None:
    policy = make_policy()
    a, b = _observe(0), _observe(1)
    answers = policy.act([None, b, None, a])
    assert answers[0] is None
    assert answers[2] is None
    _assert_close([answers[1], answers[3]], policy.act([b, a]))
    assert policy.act([None, None]) == [None, None]
    assert policy.act([]) == []


def test_answers_have_the_shapes_of_the_contract(make_policy: MakePolicy) -> None:
    chunk = _one(make_policy(), _observe(0))
    assert (chunk.actions.shape, chunk.actions.dtype) == ((4, 3), np.float32)
    assert chunk.grounding is not None
    assert (chunk.grounding.shape, chunk.grounding.dtype) == ((5,), np.float32)
    assert chunk.time_ns == 100


@pytest.mark.parametrize("instruction", ["", "   ", "Привет 你好 🤖", "cup " * 100])
def test_any_instruction_gives_finite_actions(make_policy: MakePolicy, instruction: str) -> None:
    chunk = _one(make_policy(), _observe(0, instruction=instruction))
    assert np.isfinite(chunk.actions).all()
    assert np.isfinite(chunk.grounding).all()  # type: ignore[arg-type]


def test_the_order_of_cameras_in_an_observation_does_not_matter(make_policy: MakePolicy) -> None:
    policy, observation = make_policy(), _observe(0)
    other = _observe(0, images=dict(reversed(list(observation.images.items()))))
    _assert_close([_one(policy, observation)], [_one(policy, other)])


def test_a_missing_camera_is_named(make_policy: MakePolicy) -> None:
    images = {"front": _observe(0).images["front"], "left": _observe(0).images["hand"]}
    with pytest.raises(ContractError, match="expected cameras front, hand, got front, left; send hand"):
        make_policy().act([_observe(0, images=images)])


def test_images_of_another_size_are_refused(make_policy: MakePolicy) -> None:
    images = {"front": _observe(0).images["front"], "hand": np.zeros((32, 16, 3), np.uint8)}
    with pytest.raises(ContractError, match=r"hand.*\(16, 16, 3\), got uint8 \(32, 16, 3\)"):
        make_policy().act([_observe(0, images=images)])


def test_a_state_of_another_size_is_refused(make_policy: MakePolicy) -> None:
    with pytest.raises(ContractError, match=r"expected float32 \(3,\) .*, got float32 \(2,\)"):
        make_policy().act([_observe(0, state=np.zeros(2, np.float32))])


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        UnifiedPolicy(tmp_path / "nowhere")
