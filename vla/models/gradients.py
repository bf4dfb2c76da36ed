"""How hard each loss pulls at what all of them share: the norm of its own gradient there.

The weights of losses say little of that. One that is ten times another may pull a tenth as hard, and what an auxiliary
is to do, to help without taking over, shows in these norms alone (GradNorm balances them, arXiv 1711.02257; here they
are told, and nothing is changed). GradNorm looks at the last shared layer; some losses end before it, as that of maps
that point does, so these look at all that is shared.

Each loss is computed again for its gradient: a graph that is kept for a second one is refused by compiled attention,
and lives longer than its memory is there for. So it costs about a step for each loss, and is done once in many steps.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla.models.model import Model
from vla.models.trunk.inputs import Inputs, Metrics, Targets


def gradient_norms(model: Model, inputs: Inputs, targets: Targets) -> Metrics:
    """``gradient_norm/NAME`` for each of the model's `terms`; nothing where there is one, or nothing that is shared.

    Drawn as the step itself will draw, and random numbers are as they were afterwards. Of several workers, each looks
    at its own share of the batch.
    """
    shared, found = model.shared(), Metrics()
    terms = _terms(model, inputs, targets) if shared else {}
    names = list(terms) if len(terms) > 1 else []
    for name in names:
        found[f"gradient_norm/{name}"] = _norm(terms[name], shared)
        if name != names[-1]:
            terms = _terms(model, inputs, targets)
    return found


def _norm(term: Float[Tensor, ""], shared: Sequence[nn.Parameter]) -> Float[Tensor, ""]:
    """Of the gradient of ``term``; 0 where all that it reaches is frozen."""
    pulls = torch.autograd.grad(term, shared, allow_unused=True) if term.requires_grad else ()
    norms = [torch.linalg.vector_norm(pull.float()) for pull in pulls if pull is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros_like(term)


def _terms(model: Model, inputs: Inputs, targets: Targets) -> Mapping[str, Float[Tensor, ""]]:
    device = inputs.state.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return model.terms(inputs, targets)[0]
