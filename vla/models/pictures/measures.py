"""How good an image codec is: on whole pictures and object pixels, beside the mean picture; and the codes that it uses.

Signal-to-noise ratios (PSNR, dB) are of the squared error of all pixels together, not means over pictures. The mean
picture of each camera is the baseline: on whole pictures it looks good, since most of them is table.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from vla.models.pictures.codec import ImageCodec
from vla.models.pictures.pictures import DIFFERENT, Pictures

_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """PSNR in dB."""

    whole: float
    objects: float
    """Of object pixels; NaN where there are none."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `measure` found."""

    pictures: int
    tokens: int
    """Of a picture."""
    codes: int
    """That there are."""
    used: int
    """That some picture uses."""
    perplexity: float
    """As many codes, used equally often, would say as much."""
    object_share: float
    """Of all pixels."""
    coded: Ratios
    mean_image: Ratios
    cameras: Mapping[str, Ratios]
    """Coded, of each camera."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, None for what is not known; with the threshold of object pixels."""
        return {key: _known(value) for key, value in asdict(self).items()} | {"object_pixels_differ_by": DIFFERENT}


def measure(codec: ImageCodec, pictures: Pictures) -> Measured:
    """Encode and decode all pictures."""
    coded, uses = coded_pictures(codec, pictures.images)
    objects = pictures.objects()
    share = uses / uses.sum()
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    of_camera = {name: pictures.camera == number for number, name in enumerate(pictures.cameras)}
    return Measured(
        pictures=len(pictures),
        tokens=codec.length,
        codes=codec.size,
        used=int((uses > 0).sum()),
        perplexity=float(np.exp(entropy)),
        object_share=float(objects.mean()),
        coded=ratios(coded, pictures.images, objects),
        mean_image=ratios(pictures.means[pictures.camera], pictures.images, objects),
        cameras={
            name: ratios(coded[own], pictures.images[own], objects[own]) for name, own in of_camera.items() if own.any()
        },
    )


def coded_pictures(
    codec: ImageCodec, images: UInt8[np.ndarray, "b y x 3"]
) -> tuple[UInt8[np.ndarray, "b y x 3"], np.ndarray]:
    """The pictures as they come back, and how often each code was used."""
    coded, uses = np.empty_like(images), np.zeros(codec.size, np.int64)
    for start in range(0, len(images), _AT_ONCE):
        ids = codec.encode(torch.from_numpy(images[start : start + _AT_ONCE]))
        coded[start : start + _AT_ONCE] = codec.decode(ids).numpy()
        uses += np.bincount(ids.flatten().numpy(), minlength=codec.size)
    return coded, uses


def ratios(
    found: UInt8[np.ndarray, "b y x 3"], true: UInt8[np.ndarray, "b y x 3"], objects: Bool[np.ndarray, "b y x"]
) -> Ratios:
    """PSNR of all pixels, and of object pixels."""
    error = np.square(found.astype(np.float32) - true).mean(axis=-1)
    return Ratios(whole=_ratio(error), objects=_ratio(error[objects]))


def _ratio(error: np.ndarray) -> float:
    if not error.size:
        return float("nan")
    mean = float(error.mean(dtype=np.float64))
    return float("inf") if mean == 0 else float(10 * np.log10(255**2 / mean))


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
