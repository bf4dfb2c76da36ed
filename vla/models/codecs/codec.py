"""Action codecs: scaled chunks ↔ tokens, so that a transformer can write actions as it writes words."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla.core.errors import ContractError


class ActionCodec(nn.Module, ABC):
    """Chunks (h, d) of about [-1, 1] ↔ at most ``length`` ids below ``size``.

    ``decode`` takes any ids that `allowed` permits one after the other: whatever a model samples is a chunk.
    """

    size: int
    """Ids that it needs from the vocabulary."""
    length: int
    """Tokens of a chunk; a codec of fewer pads within its own ids."""

    @abstractmethod
    def encode(
        self, chunk: Float[Tensor, "b h d"], valid: Bool[Tensor, "b h d"]
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """The ids of each chunk, and which of them may be learned where only ``valid`` entries are known."""

    @abstractmethod
    def decode(self, ids: Int64[Tensor, "b l"]) -> Float[Tensor, "b h d"]:
        """The chunk that ``ids`` spell."""

    @abstractmethod
    def allowed(self, before: Int64[Tensor, "b i"]) -> Bool[Tensor, "b v"]:
        """The grammar: which ids may follow those ``before``."""

    def grammar(self, ids: Int64[Tensor, "b l"]) -> Bool[Tensor, "b l v"]:
        """`allowed` at every position of ``ids``; override it where that is quicker than one after the other."""
        return torch.stack([self.allowed(ids[:, :i]) for i in range(ids.shape[1])], dim=1)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain JSON from which the configuration builds the same codec."""


def check_codec(codec: ActionCodec, chunks: Float[Tensor, "b h d"], *, tolerance: float, seed: int = 0) -> None:
    """Check what every codec promises, on ``chunks`` inside its range; an `AssertionError` says what does not hold.

    ``tolerance`` is the largest error of a chunk that was encoded and decoded.
    """
    b = len(chunks)
    ids, learn = codec.encode(chunks, torch.ones_like(chunks, dtype=torch.bool))
    assert ids.shape == learn.shape == (b, codec.length), f"encode: expected {(b, codec.length)}, got {ids.shape}"
    assert learn.any(dim=1).all(), "encode: nothing to learn from a chunk of which everything is known"
    assert ((ids >= 0) & (ids < codec.size)).all(), f"encode: ids outside of [0, {codec.size})"
    permitted = codec.grammar(ids).gather(2, ids[..., None])[..., 0]
    assert permitted[learn].all(), "encode: ids that its own grammar does not allow"
    for i in range(codec.length):
        assert torch.equal(codec.grammar(ids)[:, i], codec.allowed(ids[:, :i])), "grammar and allowed disagree"
    error = (codec.decode(ids) - chunks).abs().max().item()
    assert error <= tolerance, f"decode(encode(x)) is {error:.3g} away from x, more than {tolerance:.3g}"
    # Whatever the grammar lets through must be a chunk: walk through it at random, as bad logits would.
    generator = torch.Generator().manual_seed(seed)
    sampled = ids[:, :0]
    for _ in range(codec.length):
        allowed = codec.allowed(sampled)
        assert allowed.shape == (b, codec.size), f"allowed: expected {(b, codec.size)}, got {tuple(allowed.shape)}"
        assert allowed.any(dim=1).all(), "allowed: nothing may follow"
        sampled = torch.cat([sampled, torch.multinomial(allowed.float(), 1, generator=generator)], dim=1)
    decoded = codec.decode(sampled)
    assert decoded.shape == chunks.shape, f"decode: expected {tuple(chunks.shape)}, got {tuple(decoded.shape)}"
    assert torch.isfinite(decoded).all(), "decode: a sequence that the grammar allows gives numbers that are not finite"


def fitted_value(fitted: Mapping[str, Any], key: str) -> Any:
    """A value that `fit` left in a contract; a missing one is a `ContractError`."""
    if key not in fitted:
        raise ContractError(f"codec: the contract lacks {key!r} of what was fitted to the data; it is damaged")
    return fitted[key]
