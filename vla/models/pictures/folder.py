"""A fitted image codec in a folder: weights as safetensors, everything else as JSON, sealed.

CODES/
COMMIT.json           the seal, written last: size and checksum of every other file (see `vla.core.sealed`)
codec.json            kind and settings, and the size of its pictures
weights.safetensors
measured.json         how good it is on pictures that it was not fitted to
sheet.png             some of these beside what it makes of them
provenance.json       command, commit, versions, hardware, data
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vla.core.config import from_dict, to_dict
from vla.core.errors import CheckpointError, ConfigError, ContractError, UnknownNameError, VlaError
from vla.core.files import make_folder, write_atomic, write_json
from vla.core.lookup import lookup
from vla.core.sealed import (
    DamageError,
    SealedFolder,
    brief,
    digest,
    listed,
    parse_json,
    seal_folder,
    table,
    text,
    whole,
)
from vla.models.bounded import Bounded, TooLargeError
from vla.models.checkpoint import read_tensors, write_tensors
from vla.models.pictures.codec import ImageCodec
from vla.models.pictures.config import ImageCodecConfig
from vla.models.trunk.filling import fill

_FIX = "copy the whole folder again, or fit it anew with vla codes fit"
_ERROR: Any = {"error": CheckpointError, "fix": _FIX}
_MOST_SIDE = 2**14
_ROOM, _LEAST_ROOM = 8, 2**24
"""What building may take, in sizes of the weights, and in bytes."""
_WEIGHTS, _CODEC = "weights.safetensors", "codec.json"


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """All that an image codec is built from, besides its weights."""

    config: ImageCodecConfig
    image_size: tuple[int, int]
    """Sides (y, x) of its pictures."""
    digest: str
    """Of its weights: ids of two codecs mean the same only where it is the same."""

    def build(self) -> ImageCodec:
        """The codec with a state that is to be filled."""
        return self.config.build(self.image_size)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as `from_json` reads it."""
        return {"codec": to_dict(self.config), "image_size": list(self.image_size), "digest": self.digest}

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "CodecSpec":
        """Read what `to_json` wrote; anything odd is a `DamageError`, and so are settings that nothing has."""
        said = table(value.get("codec"), "codec")
        kind = text(said.get("kind"), "codec: kind")
        sides = listed(value.get("image_size"), "image_size", lambda item, what: whole(item, what, most=_MOST_SIDE))
        if len(sides) != 2 or min(sides) < 1:
            raise DamageError(f"image_size: expected two sides of at least 1 pixel, got {brief(sides)}")
        try:
            cls = lookup(ImageCodecConfig.what, kind, ImageCodecConfig.table(), group=ImageCodecConfig.group)
            config = from_dict(cls, dict(said), where=where, key="codec")
        except (UnknownNameError, ConfigError) as error:
            raise DamageError(str(error)) from None
        return CodecSpec(config=config, image_size=(sides[0], sides[1]), digest=text(value.get("digest"), "digest"))


def write_image_codec(
    path: Path, config: ImageCodecConfig, codec: ImageCodec, about: Mapping[str, Any], sheet: bytes
) -> CodecSpec:
    """Write a codec into the new folder ``path``, its seal last; ``about`` has what goes into JSON files by name."""
    require_new_folder(path)
    make_folder(path)
    write_tensors(path / _WEIGHTS, codec.state_dict())
    found = digest((path / _WEIGHTS).read_bytes())
    spec = CodecSpec(config=config, image_size=codec.image_size, digest=found)
    for name, value in about.items():
        write_json(path / f"{name}.json", value)
    write_atomic(path / "sheet.png", sheet)
    write_json(path / _CODEC, spec.to_json())
    seal_folder(path)
    return spec


def fitted_codec(fitted: Mapping[str, Any]) -> CodecSpec:
    """What a contract says of the codec of its model; a `ContractError` where it is damaged."""
    try:
        return CodecSpec.from_json(fitted, where="the contract")
    except DamageError as error:
        raise ContractError(f"image codec in the contract: {error}; it is damaged") from None


def codec_settings(path: str, *, where: str) -> dict[str, Any]:
    """What a contract is to say of the codec in the folder ``path``; ``where`` names who asks in errors."""
    if not path:
        raise ConfigError(f"{where}.path: which codec? Make one with: vla codes fit DATA FOLDER")
    return read_image_codec(Path(path))[0].to_json()


def begin_codec(codec: ImageCodec, spec: CodecSpec, path: str) -> None:
    """Read the weights of the codec that ``spec`` was made of."""
    found, weights = read_image_codec(Path(path))
    if found != spec:
        raise ConfigError(f"model: {path} holds another codec than when its settings were read")
    codec.load_state_dict(weights)


def require_fitted(codec: ImageCodec, path: str, size: tuple[int, int]) -> None:
    """`ConfigError` for pictures of another ``size`` (y, x) than those that the codec of ``path`` was fitted to."""
    if size != codec.image_size:
        fitted, found = (" x ".join(map(str, sides)) for sides in (codec.image_size, size))
        raise ConfigError(
            f"model: the codec {path} was fitted to pictures of {fitted}, and these are {found}: fit one to this "
            "dataset with vla codes fit"
        )


def require_new_folder(path: Path) -> None:
    """`CheckpointError` for a folder that holds anything: models may read by what is there."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError(f"{path} exists and is not empty; write the codec into a new folder, or remove that one")


def load_image_codec(path: Path | str) -> ImageCodec:
    """The codec in a folder that ``vla codes fit`` wrote; anything missing or damaged is a `CheckpointError`."""
    spec, weights = read_image_codec(Path(path))
    most = _ROOM * sum(tensor.nbytes for tensor in weights.values()) + _LEAST_ROOM
    try:
        with Bounded(most):
            codec = spec.build()
    except TooLargeError as error:
        raise CheckpointError(f"{path}: {_CODEC} describes a codec of {error}, its weights are less; {_FIX}") from None
    except VlaError as error:
        raise CheckpointError(f"{path}: {error}; {_FIX}") from None
    fill(codec, weights, what=f"{Path(path) / _WEIGHTS} does not fit {_CODEC}", fix=f"; {_FIX}")
    return codec.eval()


def read_image_codec(path: Path) -> tuple[CodecSpec, dict[str, Tensor]]:
    """What a codec is built from, and its weights."""
    folder = _open(path)
    spec = _spec(folder)
    if digest(folder.read(_WEIGHTS, **_ERROR)) != spec.digest:
        raise CheckpointError(f"{path}: {_WEIGHTS} is not what {_CODEC} names; {_FIX}")
    return spec, read_tensors(folder, _WEIGHTS)


def read_codec_document(path: Path, name: str) -> dict[str, Any]:
    """One of the JSON documents beside a codec, such as ``measured``."""
    folder = _open(path)
    try:
        return parse_json(folder.read(f"{name}.json", **_ERROR))
    except DamageError as error:
        raise CheckpointError(f"{path / name}.json is damaged: {error}; {_FIX}") from None


def _open(path: Path) -> SealedFolder:
    if not path.is_dir():
        raise CheckpointError(f"image codec {path} does not exist; fit one with: vla codes fit DATA {path}")
    try:
        return SealedFolder.open(path, **_ERROR)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no image codec: it has no COMMIT.json; {_FIX}") from None


def _spec(folder: SealedFolder) -> CodecSpec:
    where = folder.path / _CODEC
    try:
        return CodecSpec.from_json(parse_json(folder.read(_CODEC, **_ERROR)), where=str(where))
    except DamageError as error:
        raise CheckpointError(f"{where}: {error}; {_FIX}") from None
