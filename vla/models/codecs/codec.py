"""Action codecs: scaled chunks ↔ tokens, so that a transformer can write actions as it writes words."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.core.errors import ContractError

_WALKS = 8


class ActionCodec(nn.Module, ABC):
    """Chunks (h, d) of about [-1, 1] ↔ at most ``length`` ids below ``size``.

    ``decode`` takes any ids, so whatever a model samples is a chunk. Which sequences *mean* one is said by the grammar:
    `allowed` lets a chunk be completed within ``length`` tokens whatever is chosen, `remaining` says how many are left.
    """

    size: int
    """Ids that it needs from the vocabulary."""
    length: int
    """Tokens of a chunk at most: the budget. A chunk that takes fewer is padded within the codec's own ids."""

    @abstractmethod
    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The ids of each chunk, and which of them may be learned where only ``valid`` entries are known.

        Ids obey the grammar everywhere, and those that may be learned do not depend on what is not valid.
        """

    @abstractmethod
    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The chunk that ``ids`` spell; padding behind a complete chunk may be left away."""

    @abstractmethod
    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The grammar: which ids may follow those ``before``."""

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """`allowed` at every position of ``ids``; override it where that is quicker than one after the other."""
        return torch.stack([self.allowed(ids[:, :i]) for i in range(ids.shape[1])], dim=1)

    def remaining(self, before: Int64[Tensor, "b i"]) -> tuple[Int64[Tensor, " b"], Int64[Tensor, " b"]]:
        """The fewest and the most tokens that may still come until the chunk is complete; all after it is padding.

        Both are reached by ids that `allowed` permits. Here: of a codec whose chunks take ``length`` tokens each.
        """
        left = torch.full((len(before),), self.length - before.shape[1], device=before.device)
        return left, left

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain JSON from which the configuration builds the same codec."""


def by_place(codec: ActionCodec) -> Bool[Tensor, "l v"] | None:
    """What the grammar allows at each place, if that does not depend on the tokens before it; None if it does."""
    # Sequences that differ as much as they can: always the first id that is allowed, always the last, and at random.
    random = torch.Generator().manual_seed(0)
    before = torch.zeros(_WALKS, 0, dtype=torch.long)
    rows = []
    for _ in range(codec.length):
        allowed = codec.allowed(before)
        if not torch.equal(allowed, allowed[:1].expand_as(allowed)):
            return None
        rows.append(allowed[0])
        ids = allowed[0].nonzero()[:, 0]
        chosen = ids[torch.randint(len(ids), (_WALKS, 1), generator=random)]
        chosen[0], chosen[1] = ids[0], ids[-1]
        before = torch.cat([before, chosen], dim=1)
    return torch.stack(rows)


def require_chunks(chunk: Tensor, shape: tuple[int, int]) -> None:
    """`ContractError` unless these are chunks (b, h, d) of the codec's ``shape`` (h, d)."""
    if chunk.shape[1:] != shape:
        h, d = shape
        raise ContractError(
            f"codec: expected chunks (b, {h}, {d}) as it was fitted to, got {tuple(chunk.shape)}; build the model for "
            "this horizon and action space"
        )


def require_tokens(ids: Tensor, length: int) -> None:
    """`ContractError` unless these are sequences of ``length`` tokens."""
    if ids.shape[1:] != (length,):
        raise ContractError(f"codec: expected {length} tokens for each chunk, got ids of shape {tuple(ids.shape)}")


def held(chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]) -> Float[Tensor, "b h d"]:
    """Chunks in which nothing depends on what is not ``valid``, for codecs whose tokens speak of many entries at once.

    An unknown entry takes the last known value of its dimension before it, or the first behind it: past its end a chunk
    holds its last target, as `Windows` does. A dimension that the robot lacks is 0.
    """
    h = chunk.shape[1]
    steps = torch.arange(h, device=chunk.device)[:, None]
    last = torch.where(valid, steps, -1).cummax(dim=1).values
    first = torch.where(valid, steps, h - 1).amin(dim=1, keepdim=True)
    known = chunk.gather(1, torch.where(last < 0, first, last))
    return torch.where(valid.any(dim=1, keepdim=True), known, 0.0)


def as_one(valid: Bool[Tensor, "b h d"], length: int) -> Bool[Tensor, "b l"]:
    """What may be learned of `held` chunks: all tokens, unless nothing is known."""
    return valid.flatten(1).any(dim=1, keepdim=True).expand(-1, length)


def turns(turn: Int64[Tensor, "*i"], *, of: int, each: int) -> Bool[Tensor, "*i v"]:
    """The grammar where each of ``of`` turns has a range of ``each`` ids of its own: which may be said at ``turn``."""
    owner = torch.arange(of * each, device=turn.device) // each
    return owner == turn[..., None]
