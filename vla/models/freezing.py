"""Weights that stay as they are: no gradient, no decay, no average, and norms that keep their statistics."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from vla.core.errors import ConfigError, UnknownNameError


class Frozen:
    """The tensors of a model, weights and buffers, whose names fit one of the patterns."""

    def __init__(self, model: nn.Module, patterns: Sequence[str]) -> None:
        """Stop their gradients; a pattern that fits nothing is an `UnknownNameError` with what is near."""
        own = list(model.state_dict())
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in own):
                raise UnknownNameError(_unknown(pattern, own))
        self.names = frozenset(name for name in own for pattern in patterns if fnmatchcase(name, pattern))
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


def _unknown(pattern: str, names: Sequence[str]) -> str:
    parts = dict.fromkeys(
        f"{name.rsplit('.', depth)[0]}.*" for name in names for depth in range(1, name.count(".") + 1)
    )
    near = difflib.get_close_matches(pattern, [*parts, *names], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    top = dict.fromkeys(f"{name.split('.')[0]}.*" for name in names)
    return f"freeze {pattern!r} fits no weight of this model: {hint}parts: {', '.join(top)}"
