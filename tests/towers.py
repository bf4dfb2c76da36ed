"""A tiny checkpoint of two towers, which has learned next to nothing, and captions for it to learn from."""

from pathlib import Path
from typing import Any

from vla import train
from vla.collection.experts import collect
from vla.collection.settings import CollectConfig

SMALL: dict[str, Any] = {
    "engine": "inline",
    "threads": 1,
    "device": "cpu",
    "batch": 8,
    "steps": 2,
    "model": {
        "embedding": 16,
        "pictures": {"width": 16, "channels": 8, "layers": 1, "heads": 2},
        "sentences": {"width": 16, "layers": 1, "heads": 2},
        "hidden": 16,
        "layers": 1,
    },
}


def write_described(root: Path) -> Path:
    """Six episodes of 32 pixels with captions."""
    collect(CollectConfig(episodes=6, workers=1, captions=2, parts=1, settings={"image_size": 32}), root)
    return root


def write_towers(folder: Path, described: Path | None = None) -> Path:
    """The checkpoint."""
    data = described or write_described(folder / "described")
    return train("two-tower", folder / "run", changes={**SMALL, "data": {"path": str(data)}}).checkpoint
