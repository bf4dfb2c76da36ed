"""Weights that stay as they are: no gradient, no decay, no average, and norms that keep their statistics."""

import difflib
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from vla.core.errors import ConfigError, UnknownNameError


class Frozen:
    """The tensors of a model, weights and buffers, whose names fit one of the patterns."""

    def __init__(self, model: nn.Module, patterns: Sequence[str], *, but: Collection[str] = ()) -> None:
        """Stop their gradients, except those named in ``but``; a pattern that fits nothing is an `UnknownNameError`."""
        own = list(model.state_dict())
        require_known(patterns, own, what="freeze", of="weight")
        fitting = {name for name in own for pattern in patterns if fnmatchcase(name, pattern)}
        self.names = frozenset(fitting.difference(but))
        for name, parameter in model.named_parameters():
            if name in self.names:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(f"freeze {' '.join(patterns)} leaves nothing to train; freeze less")
        self._still = [
            module
            for path, module in model.named_modules()
            if any(f"{path}.{name}".lstrip(".") in self.names for name, _ in module.named_buffers(recurse=False))
        ]

    def train(self, model: nn.Module) -> None:
        """Training mode, but for modules with buffers that would move in it: norms that count what they see."""
        model.train()
        for module in self._still:
            module.training = False


def require_known(patterns: Sequence[str], names: Sequence[str], *, what: str, of: str) -> None:
    """`UnknownNameError` with what is near for a pattern that fits none of ``names``; ``what`` says who gave it."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError(_unknown(pattern, names, what, of))


def _unknown(pattern: str, names: Sequence[str], what: str, of: str) -> str:
    parts = dict.fromkeys(
        f"{name.rsplit('.', depth)[0]}.*" for name in names for depth in range(1, name.count(".") + 1)
    )
    near = difflib.get_close_matches(pattern, [*parts, *names], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    top = dict.fromkeys(f"{name.split('.')[0]}.*" for name in names)
    return f"{what} {pattern!r} fits no {of} of this model: {hint}parts: {', '.join(top)}"
