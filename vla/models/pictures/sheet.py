"""A contact sheet: pictures beside what a codec makes of them."""

import numpy as np
from jaxtyping import UInt8

from vla.models.pictures.codec import ImageCodec
from vla.models.pictures.measures import coded_pictures
from vla.models.pictures.pictures import Pictures

_GAP, _BORDER = 4, 255
_WIDTH = 900
"""Pixels that a sheet is enlarged to at most, by whole factors."""


def contact_sheet(codec: ImageCodec, pictures: Pictures, *, each: int = 6) -> bytes:
    """A PNG with ``each`` pictures of each camera in a row, and below it the same pictures coded."""
    rows = []
    for number in range(len(pictures.cameras)):
        own = np.flatnonzero(pictures.camera == number)
        if not len(own):
            continue
        some = pictures.images[own[np.linspace(0, len(own) - 1, each).astype(np.int64)]]
        rows += [_row(some), _row(coded_pictures(codec, some)[0])]
    sheet = np.concatenate(rows)
    scale = max(1, _WIDTH // sheet.shape[1])
    from imagecodecs import png_encode

    return bytes(png_encode(np.ascontiguousarray(sheet.repeat(scale, 0).repeat(scale, 1))))


def _row(images: UInt8[np.ndarray, "b y x 3"]) -> UInt8[np.ndarray, "v u 3"]:
    """Side by side on white."""
    framed = np.pad(images, ((0, 0), (0, _GAP), (0, _GAP), (0, 0)), constant_values=_BORDER)
    row: np.ndarray = np.concatenate(list(framed), axis=1)
    return row
