"""Low-rank adaptation (arXiv 2106.09685): a linear layer stays as it is, and what it lacks is learned in few rows.

    y = x Wᵀ + b + alpha / rank · (x Aᵀ) Bᵀ        A (r, i) drawn, B (o, r) zero: at first nothing is added

Only A and B are trained, and what belongs to no adapted layer only where it is named. `merged` is the model without
them, W + alpha / rank · B A, in the names that it had: so a checkpoint is one of the plain model, and whatever loads,
serves or goes on from it knows nothing of this.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.freezing import require_known
from vla.models.trunk.initialisation import initialise

_BASE, _A, _B = ".base", ".lora_a", ".lora_b"


class LoraLinear(nn.Module):
    """A linear layer with a product of low rank beside it."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        """Takes the parameters of ``linear`` as they are."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = alpha / rank
        self.base, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(self.base.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(self.base.new_empty(linear.out_features, rank))
        initialise(self)

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """Merged: what those see who multiply by the matrix themselves, as PyTorch's attention and lines of tokens."""
        return self.base + self.scale * (self.lora_b @ self.lora_a)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Two thin products instead of one matrix: no gradient of its size is ever made."""
        plain: Tensor = F.linear(x, self.base, self.bias)
        return plain + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def adapt(model: nn.Module, targets: Sequence[str], *, rank: int, alpha: float) -> frozenset[str]:
    """Put a `LoraLinear` where the name of a linear layer's weight fits a pattern, and return the names of all A and B.

    A pattern that fits no linear layer is an `UnknownNameError` with what is near.
    """
    linear = {f"{path}.weight": module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    require_known(targets, list(linear), what="lora.targets", of="linear layer")
    factors = set()
    for name, layer in linear.items():
        if any(fnmatchcase(name, pattern) for pattern in targets):
            path = name.removesuffix(".weight")
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, LoraLinear(layer, rank, alpha))
            factors |= {path + _A, path + _B}
    return frozenset(factors)


def is_factor(name: str) -> bool:
    """Whether a parameter of this name is an A or a B."""
    return name.endswith((_A, _B))


def merged(weights: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The weights of the plain model, of those of an adapted one."""
    plain = {}
    for name, value in weights.items():
        if name.endswith(_BASE) and (path := name.removesuffix(_BASE)) + _A in weights:
            a, b = weights[path + _A], weights[path + _B]
            plain[f"{path}.weight"] = value + alpha / len(a) * (b @ a)
        elif not is_factor(name):
            plain[name] = value
    return plain
