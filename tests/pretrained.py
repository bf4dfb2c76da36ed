"""Small folders as ``vla tower`` writes them, of random weights; that of sentences reads pieces of words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn

from vla.models.contrastive.towers.config import EfficientNetConfig, TransformerTowerConfig
from vla.models.contrastive.towers.folder import write_tower

IMAGE = EfficientNetConfig(widths=0.25, depths=0.5, squeeze=0.0, activation="relu6", head=24, image=64)
_PIECES = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *(p + c for p in ("", "##") for c in "abcdefghijklmnopqrstuvwxyz0123456789,."),
)
TEXT = TransformerTowerConfig(
    words=len(_PIECES),
    length=512,
    width=12,
    layers=5,
    heads=3,
    hidden=16,
    norm="after",
    types=2,
    pool="mean",
    marks=(2, 3),
)


def write_pretrained(folder: Path, **changes: int) -> tuple[Path, Path]:
    """The folders; ``changes`` are of the tower of sentences."""
    torch.manual_seed(11)
    picture = _seen(IMAGE.build())
    text = replace(TEXT, **changes)
    sentences = text.build()
    with torch.no_grad():
        sentences.words.weight.normal_()  # apart, as words that were learned
    write_tower(folder / "image", IMAGE, picture, {"from": "a test"})
    write_tower(folder / "text", text, sentences, {"from": "a test"}, tokenizer=_tokenizer())
    return folder / "image", folder / "text"


def _seen(tower: nn.Module) -> nn.Module:
    """With the statistics of pictures in its norms, as one that was trained: else all pictures are one to it."""
    for norm in (module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # the mean of all that it sees
    noise = torch.randint(0, 256, (16, 8, 8, 3), dtype=torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    with torch.no_grad():
        tower.train()(noise)
    return tower


def pretrained(folder: Path) -> dict[str, Any]:
    """What ``model`` of a recipe says of both, written anew."""
    pictures, sentences = write_pretrained(folder)
    return {
        "tokenizer": {"kind": "pretrained", "path": str(sentences)},
        "pictures": {"kind": "tower", "tower": {"kind": "folder", "folder": str(pictures), "image": 64, "cells": True}},
        "sentences": {"kind": "tower", "tower": {"kind": "folder", "folder": str(sentences)}},
    }


def _tokenizer() -> str:
    """Letters as pieces of words, as BERT reads words that it does not know."""
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(_PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())
