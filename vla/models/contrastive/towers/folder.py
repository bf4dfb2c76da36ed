"""A pretrained tower in a folder: weights as safetensors, everything else as JSON, sealed.

TOWER/
COMMIT.json           the seal, written last: size and checksum of every other file (see `vla.core.sealed`)
tower.json            what it reads, and kind and settings
weights.safetensors
tokenizer.json        of a tower of sentences
provenance.json       command, commit, versions, hardware, and the package that it comes from
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vla.core.config import Kinded, from_dict, to_dict
from vla.core.errors import CheckpointError, ConfigError, UnknownNameError
from vla.core.files import make_folder, write_atomic, write_json
from vla.core.lookup import lookup
from vla.core.sealed import DamageError, SealedFolder, parse_json, seal_folder, table, text
from vla.models.checkpoint import read_tensors, write_tensors
from vla.models.contrastive.towers.config import ImageTowerConfig, TextTowerConfig
from vla.models.text.config import PretrainedConfig, TokenizerConfig
from vla.models.trunk.filling import fill

_FIX = "copy the whole folder again, or make it anew with vla tower"
_ERROR: Any = {"error": CheckpointError, "fix": _FIX}
_TOWER, _WEIGHTS = "tower.json", "weights.safetensors"
_READS: Mapping[str, type[Kinded]] = {"pictures": ImageTowerConfig, "sentences": TextTowerConfig}

T = TypeVar("T", bound=Kinded)


def write_tower(path: Path, config: Kinded, tower: nn.Module, origin: Mapping[str, Any], tokenizer: str = "") -> None:
    """Write a tower into the new folder ``path``, its seal last; ``tokenizer`` is the JSON of that of its sentences."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists and is not empty; write the tower into a new folder, or remove that one")
    make_folder(path)
    write_tensors(path / _WEIGHTS, tower.state_dict())
    if tokenizer:
        write_atomic(path / "tokenizer.json", tokenizer.encode())
    write_json(path / "provenance.json", origin)
    reads = next(what for what, cls in _READS.items() if isinstance(config, cls))
    write_json(path / _TOWER, {"reads": reads, "tower": to_dict(config)})
    seal_folder(path)


def read_tower_config(path: Path, cls: type[T]) -> T:
    """What the tower in a folder is, one of ``cls``; no weight is read. `CheckpointError` where it is another."""
    folder, where = _open(path), path / _TOWER
    try:
        said = parse_json(folder.read(_TOWER, **_ERROR))
        reads, settings = text(said.get("reads"), "reads"), table(said.get("tower"), "tower")
        if _READS.get(reads) is not cls:
            raise CheckpointError(f"{path} holds a tower that reads {reads}, and this is to be a {cls.what}")
        kind = lookup(cls.what, text(settings.get("kind"), "tower: kind"), cls.table(), group=cls.group)
        found = from_dict(kind, settings, where=str(where), key="tower")
    except (DamageError, ConfigError, UnknownNameError) as error:
        raise CheckpointError(f"{where} is damaged: {error}; {_FIX}") from None
    assert isinstance(found, cls)
    return found


def begin_tower(tower: nn.Module, config: Kinded, path: Path) -> None:
    """Fill ``tower``, which ``config`` built, with the weights of the folder."""
    cls = next(cls for cls in _READS.values() if isinstance(config, cls))
    if (found := read_tower_config(path, cls)) != config:
        raise CheckpointError(
            f"{path} holds another tower than the recipe says: expected {to_dict(config)}, got {to_dict(found)}"
        )
    fill(tower, read_tensors(_open(path), _WEIGHTS), what=f"{path / _WEIGHTS} does not fit {_TOWER}", fix=f"; {_FIX}")


def require_own_tokenizer(path: Path, tokenizer: TokenizerConfig) -> None:
    """`ConfigError` unless ``tokenizer`` is the one beside this tower of sentences, which knows no other tokens."""
    own = PretrainedConfig(path=str(path))
    if not isinstance(tokenizer, PretrainedConfig) or tokenizer.fit(()).digest() != own.fit(()).digest():
        raise ConfigError(
            f"model.tokenizer={to_dict(tokenizer)}: the tower of sentences in {path} knows the tokens of its own "
            f"tokenizer alone; expected {to_dict(own)}, the one that lies beside it"
        )


def _open(path: Path) -> SealedFolder:
    if not path.is_dir():
        raise CheckpointError(f"tower {path} does not exist; make one with: vla tower efficientnet-lite0 {path}")
    try:
        return SealedFolder.open(path, **_ERROR)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no tower: it has no COMMIT.json; {_FIX}") from None
