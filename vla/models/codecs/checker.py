"""The public check of action codecs: what each promises, tried on chunks and on whatever a model might sample."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vla.models.codecs.codec import ActionCodec


def check_codec(codec: ActionCodec, chunks: Float[Tensor, "b h d"], *, tolerance: float, seed: int = 0) -> None:
    """Check what every codec promises, on ``chunks`` inside its range; an `AssertionError` says what does not hold.

    ``tolerance`` is the largest error of a chunk that was encoded and decoded.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = _check_encoding(codec, chunks)
    error = (codec.decode(ids) - chunks).abs().max().item()
    assert error <= tolerance, f"decode(encode(x)) is {error:.3g} away from x, more than {tolerance:.3g}"
    walked = _walk(codec, len(chunks), generator)
    _check_decoding(codec, walked, chunks)
    _check_padding(codec, walked)
    # A model without the grammar, or one that fills in any order, may come up with anything.
    anything = torch.randint(0, codec.size, ids.shape, generator=generator)
    _check_decoding(codec, anything, chunks)
    _check_unknown(codec, chunks, generator)


def _check_encoding(codec: ActionCodec, chunks: Tensor) -> Int64[Tensor, "b l"]:
    expected = (len(chunks), codec.length)
    ids, learn = codec.encode(chunks, torch.ones_like(chunks, dtype=torch.bool))
    assert ids.shape == learn.shape == expected, f"encode: expected {expected}, got {tuple(ids.shape)}"
    assert learn.any(dim=1).all(), "encode: nothing to learn from a chunk of which everything is known"
    assert ((ids >= 0) & (ids < codec.size)).all(), f"encode: ids outside of [0, {codec.size})"
    _check_grammatical(codec, ids)
    for i in range(codec.length):
        assert torch.equal(codec.grammar(ids)[:, i], codec.allowed(ids[:, :i])), "grammar and allowed disagree"
    return ids


def _check_grammatical(codec: ActionCodec, ids: Tensor) -> None:
    permitted = codec.grammar(ids).gather(2, ids[..., None])[..., 0]
    assert permitted.all(), "encode: ids that its own grammar does not allow"


def _check_unknown(codec: ActionCodec, chunks: Tensor, generator: torch.Generator) -> None:
    """Labels past the end, and dimensions that a robot lacks, are noise here: nothing that is learned may know it."""
    b, h, d = chunks.shape
    ends = torch.randint(1, h + 1, (b, 1, 1), generator=generator)
    has = torch.rand(b, 1, d, generator=generator) < 0.7
    valid = (torch.arange(h)[:, None] < ends) & has
    valid[0] = False
    noise = 2 * torch.rand(chunks.shape, generator=generator) - 1
    (ids, learn), (others, again) = (codec.encode(torch.where(valid, chunks, x), valid) for x in (0 * noise, noise))
    assert torch.equal(learn, again), "encode: what may be learned depends on entries that are not valid"
    assert torch.equal(ids[learn], others[learn]), (
        "encode: ids that may be learned depend on entries that are not valid"
    )
    assert not learn[0].any(), "encode: something to learn from a chunk of which nothing is known"
    _check_grammatical(codec, others)


def _walk(codec: ActionCodec, b: int, generator: torch.Generator) -> Int64[Tensor, "b l"]:
    """Sequences drawn at random among what the grammar lets through, as by bad logits."""
    ids = torch.zeros(b, 0, dtype=torch.long)
    for i in range(codec.length):
        allowed = codec.allowed(ids)
        assert allowed.shape == (b, codec.size), f"allowed: expected {(b, codec.size)}, got {tuple(allowed.shape)}"
        assert allowed.any(dim=1).all(), "allowed: nothing may follow"
        _check_remaining(codec, ids, allowed, row=i % b)
        ids = torch.cat([ids, torch.multinomial(allowed.float(), 1, generator=generator)], dim=1)
    least, most = codec.remaining(ids)
    assert not (least | most).any(), f"remaining: {most.max()} tokens to come behind a whole chunk"
    return ids


def _check_remaining(codec: ActionCodec, before: Tensor, allowed: Tensor, row: int) -> None:
    """The bounds of one row are one more than the best of all that may follow it: then they are exact."""
    least, most = (int(bound[row]) for bound in codec.remaining(before))
    following = allowed[row].nonzero()
    after = codec.remaining(torch.cat([before[row].expand(len(following), -1), following], dim=1))
    fewest, largest = int(after[0].min()), int(after[1].max())
    if most == 0:
        assert (least, fewest, largest) == (0, 0, 0), "remaining: a chunk that is complete goes on"
        assert len(following) == 1, (
            f"allowed: {len(following)} ids may follow a complete chunk, expected one to pad with"
        )
        return
    said, true = (least, most), (1 + fewest, 1 + largest)
    assert said == true, f"remaining: {said} tokens after {before.shape[1]}, but what may follow takes {true}"


def _check_decoding(codec: ActionCodec, ids: Tensor, chunks: Tensor) -> None:
    decoded = codec.decode(ids)
    assert decoded.shape == chunks.shape, f"decode: expected {tuple(chunks.shape)}, got {tuple(decoded.shape)}"
    assert torch.isfinite(decoded).all(), "decode: ids of the codec give numbers that are not finite"


def _check_padding(codec: ActionCodec, ids: Tensor) -> None:
    decoded = codec.decode(ids)
    for row in range(len(ids)):
        counts = [int(codec.remaining(ids[row : row + 1, :i])[1]) for i in range(codec.length + 1)]
        end = counts.index(0)
        cut = codec.decode(ids[row : row + 1, :end])[0]
        assert torch.equal(cut, decoded[row]), "decode: a complete chunk changes with what follows it"
