"""The values of one episode's record, as its features describe them."""

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from vla.core.errors import DatasetError
from vla.datasets.formats.dimensions import as_rows
from vla.datasets.formats.pictures import PictureError, as_pixels, decode_picture
from vla.datasets.formats.rlds.features import Leaf
from vla.datasets.formats.rlds.tfrecord import Values

_COUNTED_FIRST = ("is_first", "is_last", "is_terminal", "reward", "discount")


def count_steps(example: Mapping[str, Values], leaves: Sequence[Leaf], where: str) -> int:
    """How many steps a record has; none, or none of the features, is a `DatasetError`."""
    leaves = sorted(leaves, key=lambda leaf: leaf.name.rpartition("/")[2] not in _COUNTED_FIRST)
    for leaf in leaves:
        values = example.get(leaf.record)
        if leaf.of_step and values is not None and len(values) and (width := _stored_width(leaf)):
            return max(1, len(values) // width)
    raise DatasetError(f"{where}: the episode has no steps; leave it out of the dataset")


def numbers(example: Mapping[str, Values], leaf: Leaf, steps: int, where: str) -> np.ndarray:
    """A tensor of each step, flat: (t, width); another number of values is a `DatasetError`."""
    values = _unpacked(example.get(leaf.record, []), leaf, where)
    expected = steps * (leaf.width or 0)
    if values.size != expected:
        raise DatasetError(
            f"{where}: expected {expected} numbers of {leaf.name} ({steps} steps of {list(leaf.shape)}), got "
            f"{values.size}; the record and features.json disagree: download both again"
        )
    return values.reshape(steps, leaf.width or 0)


def vectors(example: Mapping[str, Values], leaves: Sequence[Leaf], steps: int, where: str) -> np.ndarray:
    """Tensors side by side: float32 (t, width of all)."""
    parts = [_in_32_bits(numbers(example, leaf, steps, where), leaf, where) for leaf in leaves]
    return np.concatenate(parts, axis=1) if parts else np.empty((steps, 0), np.float32)


def _in_32_bits(values: np.ndarray, leaf: Leaf, where: str) -> np.ndarray:
    """Integers that float32 cannot hold are a `DatasetError`; numbers that are not finite are left to the reader."""
    return as_rows(values, f"{where}: {leaf.name}") if values.dtype.kind in "iu" else values.astype(np.float32)


def texts(example: Mapping[str, Values], leaf: Leaf, where: str, steps: int | None = None) -> list[str]:
    """A text of each step, or of the episode; another number than ``steps`` is a `DatasetError`."""
    values = example.get(leaf.record, [])
    if leaf.is_number:  # language_table stores text as a row of character codes, filled up with zeros
        codes = np.asarray(values, np.int64).reshape(-1, leaf.width or 1)
        raw = [bytes(row[(row > 0) & (row < 256)].astype(np.uint8)) for row in codes]
    else:
        raw = values if isinstance(values, list) else []
    if steps is not None and leaf.of_step and raw and len(raw) != steps:
        raise DatasetError(f"{where}: expected {steps} texts of {leaf.name}, got {len(raw)}; download it again")
    try:
        return [text.decode() for text in raw]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: {leaf.name} is not UTF-8 ({error}); repair its source") from None


def frames(
    example: Mapping[str, Values], leaf: Leaf, steps: int, shape: tuple[int, int, int], where: str
) -> np.ndarray:
    """The pictures of one camera: uint8 (t, y, x, 3) or uint16 (t, y, x, 1)."""
    dtype = np.uint8 if shape[-1] == 3 else np.uint16
    if leaf.kind == "tensor":
        pixels = numbers(example, leaf, steps, where).reshape(steps, *shape)
        if dtype == np.uint8:
            return as_pixels(pixels, f"{where}: {leaf.name}")
        if pixels.min() < 0 or pixels.max() > np.iinfo(dtype).max:
            raise DatasetError(f"{where}: expected distances 0 to 65535 of {leaf.name}, got others; download it again")
        return pixels.astype(dtype)
    values = example.get(leaf.record, [])
    if not isinstance(values, list) or len(values) != steps:
        raise DatasetError(f"{where}: expected {steps} pictures of {leaf.name}, got {len(values)}; download it again")
    result = np.empty((steps, *shape), dtype)
    for step, data in enumerate(values):
        try:
            picture = decode_picture(data)
        except PictureError as error:
            raise DatasetError(f"{where}, step {step}: {leaf.name}: {error}; download the file again") from None
        if picture.shape != shape or picture.dtype != dtype:
            raise DatasetError(
                f"{where}, step {step}: expected a picture {shape} of {leaf.name}, got {picture.dtype} "
                f"{picture.shape}; all pictures of a camera must have one size: resize them, or split the dataset"
            )
        result[step] = picture
    return result


def _stored_width(leaf: Leaf) -> int:
    """Values in a record for each step; 0 where that is not known."""
    if leaf.kind in ("text", "image") or (leaf.kind == "tensor" and leaf.encoding != "none"):
        return 1
    return (leaf.width or 0) if leaf.kind == "tensor" else 0


def _unpacked(values: Values, leaf: Leaf, where: str) -> np.ndarray:
    """Numbers from a list of numbers, or from bytes of each step."""
    if isinstance(values, np.ndarray):
        if leaf.dtype.startswith(("float", "bfloat")) != (values.dtype.kind == "f") and len(values):
            raise DatasetError(
                f"{where}: expected {leaf.dtype} of {leaf.name} as features.json says, got {values.dtype}; "
                "download both again"
            )
        return values.view(np.uint64) if leaf.dtype == "uint64" and values.dtype == np.int64 else values
    if leaf.encoding == "none" or not values:
        if values:
            raise DatasetError(f"{where}: expected numbers of {leaf.name}, got bytes; download it again")
        return np.empty(0, np.float32)
    try:
        raw = [zlib.decompress(value) if leaf.encoding == "zlib" else value for value in values]
        return np.concatenate([np.frombuffer(value, leaf.dtype) for value in raw])
    except (zlib.error, ValueError, TypeError) as error:
        raise DatasetError(f"{where}: {leaf.name} cannot be unpacked ({error}); download it again") from None


def plain(example: Mapping[str, Values], leaf: Leaf, where: str) -> object:
    """A value of the whole episode as JSON holds it; None where it is long, not finite or not read."""
    values = example.get(leaf.record)
    if values is None or not len(values):
        return None
    if leaf.kind == "text":
        return texts(example, leaf, where)[0]
    if not leaf.is_number or leaf.encoding != "none" or not isinstance(values, np.ndarray) or len(values) > 64:
        return None
    result = values.astype(bool).tolist() if leaf.dtype == "bool" else values.tolist()
    if not all(math.isfinite(value) for value in result):
        return None
    return result[0] if leaf.shape == () else result
