"""Checkpoints: bit-exact there and back, and whatever is wrong with one is named before it is used."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla.core.action_transform import ActionTransform
from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import CheckpointError, ContractError, VlaError
from vla.core.policy_spec import DatasetVersion
from vla.core.scaling import Statistics
from vla.core.sealed import COMMIT, seal_folder
from vla.models.checkpoint import (
    Blueprint,
    load_model,
    open_checkpoint,
    read_blueprint,
    read_tensors,
    restore,
    write_checkpoint,
)
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.info import checkpoint_damage
from vla.models.kinds.unified import UnifiedConfig
from vla.models.preprocessor import Embodiment, Preprocessor
from vla.models.readers.config import ImagesConfig, StateConfig, TextConfig
from vla.models.text.words import WordTokenizer
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import Inputs
from vla.models.upgrade import upgrade_checkpoint

_ANGLES = tuple(Dimension(name=name, unit="rad", low=-2.0, high=2.0) for name in ("shoulder", "elbow"))
_GRIPPER = Dimension(name="gripper", unit="m", low=0.0, high=0.1)
_ARM = Contract(
    robot="two-link",
    cameras=(Camera(name="front", height=16, width=16),),
    state=(*_ANGLES, _GRIPPER),
    action=(*_ANGLES, _GRIPPER),
    signals={"grounding": (Dimension(name="x", unit="m", low=-1.0, high=1.0),)},
    gripper="gripper",
    control_hz=10.0,
)
_LEG = dataclasses.replace(_ARM, robot="leg", state=_ANGLES, action=_ANGLES[:1], gripper=None, signals={})
HEADS: dict[str, HeadConfig] = {
    "step": BinsHeadConfig(bins=8),
    "joint": BinsHeadConfig(bins=8, layout="joint"),
    "tokens": TokensHeadConfig(codec=BinsConfig(bins=8)),
}


def _embodiment(contract: Contract) -> Embodiment:
    """Scales whose numbers have no short decimals."""
    ends = [-1 / 3, -2.0, 0.1][: len(contract.state)], [0.7, 2.1, 1 / 7][: len(contract.state)]
    action = len(contract.action)
    return Embodiment(
        contract=contract,
        cameras=("front",),
        space=ActionTransform.of(contract),
        state=Statistics.between(*ends),
        action=Statistics.between([-1 / 7] * action, [1 / 3] * action),
    )


def _blueprint(
    head: HeadConfig = HEADS["step"],
    *,
    width: int = 16,
    words: str = "reach the cup",
    robots: tuple[Contract, ...] = (_ARM,),
) -> Blueprint:
    config = UnifiedConfig(
        trunk=TransformerConfig(width=width, layers=1, heads=2),
        readers={
            "text": TextConfig(heads=2),
            "images": ImagesConfig(channels=4, tokens=2),
            "state": StateConfig(dropout=0.1),
        },
        head=head,
        text_tokens=4,
        horizon=4,
        execute=2,
        history=2,
    )
    preprocessor = Preprocessor(
        embodiments=tuple(map(_embodiment, robots)),
        tokenizer=WordTokenizer.fit([words]),
        words=tuple(words.split()),
        text_tokens=4,
        image_size=(16, 16),
        history=2,
        horizon=4,
    )
    chunks = torch.rand(50, 4, preprocessor.interface.action, generator=torch.Generator().manual_seed(0)) - 0.3
    return Blueprint(
        preprocessor=preprocessor,
        config=config,
        fitted=config.fit(chunks),
        datasets=(DatasetVersion(path="place", manifest=2),),
        statistics=("00ff",),
    )


def _write(path: Path, blueprint: Blueprint) -> Path:
    torch.manual_seed(0)
    write_checkpoint(path, blueprint, blueprint.build().state_dict(), {"seed": 0})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return _write(tmp_path / "checkpoint", _blueprint())


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document, and seal the folder again: whoever forges a file can forge its seal."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    seal_folder(path.parent)


def _refused(checkpoint: Path, error: type[VlaError], message: str) -> None:
    """Loading it is refused in one line."""
    with pytest.raises(error, match=message) as caught:
        load_model(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("robots", [(_ARM,), (_ARM, _LEG)], ids=["one robot", "two robots"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_checkpoint_of_any_kind_comes_back_bit_for_bit(
    head: HeadConfig, robots: tuple[Contract, ...], tmp_path: Path
) -> None:
    written = _blueprint(head, robots=robots)
    _write(tmp_path / "checkpoint", written)
    torch.manual_seed(0)
    model = written.build()
    read, loaded = load_model(tmp_path / "checkpoint")
    assert not loaded.training
    assert model.state_dict().keys() == loaded.state_dict().keys()
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    assert {k: v.shape for k, v in model.named_buffers()} == {k: v.shape for k, v in loaded.named_buffers()}
    assert all(torch.equal(v, dict(loaded.named_buffers())[k]) for k, v in model.named_buffers())
    assert read.config == written.config
    assert read.preprocessor.to_json() == written.preprocessor.to_json()
    assert read.preprocessor.tokenizer.to_json() == written.preprocessor.tokenizer.to_json()
    assert (read.datasets, read.statistics) == (written.datasets, written.statistics)
    for number in range(len(robots)):
        ours, theirs = (json.dumps(b.contract_of(number).to_json()) for b in (read, written))
        assert ours == theirs


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_the_same_model_answers_the_same(head: HeadConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = _blueprint(head).build().eval()
    inputs = Inputs(
        images=torch.full((2, 2, 1, 16, 16, 3), 99, dtype=torch.uint8),
        camera_valid=torch.ones(2, 1, dtype=torch.bool),
        state=torch.tensor([[[0.1, 0.2, 0.05]] * 2] * 2),
        state_valid=torch.ones(2, 3, dtype=torch.bool),
        observed=torch.ones(2, 2, dtype=torch.bool),
        text=torch.tensor([[1, 2, 0, 0]] * 2),
        text_valid=torch.tensor([[True, True, False, False]] * 2),
        embodiment=torch.zeros(2, dtype=torch.long),
    )
    ours = model.act(inputs)
    theirs = load_model(_write(tmp_path / "checkpoint", _blueprint(head)))[1].act(inputs)
    assert torch.equal(ours.actions, theirs.actions)
    assert ours.signals.keys() == theirs.signals.keys() == {"grounding"}
    assert torch.equal(ours.signals["grounding"], theirs.signals["grounding"])


def test_the_contract_says_what_the_policy_is() -> None:
    blueprint = _blueprint(robots=(_ARM, _LEG))
    spec = blueprint.contract.policy
    assert spec is not None
    assert (spec.kind, spec.horizon, spec.execute, spec.history) == ("unified", 4, 2, 2)
    assert spec.relative_to == ("shoulder", "elbow", None)
    assert spec.robots == ("two-link", "leg")
    assert spec.datasets == (DatasetVersion(path="place", manifest=2),)
    other = blueprint.contract_of(1)
    assert (other.robot, len(other.action)) == ("leg", 1)
    assert other.policy is not None
    assert other.policy.relative_to == ("shoulder",)


FILES = ["weights.safetensors", "tokenizer.json", "preprocessor.json", "contract.json"]


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_named_with_the_fix(checkpoint: Path, kept: int) -> None:
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    _refused(checkpoint, CheckpointError, r"weights\.safetensors fails its checksum.*copy the whole .* again")
    seal_folder(checkpoint)
    _refused(checkpoint, CheckpointError, r"weights\.safetensors is truncated or damaged .*copy the whole .* again")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    _refused(checkpoint, CheckpointError, rf"{name} is missing; copy the whole")


@pytest.mark.parametrize("name", [*FILES, COMMIT])
def test_no_flipped_bit_is_read(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 40, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        _refused(checkpoint, CheckpointError, name.replace(".", r"\."))
        assert any(name in what for what in _damage(checkpoint))


def _damage(checkpoint: Path) -> list[str]:
    try:
        return checkpoint_damage(checkpoint)
    except CheckpointError as error:
        return [str(error)]


def test_damage_is_listed_whole(checkpoint: Path) -> None:
    assert checkpoint_damage(checkpoint) == []
    (checkpoint / "provenance.json").write_text("{}")
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "notes.txt").write_text("mine")
    assert sorted(checkpoint_damage(checkpoint)) == [
        "notes.txt is not in the seal",
        "provenance.json has 2 bytes, expected 15",
        "tokenizer.json is missing",
    ]


def test_weights_that_are_not_finite_are_damage(tmp_path: Path) -> None:
    blueprint = _blueprint()
    weights = blueprint.build().state_dict()
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], torch.nan)
    write_checkpoint(tmp_path / "checkpoint", blueprint, weights, {})
    assert checkpoint_damage(tmp_path / "checkpoint") == [f"{name} is not finite"]


def test_one_without_a_seal_is_refused_with_the_command_that_seals_it(checkpoint: Path) -> None:
    before = load_model(checkpoint)[1].state_dict()
    (checkpoint / COMMIT).unlink()
    _refused(checkpoint, CheckpointError, f"has no seal .*vla upgrade {checkpoint}")
    assert upgrade_checkpoint(checkpoint) == "sealed"
    assert upgrade_checkpoint(checkpoint) == "current"
    after = load_model(checkpoint)[1].state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("name", FILES)
def test_what_is_visibly_damaged_is_not_sealed(checkpoint: Path, name: str) -> None:
    (checkpoint / COMMIT).unlink()
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VlaError, match=r"damaged|not valid JSON"):
        upgrade_checkpoint(checkpoint)
    assert not (checkpoint / COMMIT).exists()


def test_the_folder_of_a_run_names_its_checkpoint(checkpoint: Path) -> None:
    _refused(checkpoint.parent, CheckpointError, f"did you mean {checkpoint}")


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor.json", "contract.json"])
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", "3"])
def test_a_damaged_file_is_refused(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_text(text)
    seal_folder(checkpoint)
    _refused(checkpoint, VlaError, r"damaged|not valid JSON|contract version None")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    _refused(tmp_path / "nowhere", CheckpointError, "nowhere does not exist; train one")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenizer.json", r"tokenizer\.json is not the one that the contract names; copy the whole folder"),
        ("preprocessor.json", r"preprocessor\.json is not the one that the contract names; copy the whole folder"),
        ("contract.json", "is not the one that the contract names; copy the whole folder"),
        ("weights.safetensors", r"wrong shape \['.*mixes two checkpoints"),
    ],
)
def test_a_file_of_another_checkpoint_is_refused(checkpoint: Path, tmp_path: Path, name: str, message: str) -> None:
    other = _write(tmp_path / "other", _blueprint(width=32, words="other words"))
    shutil.copy(other / name, checkpoint / name)
    _refused(checkpoint, CheckpointError, rf"{name}( fails its checksum|: \d+ bytes, expected)")
    seal_folder(checkpoint)
    _refused(checkpoint, CheckpointError, message)


def test_another_robot_in_the_contract_is_refused(checkpoint: Path) -> None:
    _edit(checkpoint / "contract.json", lambda c: c.update(robot="three-link"))
    _refused(checkpoint, CheckpointError, r"contract\.json is not of the robot in preprocessor\.json; copy the whole")


def test_the_contract_of_a_robot_is_no_checkpoint(checkpoint: Path) -> None:
    _edit(checkpoint / "contract.json", lambda c: c.update(policy=None))
    _refused(
        checkpoint, ContractError, r"contract\.json has no policy part: it is a robot's contract, and .* no checkpoint"
    )


def test_an_unknown_kind_is_answered_with_the_list(checkpoint: Path) -> None:
    _edit(checkpoint / "contract.json", lambda c: c["policy"].update(kind="unifed"))
    _refused(
        checkpoint,
        ContractError,
        r"unknown kind of model 'unifed': did you mean 'unified'\? known: act, diffusion, language, two-tower, unified",
    )
    _edit(checkpoint / "contract.json", lambda c: c["policy"].update(kind="no.such.module:Model"))
    _refused(checkpoint, ContractError, r"'no\.such\.module:Model' cannot be imported")


def test_no_weight_may_be_missing_or_left_over(checkpoint: Path) -> None:
    model = _blueprint().build()
    weights = read_tensors(open_checkpoint(checkpoint), "weights.safetensors")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    name, tensor = weights.popitem()
    with pytest.raises(CheckpointError, match=f"missing .*{name}"):
        restore(model, weights, where=checkpoint)
    with pytest.raises(CheckpointError, match=r"too many .*surplus"):
        restore(model, weights | {name: tensor, "surplus": tensor}, where=checkpoint)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.update(contract_version=99), ContractError, "contract version 99"),
        (lambda c: c.pop("cameras"), ContractError, "lacks cameras"),
        (lambda c: c["state"][0].pop("unit"), ContractError, "damaged"),
        (lambda c: c.update(policy={}), ContractError, "lacks execute, horizon, kind"),
        (lambda c: c["policy"]["model"].update(wdth=3), ContractError, r"policy\.model: unknown key 'wdth'"),
        (lambda c: c["policy"]["model"].update(horizon="4"), ContractError, r"policy\.model\.horizon must be int"),
        (lambda c: c["policy"]["model"]["head"].update(kind="world-model"), ContractError, "unknown kind of head"),
        (
            lambda c: c["policy"]["fitted"]["head"].update(high=c["policy"]["fitted"]["head"]["low"]),
            ContractError,
            "low < high",
        ),
        (lambda c: c["policy"]["fitted"]["head"].pop("low"), ContractError, "lacks 'low'"),
        (lambda c: c["policy"]["fitted"].pop("head"), ContractError, "lacks 'low'"),
        (lambda c: c["policy"].pop("fitted"), ContractError, "lacks 'low'"),
        (lambda c: c["policy"].pop("preprocessor"), ContractError, "lacks preprocessor"),
        (lambda c: c["policy"].pop("tokenizer"), ContractError, "lacks tokenizer"),
        (lambda c: c["policy"].update(model=3), ContractError, "expected a mapping"),
        (lambda c: c["policy"]["model"]["trunk"].update(width=32), CheckpointError, "mixes two checkpoints"),
    ],
    ids=[
        *("version", "cameras", "state", "policy", "key", "type", "head", "limits", "low", "fitted head", "fitted"),
        *("preprocessor", "tokenizer", "model", "width"),
    ],
)
def test_a_tampered_contract_is_refused(
    checkpoint: Path, change: Callable[[dict[str, Any]], object], error: type[VlaError], message: str
) -> None:
    _edit(checkpoint / "contract.json", change)
    _refused(checkpoint, error, message)


def test_the_contract_is_checked_before_the_weights(checkpoint: Path) -> None:
    (checkpoint / "weights.safetensors").unlink()
    read_blueprint(checkpoint)
    _edit(checkpoint / "contract.json", lambda c: c["policy"].update(kind="world-model"))
    _refused(checkpoint, ContractError, "world-model")
