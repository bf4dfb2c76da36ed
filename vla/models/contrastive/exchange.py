"""What workers tell each other, so that each pair is told from those of all.

Softmax needs every other vector at once: they are gathered, and gradients go back to where a vector came from; logits
of one worker are (b, B). Of the sigmoid each pair stands alone, so sentences go round a ring and no more than (b, b)
logits are ever there (arXiv 2303.15343, section 3.3); in training with its gradients too, that of a sentence travels
with it. Each worker's loss is the mean over its own pictures: averaged over workers, as data-parallel training averages
gradients, it is that of one worker with the whole batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from vla.models.contrastive.losses import Scalar, sigmoid


def workers() -> int:
    """How many processes learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_ids(rows: Float[Tensor, "b e"]) -> Int64[Tensor, "b"]:
    """Ids that no other row has, on any worker; each has as many rows."""
    rank = dist.get_rank() if workers() > 1 else 0
    return torch.arange(len(rows), device=rows.device) + rank * len(rows)


def sentence_ids(words: Int64[Tensor, "b l"], valid: Bool[Tensor, "b l"]) -> Int64[Tensor, "b"]:
    """A number of each sentence, equal for equal words on every worker: a polynomial of their ids modulo 2**64."""
    found = torch.zeros_like(words[:, 0])
    for column in torch.where(valid, words + 1, 0).unbind(dim=1):
        found = found * 6364136223846793005 + column  # Knuth's multiplier; integers wrap around
    return found


def gather(rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "c ..."]:
    """Those of all workers in the order of their ranks; gradients of all go back to each."""
    gathered: Tensor = _Gather.apply(rows)
    return gathered


def round_the_ring(
    images: Float[Tensor, "b e"],
    texts: Float[Tensor, "b e"],
    scale: Scalar,
    bias: Scalar,
    ids: Int64[Tensor, "b"],
) -> Scalar:
    """`sigmoid` of own pictures with the sentences of all workers; each weighs its loss alike in what it minimises."""
    loss: Tensor = _Ring.apply(images, texts, scale, bias, ids)
    return loss


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        pieces = [torch.empty_like(rows) for _ in range(workers())]
        dist.all_gather(pieces, rows.contiguous())
        return torch.cat(pieces)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return rearrange(total, "(w b) ... -> w b ...", w=workers())[dist.get_rank()]


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, ids: Tensor) -> Tensor:
        loss, pulls = torch.zeros_like(bias), [torch.zeros_like(x) for x in (images, scale, bias)]
        theirs, their_ids, their_pull = texts.detach(), ids, torch.zeros_like(texts)
        for _ in range(workers()):
            here = [x.detach().requires_grad_() for x in (images, theirs, scale, bias)]
            picture, sentence, factor, offset = here
            with torch.enable_grad():
                part = sigmoid(picture, sentence, factor, offset, ids[:, None] == their_ids)
                image, text, *rest = torch.autograd.grad(part, here)
            loss += part.detach()
            pulls = [pull + more for pull, more in zip(pulls, (image, *rest), strict=True)]
            theirs, their_pull, their_ids = _passed_on(theirs, their_pull + text, their_ids)
        image, *rest = pulls  # the sentences are home again
        ctx.save_for_backward(image, their_pull, *rest)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * pull for pull in ctx.saved_tensors), None)


def _passed_on(*mine: Tensor) -> list[Tensor]:
    """To the next worker; what comes is of the one before."""
    if (world := workers()) == 1:
        return list(mine)
    rank = dist.get_rank()
    theirs = [torch.empty_like(x) for x in mine]
    sent = [dist.P2POp(dist.isend, x.contiguous(), (rank + 1) % world) for x in mine]
    received = [dist.P2POp(dist.irecv, x, (rank - 1) % world) for x in theirs]
    for work in dist.batch_isend_irecv(sent + received):
        work.wait()
    return theirs
