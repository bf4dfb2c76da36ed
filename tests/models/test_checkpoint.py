"""Checkpoints: bit-exact there and back, and whatever is wrong with one is named before it is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vla.models.bins import ActionCodec, BinCodec

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError, ConfigError, ContractError, VlaError
from vla.models.checkpoint import ModelParts, fill, load_model, read_parts, read_tensors, write_checkpoint
from vla.models.config import TransformerConfig, UnifiedConfig, VisionConfig
from vla.models.text import InstructionTokenizer

_ANGLES = tuple(Dimension(name=name, unit="rad", low=-2.0, high=2.0) for name in ("shoulder", "elbow"))
_GRIPPER = Dimension(name="gripper", unit="m", low=0.0, high=0.1)
_CONTRACT = Contract(
    robot="two-link",
    cameras=(Camera(name="front", height=16, width=16),),
    state=(*_ANGLES, _GRIPPER),
    action=(*_ANGLES, _GRIPPER),
    signals={"grounding": (Dimension(name="x", unit="m", low=-1.0, high=1.0),)},
    gripper="gripper",
    control_hz=10.0,
)


def _parts(width: int = 16, words: str = "reach the cup") -> ModelParts:
    limits = np.linspace(-0.9, -0.1, 12, dtype=np.float32).reshape(4, 3)
    codec = BinCodec(low=limits, high=limits + np.float32(1 / 3), bins=8, sigma=0.7)
    return ModelParts(
        contract=_CONTRACT,
        tokenizer=InstructionTokenizer.train([words]),
        config=UnifiedConfig(
            trunk=TransformerConfig(width=width, layers=1, heads=2),
            vision=VisionConfig(channels=4, tokens=2),
            text_tokens=4,
            horizon=4,
            action_bins=8,
            grounding_bins=8,
        ),
        actions=ActionCodec(codec=codec, relative_to=(0, 1, None)),
        grounding=BinCodec(low=np.array([-1.0], np.float32), high=np.array([1.0], np.float32), bins=8),
        state_range=(np.array([-1 / 3, -2, 0], np.float32), np.array([0.1, 2, 0.1], np.float32)),
    ).bind(dataset={"path": "place", "manifest": 2})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    parts = _parts()
    torch.manual_seed(0)
    write_checkpoint(tmp_path / "checkpoint", parts, parts.build().state_dict(), {"seed": 0})
    return tmp_path / "checkpoint"


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_checkpoint_comes_back_bit_for_bit(checkpoint: Path) -> None:
    torch.manual_seed(0)
    written, model = _parts(), _parts().build()
    parts, loaded = load_model(checkpoint)
    assert not loaded.training
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    assert json.dumps(parts.contract.to_json()) == json.dumps(written.contract.to_json())
    assert parts.config == written.config
    assert parts.tokenizer.to_json() == written.tokenizer.to_json()
    assert parts.actions.relative_to == written.actions.relative_to
    for ours, theirs in ((parts.actions.codec, written.actions.codec), (parts.grounding, written.grounding)):
        np.testing.assert_array_equal(ours.low, theirs.low)
        np.testing.assert_array_equal(ours.high, theirs.high)
        assert (ours.bins, ours.sigma) == (theirs.bins, theirs.sigma)
    for low_or_high, same in zip(parts.state_range, written.state_range, strict=True):
        np.testing.assert_array_equal(low_or_high, same)


def test_the_same_model_answers_the_same(checkpoint: Path) -> None:
    torch.manual_seed(0)
    model = _parts().build().eval()
    batch = {
        "images": torch.full((2, 1, 16, 16, 3), 99, dtype=torch.uint8),
        "state": torch.tensor([[0.1, 0.2, 0.05]] * 2),
        "text": torch.tensor([[5, 6, 0, 0]] * 2),
        "text_valid": torch.tensor([[True, True, False, False]] * 2),
    }
    for ours, theirs in zip(model.act(batch), load_model(checkpoint)[1].act(batch), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_named_with_the_fix(checkpoint: Path, kept: int) -> None:
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is truncated or damaged .*copy it again"):
        load_model(checkpoint)


@pytest.mark.parametrize("name", ["weights.safetensors", "tokenizer.json", "contract.json"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(VlaError, match=name.replace(".", r"\.")):
        load_model(checkpoint)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist; train one"):
        load_model(tmp_path / "nowhere")


def test_the_tokenizer_of_another_checkpoint_is_refused(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text(_parts(words="other words").tokenizer.to_json())
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not the one that the contract names"):
        read_parts(checkpoint)


def test_a_damaged_tokenizer_is_refused(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer is damaged"):
        read_parts(checkpoint)


def test_weights_of_another_size_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    wide = _parts(width=32)
    write_checkpoint(tmp_path / "wide", wide, wide.build().state_dict(), {})
    (tmp_path / "wide" / "weights.safetensors").replace(checkpoint / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"wrong shape \['.*mixes two checkpoints"):
        load_model(checkpoint)


def test_no_weight_may_be_missing_or_left_over(checkpoint: Path) -> None:
    model = _parts().build()
    weights = read_tensors(checkpoint / "weights.safetensors")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    name, tensor = weights.popitem()
    with pytest.raises(CheckpointError, match=f"missing .*{name}"):
        fill(model, weights, where=checkpoint)
    with pytest.raises(CheckpointError, match=r"unexpected .*surplus"):
        fill(model, weights | {name: tensor, "surplus": tensor}, where=checkpoint)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.update(contract_version=99), ContractError, "contract version 99"),
        (lambda c: c.pop("cameras"), ContractError, "lacks cameras"),
        (lambda c: c["state"][0].pop("unit"), ContractError, "damaged"),
        (lambda c: c["policy"].update(kind="diffusion"), ContractError, "'diffusion', expected 'unified'"),
        (lambda c: c.update(policy={}), ContractError, "expected 'unified'"),
        (lambda c: c["policy"]["model"].update(wdth=3), ConfigError, "wdth"),
        (lambda c: c["policy"]["model"].update(horizon="4"), ConfigError, "horizon must be int"),
        (lambda c: c["policy"]["codec"].update(high=c["policy"]["codec"]["low"]), ContractError, "low < high"),
        (lambda c: c["policy"].pop("state_low"), ContractError, "state_low"),
        (lambda c: c["policy"].pop("codec"), ContractError, "codec"),
        (lambda c: c["policy"]["grounding"].pop("low"), ContractError, "low"),
        (lambda c: c["policy"]["model"]["trunk"].update(width=32), CheckpointError, "mixes two checkpoints"),
    ],
    ids=["version", "cameras", "state", "kind", "policy", "key", "type", "limits", "range", "codec", "low", "width"],
)
def test_a_tampered_contract_is_refused(
    checkpoint: Path, change: Callable[[dict[str, Any]], object], error: type[VlaError], message: str
) -> None:
    _edit(checkpoint / "contract.json", change)
    with pytest.raises(error, match=message):
        load_model(checkpoint)


def test_a_contract_that_is_no_json_is_refused(checkpoint: Path) -> None:
    (checkpoint / "contract.json").write_text("{")
    with pytest.raises(ContractError, match="not valid JSON"):
        read_parts(checkpoint)


def test_the_contract_is_checked_before_the_weights(checkpoint: Path) -> None:
    (checkpoint / "weights.safetensors").unlink()
    _edit(checkpoint / "contract.json", lambda c: c["policy"].update(kind="diffusion"))
    with pytest.raises(ContractError):
        load_model(checkpoint)


def test_more_things_to_point_at_than_tokens_can_are_refused() -> None:
    names = [f"front.{thing}.{axis}" for thing in "ab" for axis in ("row", "column")]
    points = tuple(Dimension(name=name, unit="image", low=-1.0, high=1.0) for name in names)
    from dataclasses import replace

    parts = _parts()
    with pytest.raises(ConfigError, match=r"model\.vision\.tokens=2 must be at least 4"):
        replace(parts, contract=replace(parts.contract, signals={"pointing": points})).build()
