"""The verbs as functions, with results that have types; imports happen in the call."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla.collection.experts import Collected
    from vla.core.contract import Contract
    from vla.core.types import Policy
    from vla.datasets.dataset import Dataset
    from vla.training.recipe import TrainConfig


def collect(root: str | Path, *, on_episode: Callable[[bool, int], None] | None = None, **settings: Any) -> "Collected":
    """Record demonstrations of a scripted expert into the dataset ``root`` and publish a new version of it.

    ``settings`` are fields of `vla.collection.settings.CollectConfig`: ``env``, ``episodes``, ``seed``, ``workers``;
    with ``policy`` and ``label="expert"`` that policy drives, and the expert says what would have been right.
    """
    from vla.collection.experts import collect as collect_experts
    from vla.collection.settings import CollectConfig
    from vla.policies.table import find_policy, maker

    config = CollectConfig(**settings)
    driver = maker(find_policy(config.policy), batch=1) if config.policy else None
    return collect_experts(config, Path(root), on_episode, driver)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training run brought."""

    checkpoint: Path
    steps: int
    seconds: float
    """Spent in the loop, over all restarts."""
    metrics: Mapping[str, float]
    """The last line of the log; empty where the run was too short for one."""


def train(
    recipe: "str | Path | TrainConfig | None",
    out: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    log: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Trained:
    """Train as a recipe says, or resume what ``out`` holds, and return the checkpoint and the last metrics.

    ``recipe`` is a file, the name of one that comes with the package (``demo``), or a configuration. ``changes`` are
    keys of it with other values, nested as in the file: ``{"data": {"path": "data/mine"}, "steps": 1000}``. With
    ``resume`` the run in ``out`` may be made longer; ``recipe`` None is then its own, and ``changes`` are of that.
    ``log`` hears of each line of the metrics, and of what a person should know (kind ``note``).
    """
    from vla.core.config import from_dict, load_recipe, nested, to_dict
    from vla.training.claims import read_claim
    from vla.training.engines import train as run
    from vla.training.metrics import read_metrics
    from vla.training.recipe import TrainConfig

    if recipe is None:
        if not resume:
            raise TypeError("train: which recipe? None is that of the run in out, which resume=True goes on with")
        value = nested(to_dict(read_claim(Path(out)).recipe), changes or {})
        recipe, changes = from_dict(TrainConfig, value, where="changes"), None
    elif not isinstance(recipe, TrainConfig):
        recipe = load_recipe(TrainConfig, recipe, changes=changes)
        changes = None
    if changes:
        raise TypeError("train: changes belong to a recipe that is read; replace the fields of a configuration instead")
    checkpoint = run(recipe, Path(out), log, prolong=resume)
    training = json.loads((checkpoint / "provenance.json").read_text())["training"]
    lines = [line for line in read_metrics(Path(out)) if line["kind"] in ("train", "validation")]
    metrics = {key: float(value) for key, value in (lines[-1] if lines else {}).items() if isinstance(value, float)}
    return Trained(checkpoint=checkpoint, steps=training["step"], seconds=training["seconds"], metrics=metrics)


def load_policy(name: str | Path, *, contract: "Contract | None" = None, device: str = "auto") -> "Policy":
    """The policy called ``name``: a checkpoint folder, a server's address, a name of ``POLICIES`` or ``module:Name``.

    ``contract`` is the robot that it is to act for: what does not fit it is refused. ``device``: auto, cpu, cuda.
    """
    from vla.policies.table import build_policy, find_policy

    offers: dict[str, Any] = {"device": device}
    return build_policy(find_policy(str(name)), **(offers if contract is None else offers | {"contract": contract}))


def open_dataset(path: str | Path, manifest: int | None = None) -> "Dataset":
    """A version of the dataset in a folder or behind a URL, the latest by default."""
    from vla.datasets.dataset import Dataset

    return Dataset.open(path, manifest)
