"""The tree of features that TFDS writes to ``features.json``, flattened to the names that records use.

TFDS has written three spellings: a message of protocol buffers as JSON (``{"pythonClassName": .., "tensor": {"shape":
{"dimensions": ["7"]}, ..}}``, numbers as text, -1 for a size that varies), the same within ``{"type", "content",
"proto_cls"}``, and before both plain lists (``{"type": .., "content": {"shape": [7], ..}}``, null where it varies).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from vla.core.errors import DatasetError

FEATURES = "features.json"
STEPS = "steps"

_TEXT = ("string", "object", "str", "bytes")
_CLASSES = {
    "FeaturesDict": "featuresDict",
    "Dataset": "sequence",
    "Sequence": "sequence",
    "Tensor": "tensor",
    "Scalar": "tensor",
    "Image": "image",
    "LabeledImage": "image",
    "Text": "text",
    "ClassLabel": "classLabel",
    "BBoxFeature": "boundingBox",
}


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One array, text or picture: of the episode, or of each of its steps."""

    name: str
    """Path in the tree, like ``steps/observation/image``."""
    kind: Literal["tensor", "image", "text", "unread"]
    shape: tuple[int | None, ...] = ()
    """Without the steps; None where it varies."""
    dtype: str = "float32"
    encoding: str = "none"
    """``none``, or how a tensor is packed into bytes: ``bytes`` or ``zlib``."""
    record: str = ""
    """The name in a record."""
    problem: str = ""
    """Why it is ``unread``."""

    @property
    def of_step(self) -> bool:
        """Whether each step has one."""
        return self.name.startswith(f"{STEPS}/")

    @property
    def width(self) -> int | None:
        """Numbers in one value; None where that varies."""
        width = 1
        for size in self.shape:
            if size is None:
                return None
            width *= size
        return width

    @property
    def is_number(self) -> bool:
        """Whether it is a tensor of numbers of a fixed shape."""
        return self.kind == "tensor" and self.width is not None


def read_features(folder: Path) -> tuple[Leaf, ...]:
    """All leaves in the order of their names; a file that is missing or not understood is a `DatasetError`."""
    path = folder / FEATURES
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path} does not exist: records cannot be read without their features; download it beside the records"
        ) from None
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); download it again") from None
    try:
        leaves = sorted(_walk(tree, "", 0), key=lambda leaf: leaf.name)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{path}: not a tree of features as TFDS writes it ({type(error).__name__}: {error}); download it again"
        ) from None
    if not any(leaf.of_step for leaf in leaves):
        raise DatasetError(
            f"{path}: expected a dataset named {STEPS!r} within each record, got {[leaf.name for leaf in leaves][:8]}; "
            "only RLDS datasets of episodes are read"
        )
    return tuple(leaves)


def _walk(node: Mapping[str, Any], name: str, depth: int) -> Iterator[Leaf]:
    """The leaves below ``node``; ``depth`` counts the sequences around it."""
    kind, content = _content(node)
    if kind == "featuresDict":
        for key, child in content.get("features", content).items():
            yield from _walk(child, f"{name}/{key}" if name else key, depth)
    elif kind == "sequence":
        leaves = _walk(content["feature"], name, depth + 1)
        if depth == 0:
            yield from leaves
        else:
            yield from (_nested(leaf, content.get("length")) for leaf in leaves)
    else:
        yield _leaf(kind, content, name)


def _content(node: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What a node is, and its description, whichever spelling it has."""
    if "type" in node:
        content = node.get("content") or {}
        content = json.loads(content) if isinstance(content, str) else content
        return _CLASSES.get(_last(node["type"]), _last(node["type"])), content
    known = [key for key in node if key in _CLASSES.values()]
    if known:
        return known[0], node[known[0]]
    class_name = _last(node["pythonClassName"])
    content = json.loads(node["jsonFeature"]["json"]) if "jsonFeature" in node else {}
    return _CLASSES.get(class_name, class_name), content


def _leaf(kind: str, content: Mapping[str, Any], name: str) -> Leaf:
    """What a node that is not a container says."""
    if kind == "text":
        return Leaf(name=name, kind="text", dtype="string", record=name)
    if kind == "classLabel":
        return Leaf(name=name, kind="tensor", dtype="int64", record=name)
    if kind == "image":
        shape = _shape(content.get("shape")) or (None, None, 3)
        return Leaf(name=name, kind="image", shape=shape, dtype=content.get("dtype") or "uint8", record=name)
    if kind not in ("tensor", "boundingBox"):
        return Leaf(name=name, kind="unread", problem=f"a feature of the kind {kind}")
    shape = _shape(content.get("shape")) if kind == "tensor" else (4,)
    dtype = _last(str(content.get("dtype") or "float32")).rstrip("_")
    if dtype in _TEXT:
        if shape:
            return Leaf(name=name, kind="unread", problem="several texts")
        return Leaf(name=name, kind="text", dtype="string", record=name)
    leaf = Leaf(
        name=name,
        kind="tensor",
        shape=shape,
        dtype=dtype,
        encoding=str(content.get("encoding") or "none").lower(),
        record=name,
    )
    return leaf if None not in shape else replace(leaf, kind="unread", problem="a shape that varies")


def _nested(leaf: Leaf, length: Any) -> Leaf:
    """A leaf within a sequence within the steps: TFDS stores its rows and how many each step has."""
    count = -1 if length is None else int(length)
    if count < 0 or leaf.kind != "tensor" or leaf.encoding != "none" or leaf.record != leaf.name:
        return replace(leaf, kind="unread", problem="a sequence within each step")
    return replace(leaf, shape=(count, *leaf.shape), record=f"{leaf.name}/ragged_flat_values")


def _shape(value: Any) -> tuple[int | None, ...]:
    """A shape from a list, or from a message with numbers as text."""
    sizes = value.get("dimensions", ()) if isinstance(value, Mapping) else value or ()
    return tuple(None if size is None or int(size) < 0 else int(size) for size in sizes)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
