"""What is asked for: words, a picture in a file, or a frame of the dataset."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset
from vla.search.embedding import Embedder, fitted

_MOST_BYTES = 64 * 2**20
_MOST_PIXELS = 2**26
_FRAME = re.compile(r"(\d{1,9}):(\d{1,9})(?::(.+))?")


def picture_of_file(path: Path) -> UInt8[np.ndarray, "y x 3"]:
    """A PNG or JPEG as RGB; anything else is a `ConfigError`."""
    from imagecodecs import imread

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"search: {path} is larger than any picture that is looked for; scale it down")
        pixels = np.asarray(imread(str(path), codec=["png", "jpeg8"]))
    except OSError as error:
        raise ConfigError(f"search: the picture {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # each codec has its own
        raise ConfigError(f"search: {path}: expected a PNG or JPEG ({' '.join(str(error).split())[:120]})") from None
    return rgb(pixels, str(path))


def rgb(pixels: np.ndarray, where: str) -> UInt8[np.ndarray, "y x 3"]:
    """Grey made three equal colours, and transparency left out."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ConfigError(f"search: {where}: expected a picture of 8 bits, got {pixels.dtype} {pixels.shape}")
    colours = pixels[..., None] if pixels.ndim == 2 else pixels
    if colours.shape[-1] in (1, 2):
        return np.repeat(colours[..., :1], 3, axis=-1)
    return np.ascontiguousarray(colours[..., :3])


def picture_of_frame(dataset: Dataset, said: str) -> UInt8[np.ndarray, "y x 3"]:
    """The frame that ``EPISODE:STEP`` or ``EPISODE:STEP:CAMERA`` names; by default of the first camera of colour."""
    found = _FRAME.fullmatch(said)
    if found is None:
        raise ConfigError(f"search: frame={said!r}: expected EPISODE:STEP or EPISODE:STEP:CAMERA, such as 3:25:front")
    episode, step = int(found[1]), int(found[2])
    if episode >= len(dataset.episodes) or step >= dataset.episode_lengths[episode]:
        most = f"{dataset.episode_lengths[episode]} steps" if episode < len(dataset.episodes) else "no such episode"
        raise ConfigError(
            f"search: frame={said!r}: {dataset.url} has {len(dataset.episodes)} episodes, and in this one {most}; "
            "both are counted from 0"
        )
    colour = [camera.name for camera in dataset.contract.cameras if camera.kind == "rgb"]
    camera = found[3] or (colour[0] if colour else "")
    if camera not in colour:
        raise ConfigError(f"search: frame={said!r}: expected a camera of colour, one of {', '.join(colour) or 'none'}")
    return dataset.frame(camera, int(dataset.episode_starts[episode]) + step)


def embed_query(embedder: Embedder, query: str | UInt8[np.ndarray, "y x 3"]) -> Float32[np.ndarray, " e"]:
    """The vector of words or of a picture."""
    if isinstance(query, str) and not query.strip():
        raise ConfigError("search: what is looked for is empty; say it in words, or give --image FILE")
    found = (
        embedder.texts([query]) if isinstance(query, str) else embedder.images(fitted(query, embedder.image_size)[None])
    )
    return np.asarray(found[0])
