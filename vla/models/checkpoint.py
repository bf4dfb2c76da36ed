"""Checkpoints: weights as safetensors, everything else as JSON, sealed; the contract is checked before any weight.

CHECKPOINT/
COMMIT.json           the seal, written last: size and checksum of every other file (see `vla.core.sealed`)
contract.json         the robot's interface, and under ``policy`` what the policy is: kind, configuration, codecs
preprocessor.json     how inputs and outputs are made of the robot's, for each robot that it was trained on
tokenizer.json        the instruction tokenizer
weights.safetensors
provenance.json       command, commit, versions, hardware, resolved recipe
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vla.core.config import from_dict, to_dict
from vla.core.contract import Contract
from vla.core.errors import CheckpointError, ConfigError, ContractError, UnknownNameError, VlaError
from vla.core.files import write_atomic, write_json
from vla.core.lookup import lookup
from vla.core.policy_spec import DatasetVersion, PolicySpec
from vla.core.sealed import DamageError, SealedFolder, brief, parse_json, seal_folder
from vla.models.bounded import Bounded, TooLargeError
from vla.models.config import ModelConfig
from vla.models.model import Model
from vla.models.preprocessor import Preprocessor, robot_of
from vla.models.text.config import read_tokenizer
from vla.models.trunk.filling import fill


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """All that a model is built from, besides its weights."""

    preprocessor: Preprocessor
    config: ModelConfig
    fitted: Mapping[str, Any]
    """What the configuration's `fit` gave."""
    datasets: tuple[DatasetVersion, ...] = ()
    statistics: tuple[str, ...] = ()

    def build(self) -> Model:
        """The model with fresh weights."""
        return self.config.build(self.preprocessor.interface, self.fitted)

    @property
    def contract(self) -> Contract:
        """The first robot's, with the policy part that describes all this."""
        return self.contract_of(0)

    def contract_of(self, embodiment: int) -> Contract:
        """That of one robot."""
        preprocessor = self.preprocessor
        robot = preprocessor.embodiments[embodiment]
        names = [d.name for d in robot.contract.state]
        spec = PolicySpec(
            kind=self.config.kind,
            horizon=self.config.horizon,
            execute=self.config.execute,
            ensemble=self.config.ensemble,
            history=self.config.history,
            committed=self.config.most_committed,
            speech=self.config.listens,
            relative_to=tuple(None if i is None else names[i] for i in robot.space.relative_to),
            robots=tuple(e.contract.robot for e in preprocessor.embodiments),
            datasets=self.datasets,
            statistics=self.statistics,
            preprocessor=preprocessor.digest(),
            tokenizer=preprocessor.tokenizer.digest(),
            model=to_dict(self.config),
            fitted=self.fitted,
        )
        return replace(robot.contract, policy=spec)


_FIX = "copy the whole checkpoint folder again, or use an older one"
_ERROR: Any = {"error": CheckpointError, "fix": _FIX}
_ROOM, _LEAST_ROOM = 8, 2**24
"""What building may take, in sizes of the weights, and in bytes: initialising makes copies."""


def open_checkpoint(path: Path) -> SealedFolder:
    """The seal of a checkpoint; each file is checked against it when it is read."""
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist; train one with: vla train demo")
    try:
        return SealedFolder.open(path, **_ERROR)
    except FileNotFoundError:
        raise CheckpointError(_why_unsealed(path)) from None


def _why_unsealed(path: Path) -> str:
    if (path / "checkpoint").is_dir():
        return f"{path} is no checkpoint, but has one; did you mean {path / 'checkpoint'}?"
    if not (path / "contract.json").exists():
        return f"{path} is no checkpoint: contract.json does not exist there; copy the whole folder"
    return (
        f"{path} has no seal (COMMIT.json): vla 2.0 or older wrote it, or the file was lost, and damage would not be "
        f"noticed; if you trust what is there, convert or seal it with: vla upgrade {path}"
    )


def read_blueprint(path: Path) -> Blueprint:
    """Read the contract, the preprocessor and the tokenizer of a checkpoint; no weight is touched."""
    return blueprint_of(open_checkpoint(path))


def blueprint_of(folder: SealedFolder) -> Blueprint:
    """As `read_blueprint`, of a checkpoint that is open."""
    path, where = folder.path, folder.path / "contract.json"
    contract = Contract.from_json(read_object(folder, "contract.json"), where=str(where))
    spec = contract.policy
    if spec is None:
        raise ContractError(f"{where} has no policy part: it is a robot's contract, and {path} is no checkpoint")
    tokenizer = read_tokenizer(folder.read("tokenizer.json", **_ERROR).decode(errors="replace"))
    value = read_object(folder, "preprocessor.json")
    preprocessor = Preprocessor.from_json(value, tokenizer, where=str(path / "preprocessor.json"))
    for name, found, named in (
        ("tokenizer.json", tokenizer.digest(), spec.tokenizer),
        ("preprocessor.json", preprocessor.digest(), spec.preprocessor),
    ):
        if found != named:
            raise CheckpointError(f"{path}: {name} is not the one that the contract names; copy the whole folder")
    try:
        cls = lookup(ModelConfig.what, spec.kind, ModelConfig.table(), group=ModelConfig.group)
        config = from_dict(cls, dict(spec.model), where=str(where), key="policy.model")
    except (UnknownNameError, ConfigError) as error:
        raise ContractError(f"{where}: {error}") from None
    blueprint = Blueprint(
        preprocessor=preprocessor,
        config=config,
        fitted=spec.fitted,
        datasets=spec.datasets,
        statistics=spec.statistics,
    )
    if robot_of(contract).digest() != robot_of(blueprint.contract).digest():
        raise CheckpointError(f"{path}: contract.json is not of the robot in preprocessor.json; copy the whole folder")
    for name in ("horizon", "history"):  # said thrice, and chunks, windows and models are each made by one of them
        said = [getattr(part, name) for part in (spec, config, preprocessor)]
        if len(set(said)) > 1:
            raise CheckpointError(
                f"{path}: {name} is {said[0]} in the contract, {said[1]} in its model, {said[2]} in preprocessor.json; "
                f"{_FIX}"
            )
    return blueprint


def load_model(path: Path, device: torch.device | None = None) -> tuple[Blueprint, Model]:
    """Build the model of a checkpoint and fill every weight, ready for inference."""
    folder = open_checkpoint(path)
    blueprint = blueprint_of(folder)
    weights = read_tensors(folder, "weights.safetensors")
    model = _build(blueprint, weights, path)
    restore(model, weights, where=path / "weights.safetensors")
    return blueprint, model.to(device or torch.device("cpu")).eval()


def _build(blueprint: Blueprint, weights: Mapping[str, Tensor], path: Path) -> Model:
    """The model that the documents describe, in memory that fits its weights; whatever fails is a `CheckpointError`."""
    most = _ROOM * sum(tensor.nbytes for tensor in weights.values()) + _LEAST_ROOM
    try:
        with Bounded(most):
            return blueprint.build()
    except VlaError:
        raise
    except TooLargeError as error:
        raise CheckpointError(
            f"{path}: its contract describes a model of {error}, and its weights are of a smaller one; {_FIX}"
        ) from None
    except Exception as error:  # the documents are data, and may say what no builder was written for
        raise CheckpointError(f"{path}: no model can be built of its contract ({brief(error)}); {_FIX}") from None


def write_checkpoint(
    path: Path, blueprint: Blueprint, weights: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> None:
    """Write the files of a checkpoint into the folder ``path``; its seal comes last."""
    write_tensors(path / "weights.safetensors", weights)
    write_atomic(path / "tokenizer.json", blueprint.preprocessor.tokenizer.to_json().encode())
    write_json(path / "preprocessor.json", blueprint.preprocessor.to_json())
    write_json(path / "provenance.json", dict(provenance))
    write_json(path / "contract.json", blueprint.contract.to_json())
    seal_folder(path)


def restore(model: torch.nn.Module, weights: Mapping[str, Tensor], *, where: Path) -> None:
    """Copy the weights of the file ``where`` into the model that stands beside them."""
    fill(model, weights, what=f"{where} does not fit its contract", fix="; the folder mixes two checkpoints")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors atomically."""
    write_atomic(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def read_tensors(folder: SealedFolder, name: str) -> dict[str, Tensor]:
    """Read named tensors, if the file is the one that was sealed; otherwise `CheckpointError`."""
    try:
        return load(folder.read(name, **_ERROR))
    except SafetensorError as error:
        raise CheckpointError(f"{folder.path / name} is truncated or damaged ({error}); {_FIX}") from None


def read_object(folder: SealedFolder, name: str) -> dict[str, Any]:
    """Read a JSON object, if the file is the one that was sealed; otherwise `CheckpointError`."""
    try:
        return parse_json(folder.read(name, **_ERROR))
    except DamageError as error:
        raise CheckpointError(f"{folder.path / name} is damaged: {error}; {_FIX}") from None
