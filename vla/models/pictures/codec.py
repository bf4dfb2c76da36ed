"""Image codecs: pictures ↔ ids, so that a transformer can read and write pictures as it does words."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from vla.core.errors import ContractError


class ImageCodec(nn.Module, ABC):
    """Pictures of one size ↔ a grid of ids below ``size``, row by row.

    Any ids are a picture, so whatever a model samples decodes. What a codec is made of is in its state: it travels with
    the weights of a model that reads by it. It does not learn there, and its mode and autocast change nothing.
    """

    size: int
    """Ids that it needs from the vocabulary."""
    image_size: tuple[int, int]
    """Sides (y, x) of its pictures in pixels."""
    grid: tuple[int, int]
    """Rows and columns of ids."""

    @property
    def length(self) -> int:
        """Tokens of a picture."""
        return self.grid[0] * self.grid[1]

    @abstractmethod
    def encode(self, images: UInt8[Tensor, "b y x 3"]) -> Int64[Tensor, "b l"]:
        """The ids of each picture; another size than the codec's is a `ContractError`."""

    @abstractmethod
    def decode(self, ids: Int64[Tensor, "b l"]) -> UInt8[Tensor, "b y x 3"]:
        """The pictures that ``ids`` spell; another number of them, or ids of another codec, are a `ContractError`."""


def require_pictures(images: Tensor, codec: ImageCodec) -> None:
    """`ContractError` unless these are pictures (b, y, x, 3) of bytes, of the codec's size."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (*codec.image_size, 3):
        height, width = codec.image_size
        kind = str(images.dtype).removeprefix("torch.")
        raise ContractError(
            f"image codec: expected uint8 pictures (b, {height}, {width}, 3) as it was fitted to, got {kind} "
            f"{tuple(images.shape)}; resize them, or fit a codec to their size"
        )


def require_ids(ids: Tensor, codec: ImageCodec) -> None:
    """`ContractError` unless these are the codec's number of ids for each picture, all of them its own."""
    if ids.ndim != 2 or ids.shape[1] != codec.length:
        raise ContractError(
            f"image codec: expected {codec.length} ids for each picture, {codec.grid[0]} rows of {codec.grid[1]}, got "
            f"ids of shape {tuple(ids.shape)}"
        )
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < codec.size:
        raise ContractError(
            f"image codec: expected ids from 0 to {codec.size - 1}, got {int(ids.min())} to {int(ids.max())}; they are "
            "of another codec, or count from the start of the whole vocabulary"
        )


def as_pixels(images: Tensor) -> UInt8[Tensor, "*b"]:
    """Numbers of about [0, 255] as the bytes nearest to them."""
    return images.round().clamp(0, 255).to(torch.uint8)
