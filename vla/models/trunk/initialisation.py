"""How every parameter begins: one table, applied by one function, and accounted for by another.

A part calls `initialise` at the end of its constructor. What the table does not name is a layer of PyTorch and begins
as PyTorch builds it; a parameter that is neither is an error when a model is built. A part of another package begins as
it was built, or by rules of its own in a class attribute ``initial``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Normal:
    """Numbers around zero, of a deviation that may shrink with the root of a count."""

    std: float
    by: Literal["additions", "inputs"] | None = None
    """Additions to the residual stream, so that depth does not change the scale at which training begins (GPT-2); or
    inputs of the matrix, so that width does not."""

    def __str__(self) -> str:
        return f"±{self.std:g}" + (f" / sqrt({self.by})" if self.by else "")


@dataclass(frozen=True)
class Constant:
    """One number; by default the one at which a norm changes nothing."""

    value: float | None = None

    def __str__(self) -> str:
        return "neutral" if self.value is None else f"{self.value:g}"


Rule = Normal | Constant

INITIAL: Mapping[str, Mapping[str, Rule]] = {
    "TokenTable": {"weight": Normal(0.02)},
    "Norm": {"weight": Constant()},
    "Block": {"out.weight": Normal(0.02, "additions"), "down.weight": Normal(0.02, "additions")},
    "TextReader": {"position": Normal(0.02)},
    "SoundReader": {"position": Normal(0.02)},
    # Zero: one observation of one robot begins as if neither were there, and both are learned where there are more.
    "StateReader": {"position": Normal(0.02), "time": Constant(0.0), "embodiment": Constant(0.0)},
    "StateBinsReader": {"time": Constant(0.0), "embodiment": Constant(0.0)},
    "PatchesReader": {"time": Constant(0.0)},
    "CodesReader": {"time": Constant(0.0)},
    "ImagesReader": {"position": Normal(0.02), "time": Constant(0.0)},
    # Sharp and different maps from the start: with PyTorch's default they are all nearly flat, every token is the mean
    # of the image, and finding anything takes several times as many samples.
    "ImageTokenizer": {
        "score.weight": Normal(0.6),
        "seekers": Normal(0.5),
        "look.weight": Normal(1.8, "inputs"),
        "films.*": Constant(0.0),
    },
    "FurtherLook": {"look.weight": Normal(0.5, "inputs")},
    # Features are compared as they are, and at first to no effect.
    "Likeness": {"weights.*": Constant(0.0), "metric.weight": Constant(0.0)},
    "Views": {"weight": Normal(0.02)},
    "Grounding": {"position": Normal(0.02)},
    "Matching": {"position": Normal(0.02)},
    "Saying": {"position": Normal(0.02)},
    "BinsHead": {"step_position": Normal(0.02), "joint_position": Normal(0.02)},
    "TokensHead": {"position": Normal(0.02)},
    "MaskedHead": {"position": Normal(0.02)},
    "L1Head": {"step_position": Normal(0.02)},
    "MipHead": {"step_position": Normal(0.02), "refine": Normal(0.02)},
    "FlowHead": {"step_position": Normal(0.02)},
    "CommittedReader": {"position": Normal(0.02)},
    "TextWriter": {"position": Normal(0.02)},
    "LayerScale": {"weight": Constant(1.0)},
    "AttentionPool": {"query": Normal(1.0, "inputs")},
    "TransformerTower": {"words.weight": Normal(0.02), "position.weight": Normal(0.01)},  # as CLIP begins
    # Sharp maps, as of `ImageTokenizer`.
    "PictureTower": {"score.weight": Normal(0.6), "token": Normal(0.02), "view": Constant(0.0)},
    "SentenceTower": {"words.weight": Normal(0.1), "position": Normal(0.1)},
    "ProjectedPictures": {"view": Constant(0.0)},
    "Acting": {"embodiment": Constant(0.0)},
    "Learned": {"value": Constant()},
    "HfTowerReader": {"time": Constant(0.0)},
    "ConnectedReader": {"time": Constant(0.0)},
    # Closed: a language model begins as if there were no pictures.
    "GatedCrossAttention": {"attention_opening": Constant(0.0), "mlp_opening": Constant(0.0)},
    "Resampler": {"latents": Normal(1.0)},  # as different from each other as what they are added to is large
    "Compressor": {"queries": Normal(0.02)},
    "LoraLinear": {"lora_a": Normal(0.58, "inputs"), "lora_b": Constant(0.0)},  # A as PyTorch's layers begin
}
"""Of each class, patterns of its parameters' names. Read aloud in `vla.models.unified`."""


@torch.no_grad()
def initialise(part: nn.Module, *, additions: int = 1, neutral: float = 1.0) -> None:
    """Let the parameters of ``part`` begin by its rules, in their order; a rule that names nothing is an error."""
    own = dict(part.named_parameters())
    for pattern, rule in _rules(part).items():
        found = [own[name] for name in own if fnmatchcase(name, pattern)]
        assert found, f"{type(part).__name__} has no parameter {pattern!r}, and {__name__} says how it begins"
        for parameter in found:
            if isinstance(rule, Constant):
                parameter.fill_(neutral if rule.value is None else rule.value)
            else:
                count = {None: 1, "additions": additions, "inputs": parameter.shape[-1]}[rule.by]
                parameter.normal_(std=rule.std / count**0.5)


def account(model: nn.Module) -> None:
    """Check that each parameter begins by exactly one rule; an `AssertionError` names those that do not."""
    said: dict[str, list[str]] = {name: [] for name, _ in model.named_parameters()}
    for path, part in model.named_modules():
        for pattern in _rules(part):
            for name in _names(path, part, recurse=True):
                if fnmatchcase(name.removeprefix(f"{path}."), pattern):
                    said[name].append(f"{type(part).__name__} {pattern}")
    for path, part in model.named_modules():
        ours, torchs = (type(part).__module__.startswith(f"{package}.") for package in ("vla", "torch.nn"))
        # A layer of PyTorch answers for its own parameters, a part of another package for all that is in it.
        for name in _names(path, part, recurse=not torchs) if torchs or not ours else ():
            said[name] = said[name] or [f"as {type(part).__name__} was built"]
    nobody = [name for name, rules in said.items() if not rules]
    several = [f"{name} ({', '.join(rules)})" for name, rules in said.items() if len(rules) > 1]
    assert not nobody, (
        f"no rule says how these parameters begin: {', '.join(nobody)}; add their class to INITIAL in {__name__}"
    )
    assert not several, f"several rules say how these parameters begin: {'; '.join(several)}; keep one in {__name__}"


def _names(path: str, part: nn.Module, *, recurse: bool) -> list[str]:
    return [f"{path}.{name}" if path else name for name, _ in part.named_parameters(recurse=recurse)]


def _rules(part: nn.Module) -> Mapping[str, Rule]:
    """Those of the table, or what a part of another package says of itself."""
    if type(part).__module__.startswith("vla."):
        return INITIAL.get(type(part).__name__, {})
    own: Mapping[str, Rule] = getattr(type(part), "initial", {})
    return own
