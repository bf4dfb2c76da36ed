"""One vocabulary for everything that is read or written, one table, one tied head.

    [ text | special | what readers read and writers write | a range for each auxiliary that speaks in tokens | action ]

Each part of a model asks for a range by name, and reads and writes nothing outside of its own: decoding slices the
table to the ids that the grammar allows at a position, the bins of *that* joint and no others.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vla.core.errors import ContractError
from vla.core.lookup import lookup
from vla.models.trunk.initialisation import initialise
from vla.models.trunk.soft_bins import soft_cross_entropy

SPECIALS = ("pad", "begin", "query", "no_state")


class Vocabulary:
    """Named ranges of ids, one after the other in the order given."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        starts, end = {}, 0
        for name, size in sizes.items():
            starts[name] = range(end, end + size)
            end += size
        self._ranges = starts

    def range(self, name: str) -> range:
        """The ids of ``name``; an unknown name is an `UnknownNameError` that lists the ranges."""
        found = self._ranges.get(name)  # first, since decoding asks for each token
        return lookup("range of the vocabulary", name, self._ranges) if found is None else found

    def __iter__(self) -> Iterator[str]:
        """The names of the ranges, in order."""
        return iter(self._ranges)

    def __contains__(self, name: str) -> bool:
        """Whether there is a range of this name."""
        return name in self._ranges

    def __len__(self) -> int:
        """Rows of the table."""
        return sum(map(len, self._ranges.values()))


class TokenTable(nn.Module):
    """The embedding of every token, which is also the head that writes it."""

    def __init__(self, vocabulary: Vocabulary, width: int, *, scale: float = 1.0, z_loss: float = 0.0) -> None:
        super().__init__()
        self.vocabulary, self.scale, self.z_loss = vocabulary, scale, z_loss
        self.weight = nn.Parameter(torch.empty(len(vocabulary), width))
        initialise(self)

    def rows(self, name: str) -> Float[Tensor, "v e"]:
        """The rows of a range."""
        ids = self.vocabulary.range(name)
        return self.weight[ids.start : ids.stop]

    def special(self, name: str) -> Float[Tensor, " e"]:
        """The embedding of one of `SPECIALS`; not scaled, so that positions which are added to it count as much."""
        return self.weight[self.vocabulary.range("special")[SPECIALS.index(name)]]

    def embed(self, name: str, ids: Int64[Tensor, "*b"]) -> Float[Tensor, "*b e"]:
        """Embeddings of ids that count from the start of the range."""
        try:
            return self._scaled(F.embedding(ids, self.rows(name)))
        except IndexError:  # of a CPU; a GPU ends the process, so who makes ids of what others say checks them before
            found = f"{int(ids.min())} to {int(ids.max())}"
            raise ContractError(
                f"ids of range {name!r} of the vocabulary: expected 0 to {len(self.rows(name)) - 1}, got {found}; they "
                "are of another vocabulary"
            ) from None

    def logits(self, name: str, hidden: Float[Tensor, "*b e"]) -> Float[Tensor, "*b v"]:
        """Logits over a range, and nothing else."""
        # Sliced before the product: a softmax over the whole vocabulary would spend most of its work on ids that the
        # grammar forbids here.
        return F.linear(hidden, self.rows(name))

    def cross_entropy(
        self, logits: Float[Tensor, "*b v"], targets: Int64[Tensor, "*b"] | Float[Tensor, "*b v"]
    ) -> Float[Tensor, "*b"]:
        """Against ids or distributions, with the z-loss: the weight times the squared logarithm of the normaliser.

        It keeps logits from growing together, which a softmax does not notice and bfloat16 does (arXiv 2204.02311).
        """
        if targets.is_floating_point():
            loss = soft_cross_entropy(logits, targets)
        else:
            flat = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
            loss = flat.view(targets.shape)
        return loss + self.z_loss * logits.float().logsumexp(dim=-1) ** 2 if self.z_loss else loss

    def _scaled(self, rows: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        return rows * self.scale if self.scale != 1 else rows
