"""The policy part of a contract: what a trained policy is, beside the robot's interface that it fits."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vla.core.errors import ContractError
from vla.core.sealed import DamageError, brief, listed, number, table, text, whole


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """Which version of which dataset something was trained on."""

    path: str
    """Its name or URL, without the folder of one machine."""
    manifest: int


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What a checkpoint says of its policy: all that decides what it answers is here, or named here by a digest."""

    kind: str
    """Which model: a name of ``MODELS``."""
    horizon: int
    """Steps of a chunk."""
    execute: int
    """Steps of a chunk that are executed before the next inference; evaluators and robots follow it."""
    ensemble: float = 0.0
    """Weight of older chunks that cover a step, per request of age; 0 executes the newest alone."""
    history: int = 1
    """Observations that it reads, the present one included."""
    committed: int = 0
    """Most commands that may be decided already when it is asked: see `vla.core.types.Observation`."""
    speech: bool = False
    """Whether it listens: an observation may have ``speech``."""
    relative_to: tuple[str | None, ...]
    """For each action dimension the state dimension that it is learned relative to; None is absolute."""
    robots: tuple[str, ...]
    """The robots that it was trained on, in the order of its preprocessor; the contract is that of the first."""
    datasets: tuple[DatasetVersion, ...] = ()
    statistics: tuple[str, ...] = ()
    """Hashes of the statistics that inputs and outputs are scaled by, one for each dataset."""
    preprocessor: str
    """Digest of the checkpoint's ``preprocessor.json``."""
    tokenizer: str
    """Digest of the checkpoint's ``tokenizer.json``."""
    model: Mapping[str, Any]
    """Its configuration: what the class of ``kind`` is built from."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """What was fitted to data beside the weights: codecs with their limits."""

    def __post_init__(self) -> None:
        for name in ("horizon", "execute", "history"):
            if not (type(value := getattr(self, name)) is int and value >= 1):
                raise ContractError(f"policy.{name}: expected a whole number of at least 1, got {value!r}")
        if not (type(self.committed) is int and 0 <= self.committed < self.horizon):
            most = f"from 0 to {self.horizon - 1}"
            raise ContractError(f"policy.committed: expected a whole number {most}, got {self.committed!r}")

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "PolicySpec":
        """Read what `dataclasses.asdict` wrote; ``where`` names the source in errors."""
        fields = {f.name: f for f in dataclasses.fields(PolicySpec)}
        required = {name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
        if missing := required - value.keys():
            raise ContractError(f"{where}: the policy part lacks {', '.join(sorted(missing))}; the file is damaged")
        if unknown := value.keys() - fields.keys():
            names = ", ".join(sorted(unknown))[:99]
            raise ContractError(f"{where}: the policy part has unknown keys {names}; use the version that wrote it")
        try:
            return _parse(value)
        except DamageError as error:
            raise ContractError(f"{where}: policy.{error}; the policy part is damaged") from None


_MOST_STEPS = 4096
"""Of a chunk, of what runs of it, and of history."""


def _parse(value: Mapping[str, Any]) -> PolicySpec:
    horizon = whole(value["horizon"], "horizon", least=1, most=_MOST_STEPS)
    return PolicySpec(
        kind=text(value["kind"], "kind"),
        horizon=horizon,
        execute=whole(value["execute"], "execute", least=1, most=horizon),
        ensemble=number(value.get("ensemble", 0.0), "ensemble", least=0.0, most=1.0),
        history=whole(value.get("history", 1), "history", least=1, most=_MOST_STEPS),
        committed=whole(value.get("committed", 0), "committed", most=horizon - 1),
        speech=_truth(value.get("speech", False), "speech"),
        relative_to=listed(value["relative_to"], "relative_to", _text_or_none),
        robots=listed(value["robots"], "robots", text),
        datasets=listed(value.get("datasets", []), "datasets", _dataset),
        statistics=listed(value.get("statistics", []), "statistics", text),
        preprocessor=text(value["preprocessor"], "preprocessor"),
        tokenizer=text(value["tokenizer"], "tokenizer"),
        model=table(value["model"], "model"),
        fitted=table(value.get("fitted", {}), "fitted"),
    )


def _truth(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise DamageError(f"{what}: expected true or false, got {brief(value)}")
    return value


def _text_or_none(value: object, what: str) -> str | None:
    return None if value is None else text(value, what)


def _dataset(value: object, what: str) -> DatasetVersion:
    given = table(value, what)
    if given.keys() != {"path", "manifest"}:
        raise DamageError(f"{what}: expected a path and a manifest")
    return DatasetVersion(
        path=text(given["path"], f"{what}: path"), manifest=whole(given["manifest"], f"{what}: manifest")
    )
