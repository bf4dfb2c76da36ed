"""Tokens that are filled in any order, the surest first: what is masked while learning, and the rounds of decoding."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Read = Callable[[Int64[Tensor, "b l"], Bool[Tensor, "b l"]], Float[Tensor, "b l v"]]
"""Logits of every token from ids and which of them are shown."""


def draw_mask(b: int, length: int, device: torch.device) -> Bool[Tensor, "b l"]:
    """A share of each sample's tokens, drawn as decoding goes through them, of at least one token."""
    share = torch.cos(math.pi / 2 * torch.rand(b, 1, device=device))
    order = torch.rand(b, length, device=device).argsort(dim=1)
    return order < (share * length).ceil().clamp(min=1)


def fill(read: Read, b: int, length: int, rounds: int, device: torch.device) -> Int64[Tensor, "b l"]:
    """All tokens, in so many rounds: each fills those of which ``read`` is surest; what has been filled stays."""
    ids = torch.zeros(b, length, dtype=torch.long, device=device)
    filled = torch.zeros_like(ids, dtype=torch.bool)
    for left in _left(rounds, length):
        chance, found = read(ids, filled).softmax(dim=-1).max(dim=-1)  # (b, l) each
        ids = torch.where(filled, ids, found)
        # What was filled before counts as certain, so it stays among those that are kept.
        surest = chance.masked_fill(filled, math.inf).topk(length - left, dim=-1).indices
        filled = torch.zeros_like(filled).scatter(1, surest, True)
    return ids


def _left(rounds: int, length: int) -> list[int]:
    """Tokens that are masked after each round: few are filled first, where little is known, and more later."""
    return [*(int(math.cos(math.pi / 2 * i / rounds) * length) for i in range(1, rounds)), 0]
