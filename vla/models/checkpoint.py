"""Checkpoints: weights as safetensors, everything else as JSON, the contract read and checked before any weight.

CHECKPOINT/
contract.json         the robot's interface, and under ``policy`` the model's configuration and codecs
tokenizer.json        the instruction tokenizer
weights.safetensors
provenance.json       command, commit, versions, hardware, resolved recipe
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vla.core.config import from_dict, to_dict
from vla.core.contract import Contract, read_contract
from vla.core.errors import CheckpointError, ContractError
from vla.core.files import write_atomic, write_json
from vla.models.bins import ActionCodec, BinCodec
from vla.models.config import UnifiedConfig
from vla.models.grounding import GroundingLayout
from vla.models.text import InstructionTokenizer
from vla.models.unified import UnifiedTransformer
from vla.models.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ModelParts:
    """All that a unified transformer is built from, besides its weights."""

    contract: Contract
    """With the policy part filled in by `bind`."""
    tokenizer: InstructionTokenizer
    config: UnifiedConfig
    actions: ActionCodec
    grounding: BinCodec
    state_range: tuple[np.ndarray, np.ndarray]

    def build(self) -> UnifiedTransformer:
        """The model with fresh weights."""
        layout = GroundingLayout.of(self.contract)
        vocabulary = Vocabulary(
            text=len(self.tokenizer),
            grounding_dims=len(layout.metric),
            grounding_bins=self.config.grounding_bins,
            action_dims=len(self.contract.action),
            action_bins=self.config.action_bins,
        )
        low, high = self.state_range
        return UnifiedTransformer(
            self.config,
            vocabulary=vocabulary,
            layout=layout,
            state_dims=len(self.contract.state),
            actions=self.actions,
            grounding=self.grounding,
            state_range=(torch.from_numpy(low), torch.from_numpy(high)),
        )

    def bind(self, **extra: Any) -> "ModelParts":
        """The same, with the contract's policy part describing them, plus ``extra``."""
        low, high = self.state_range
        policy = {
            "kind": "unified",
            "model": to_dict(self.config),
            "codec": self.actions.to_json(),
            "grounding": self.grounding.to_json(),
            "state_low": low.tolist(),
            "state_high": high.tolist(),
            "tokenizer": self.tokenizer.digest(),
            "horizon": self.config.horizon,
            "execute": self.config.execute,
            **extra,
        }
        return replace(self, contract=replace(self.contract, policy=policy))


def read_parts(path: Path) -> ModelParts:
    """Read the contract and the tokenizer of a checkpoint; no weight is touched."""
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist; train one with: vla train configs/demo.yaml")
    contract = read_contract(path / "contract.json")
    policy = contract.policy
    if policy.get("kind") != "unified":
        raise ContractError(f"{path / 'contract.json'}: policy kind {policy.get('kind')!r}, expected 'unified'")
    try:
        tokenizer = InstructionTokenizer.from_json((path / "tokenizer.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} lacks tokenizer.json; copy the whole checkpoint folder") from None
    try:
        if tokenizer.digest() != policy["tokenizer"]:
            raise CheckpointError(
                f"{path}: tokenizer.json is not the one that the contract names; copy the whole folder"
            )
        return ModelParts(
            contract=contract,
            tokenizer=tokenizer,
            config=from_dict(UnifiedConfig, policy["model"], where=f"{path}/contract.json"),
            actions=ActionCodec.from_json(policy["codec"]),
            grounding=BinCodec.from_json(policy["grounding"]),
            state_range=(np.asarray(policy["state_low"], np.float32), np.asarray(policy["state_high"], np.float32)),
        )
    except KeyError as error:
        raise ContractError(f"{path / 'contract.json'}: the policy part lacks {error}; the file is damaged") from None


def load_model(path: Path) -> tuple[ModelParts, UnifiedTransformer]:
    """Build the model of a checkpoint and fill every weight, ready for inference."""
    parts = read_parts(path)
    model = parts.build()
    fill(model, read_tensors(path / "weights.safetensors"), where=path / "weights.safetensors")
    return parts, model.eval()


def write_checkpoint(
    path: Path, parts: ModelParts, weights: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> None:
    """Write the files of a checkpoint into the folder ``path``; the contract comes last."""
    write_tensors(path / "weights.safetensors", weights)
    write_atomic(path / "tokenizer.json", parts.tokenizer.to_json().encode())
    write_json(path / "provenance.json", dict(provenance))
    write_json(path / "contract.json", parts.contract.to_json())


def fill(model: torch.nn.Module, weights: Mapping[str, Tensor], *, where: Path) -> None:
    """Copy ``weights`` into ``model``: every tensor once, none missing, none left over, all of the right shape."""
    own = model.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    if missing or extra or wrong:
        raise CheckpointError(
            f"{where} does not fit its contract: missing {missing[:3]}, unexpected {extra[:3]}, "
            f"wrong shape {sorted(wrong)[:3]}; the folder mixes two checkpoints"
        )
    model.load_state_dict(dict(weights))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors atomically."""
    write_atomic(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors; a missing or truncated file is a `CheckpointError`."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; copy the whole checkpoint folder") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); copy it again or use an older one") from None
