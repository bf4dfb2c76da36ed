"""Converts a checkpoint of version 1 to version 2, in place, and seals one of version 2.0, which had no seal.

All that is known of checkpoints of version 1 stands here.

Version 1 had one kind of model, whose parts were flags of one configuration; states were scaled by their range, and
actions by nothing but the limits of their bins. Both are scales of version 2, so an upgraded checkpoint answers what it
answered before, up to rounding.

    CHECKPOINT/            the upgraded one
    CHECKPOINT-version1/   in the end the old one, whole
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vla.core.action_transform import ActionTransform
from vla.core.errors import CheckpointError
from vla.core.files import sync_folder
from vla.core.policy_spec import DatasetVersion
from vla.core.scaling import Statistics
from vla.core.sealed import COMMIT, SealedFolder, flush, seal_folder
from vla.core.upgrade.version1 import upgraded_contract
from vla.models.auxiliaries.config import AuxiliaryConfig, GroundingConfig, PointingConfig
from vla.models.checkpoint import Blueprint, blueprint_of, read_blueprint, read_tensors, restore, write_checkpoint
from vla.models.codecs.config import BinsConfig
from vla.models.heads.config import BinsHeadConfig, HeadConfig, TokensHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.preprocessor import Embodiment, Preprocessor
from vla.models.readers.config import ImagesConfig, StateConfig, TextConfig
from vla.models.text.config import BpeConfig, read_tokenizer
from vla.models.text.tokenizer import InstructionTokenizer
from vla.models.trunk.config import TransformerConfig

_RENAMED = {
    "text_position": "readers.text.position",
    "reader.": "readers.text.transformer.",
    "cameras.": "readers.images.cameras.",
    "camera_position": "readers.images.position",
    "state.": "readers.state.project.",
    "step_position": "head.step_position",
    "joint_position": "head.joint_position",
}


Outcome = Literal["converted", "sealed", "current"]


def upgrade_checkpoint(path: Path) -> Outcome:
    """Convert or seal the checkpoint in the folder ``path``; one that is sealed already is left as it is.

    The converted one is complete before it takes the place of the old one: stopped at any moment, call it again. What
    is sealed is whole as far as can be told: everything is read, and every weight fits and is finite.
    """
    path = Path(os.path.abspath(path))  # "." has no name
    old, fresh = path.with_name(f"{path.name}-version1"), path.with_name(f".{path.name}-upgrade")
    if old.exists() and not path.exists():  # stopped between the two renames
        os.rename(fresh, path)
        sync_folder(path.parent)
        return "converted"
    value = _read_json(path / "contract.json")
    if value.get("contract_version") != 1:
        return _seal(path)
    if old.exists():
        raise CheckpointError(f"{old} is in the way; move it elsewhere, then upgrade again")
    blueprint = _blueprint(path, value)
    weights = _weights(read_tensors(_unsealed(path), "weights.safetensors"), blueprint)
    restore(blueprint.build(), weights, where=path / "weights.safetensors")
    shutil.rmtree(fresh, ignore_errors=True)
    write_checkpoint(fresh, blueprint, weights, _read_json(path / "provenance.json"))
    os.rename(path, old)
    os.rename(fresh, path)
    sync_folder(path.parent)
    return "converted"


def _seal(path: Path) -> Outcome:
    if (path / COMMIT).exists():
        read_blueprint(path)  # refuses what is damaged, or newer still
        return "current"
    folder = _unsealed(path)
    weights = read_tensors(folder, "weights.safetensors")
    restore(blueprint_of(folder).build(), weights, where=path / "weights.safetensors")
    if bad := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{path}: {bad[0]} is not finite; weights.safetensors is damaged, copy it again")
    seal_folder(path)
    return "sealed"


def _unsealed(path: Path) -> SealedFolder:
    """The folder as it is, believed."""
    return SealedFolder(path=path, files=flush(path), about={}, digest="")


def _blueprint(path: Path, value: Mapping[str, Any]) -> Blueprint:
    where = str(path / "contract.json")
    contract = upgraded_contract(value, where=where)
    policy = value["policy"]
    try:
        model, codec = policy["model"], policy["codec"]
        robot = Embodiment(
            contract=contract,
            cameras=tuple(camera.name for camera in contract.cameras),
            space=ActionTransform.from_json(codec, where=where),
            state=Statistics.between(policy["state_low"], policy["state_high"]),
            action=Statistics.between([-1.0] * len(contract.action), [1.0] * len(contract.action)),
        )
        config = _config(model)
        tokenizer = read_tokenizer((path / "tokenizer.json").read_text())
        preprocessor = Preprocessor(
            embodiments=(robot,),
            tokenizer=tokenizer,
            words=_words(tokenizer),
            text_tokens=model["text_tokens"],
            image_size=(contract.cameras[0].height, contract.cameras[0].width),
            history=1,
            horizon=model["horizon"],
        )
        return Blueprint(
            preprocessor=preprocessor,
            config=config,
            fitted={"head": {key: codec[key] for key in ("low", "high", "bins")}},
            datasets=(DatasetVersion(**policy["dataset"]),),
            statistics=(policy["statistics"]["hash"],),
        )
    except (KeyError, OSError) as error:
        raise CheckpointError(f"{path} is no whole checkpoint of version 1 ({error!r}); copy it again") from None


def _words(tokenizer: InstructionTokenizer) -> tuple[str, ...]:
    """The words that were said: the longest of the pieces that begin one."""
    pieces = {piece[1:] for piece in tokenizer.pieces() if piece.startswith("Ġ") and len(piece) > 1}
    return tuple(sorted(p for p in pieces if not any(other != p and other.startswith(p) for other in pieces)))


def _config(model: Mapping[str, Any]) -> UnifiedConfig:
    if model["decoding"] == "autoregressive" and model["layout"] == "step":
        raise CheckpointError(
            "autoregressive decoding of whole steps is no more, and nothing can be converted to it; train a new policy "
            "with model.head.kind=tokens, or go on with the version of vla that wrote this one"
        )
    head: HeadConfig = TokensHeadConfig(codec=BinsConfig(bins=model["action_bins"]))
    if model["decoding"] == "parallel":
        head = BinsHeadConfig(bins=model["action_bins"], label_sigma=model["label_sigma"], layout=model["layout"])
    auxiliaries: dict[str, AuxiliaryConfig] = {
        "grounding": GroundingConfig(
            weight=model["grounding_weight"], bins=model["grounding_bins"], label_sigma=model["label_sigma"]
        ),
        "pointing": PointingConfig(weight=model["pointing_weight"]),
    }
    trunk = TransformerConfig(**model["trunk"])
    return UnifiedConfig(
        trunk=trunk,
        readers={
            "text": TextConfig(heads=trunk.heads),
            "images": ImagesConfig(**model["vision"]),
            "state": StateConfig(dropout=model["state_dropout"]),
        },
        head=head,
        auxiliaries=auxiliaries,
        tokenizer=BpeConfig(),
        **{key: model[key] for key in ("horizon", "execute", "text_tokens")},
    )


def _weights(old: Mapping[str, Tensor], blueprint: Blueprint) -> dict[str, Tensor]:
    """The tensors under their new names; what is new begins at zero, as it does in training."""
    config = blueprint.config
    assert isinstance(config, UnifiedConfig)
    width = config.trunk.width
    weights = {_renamed(name): tensor for name, tensor in old.items() if name != "slot"}
    weights["readers.state.position"], query = old["slot"]
    zeros = ("readers.images.time", "readers.state.time", "readers.state.embodiment")
    weights |= {name: torch.zeros(1, width) for name in zeros}
    model = blueprint.build()
    if "auxiliaries.grounding.position" in model.state_dict():
        weights["auxiliaries.grounding.position"] = query
    if isinstance(config.head, TokensHeadConfig):
        steps, joints = weights.pop("head.step_position"), weights.pop("head.joint_position")
        weights["head.position"] = (steps + joints).flatten(0, 1)  # (h d, e)
    return weights


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name.removeprefix(old)
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; is {path.parent} a checkpoint?") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); copy the whole checkpoint folder") from None
    return value
