"""How far pictures and sentences are from where they belong: losses of vectors of length one.

infonce   the right one among all of a batch, from both sides (CLIP, arXiv 2103.00020, figure 3)
smoothed  the same, with part of each target spread over all (ALIGN, arXiv 2102.05918, equations 1 and 2)
sigmoid   each pair by itself (SigLIP, arXiv 2303.15343, equation 1)

Row i of the pictures and row i of the sentences are a pair. Robots see one instruction in thousands of pictures, so
``same`` says which rows belong together: the target of the first two is shared among them, the last wants all of them.
(Where a sentence always has one vector, its rows have equal shares of a softmax, told or not: only dropout, or other
words of the same meaning, make a difference to the first two. The sigmoid would push a sentence from its own pictures.)
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Scalar = Float[Tensor, ""]


def infonce(
    images: Float[Tensor, "b e"],
    texts: Float[Tensor, "b e"],
    scale: Scalar,
    same: Bool[Tensor, "b c"] | None = None,
    among: tuple[Float[Tensor, "c e"], Float[Tensor, "c e"]] | None = None,
) -> Scalar:
    """Mean cross-entropy of picture to sentence and of sentence to picture, of similarities times ``scale``."""
    return smoothed(images, texts, 1 / scale, 0.0, same, among)


def smoothed(
    images: Float[Tensor, "b e"],
    texts: Float[Tensor, "b e"],
    temperature: Scalar,
    smoothing: float,
    same: Bool[Tensor, "b c"] | None = None,
    among: tuple[Float[Tensor, "c e"], Float[Tensor, "c e"]] | None = None,
) -> Scalar:
    """The same of similarities divided by ``temperature``; each target keeps all but the part ``smoothing``.

    ``among`` are the pictures and sentences to choose from, those of all workers: by default these. The mean of the two
    sides, as transformers computes it; the paper's objective is their sum.
    """
    same = diagonal(images) if same is None else same
    all_images, all_texts = among or (images, texts)
    to_texts, to_images = (similarities(*sides) / temperature for sides in ((images, all_texts), (texts, all_images)))
    return (chosen(to_texts, same, smoothing) + chosen(to_images, same, smoothing)) / 2


def sigmoid(
    images: Float[Tensor, "b e"],
    texts: Float[Tensor, "c e"],
    scale: Scalar,
    bias: Scalar,
    same: Bool[Tensor, "b c"] | None = None,
) -> Scalar:
    """Of each pair whether it is one, summed over the sentences and averaged over the pictures.

    Sentences in pieces, each with its ``same``, give losses whose sum is that of all at once.
    """
    same = diagonal(images) if same is None else same
    logits = similarities(images, texts) * scale + bias
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum(dim=1).mean()


def similarities(images: Float[Tensor, "b e"], texts: Float[Tensor, "c e"]) -> Float[Tensor, "b c"]:
    """The cosine of each with each."""
    return images @ texts.mT


def chosen(logits: Float[Tensor, "b c"], same: Bool[Tensor, "b c"], smoothing: float) -> Scalar:
    """Mean cross-entropy of the rows; a row's target is shared by all that belong to it."""
    target = same / same.sum(dim=1, keepdim=True)
    return F.cross_entropy(logits, target.to(logits.dtype), label_smoothing=smoothing)


def diagonal(rows: Float[Tensor, "b e"]) -> Bool[Tensor, "b b"]:
    """Each row belongs to its pair, and to nothing else."""
    return torch.eye(len(rows), dtype=torch.bool, device=rows.device)
