"""What a trained contestant is measured by: acting, listening, speed, size, probes, retrieval; one value to a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.bench.policy.timing import take_turns
from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError
from vla.core.files import write_json
from vla.core.provenance import folder_digest, provenance
from vla.datasets.dataset import Dataset
from vla.datasets.scenes import recorded_settings
from vla.evaluation.evaluate import evaluate
from vla.evaluation.settings import RunConfig
from vla.evaluation.statistics import Difference, SuccessRate
from vla.models.checkpoint import load_model
from vla.models.freezing import Frozen
from vla.models.info import checkpoint_info
from vla.models.unified import UnifiedTransformer
from vla.paradigms.probes import BINDING, KINDS, Embeds, Judge, Probe, by_answers, by_likeness, make_probes, rates
from vla.policies.learned import LearnedPolicy
from vla.training.claims import read_claim

FILE = "measured.json"
_TWO_TOWER_KIND = "two-tower"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How much is measured, of every contestant alike."""

    env: str = "tabletop/place"
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the environment: those of the data."""
    episodes: int = 100
    seed: int = 500_000
    probes: int = 100
    """Of each kind."""
    items: int = 500
    """Pictures of the data that are searched among."""
    seconds: float = 2.0
    """For which each call is timed."""
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Finding a sentence's picture among so many, embedded before."""

    items: int
    query_ms: float
    """From the sentence to the ordered pictures, median."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One contestant."""

    name: str
    paradigm: str
    checkpoint: str
    digest: str
    kind: str
    samples: int
    """That it was trained on within the budget."""
    training_s: float
    given_s: float = 0.0
    """Beside it, for what its paradigm takes for granted."""
    parameters: int
    trainable: int
    """Of the last stage."""
    asking: Asking
    success: SuccessRate
    binding: SuccessRate
    """In scenes where blocks and plates have the same two colours."""
    blank: Difference | None
    """Success with the right words less that with none, on the same scenes."""
    wrong: SuccessRate | None
    """Told the other goal of the scene: how often that is reached."""
    unsaid: SuccessRate | None
    """And how often the one that was not said."""
    decision_ms: float
    """From an observation to a chunk, median."""
    decision_p99_ms: float
    probes: dict[str, SuccessRate] = field(default_factory=dict)
    blind: dict[str, SuccessRate] = field(default_factory=dict)
    """Of the same model without pictures, where it answers."""
    probed_by: str = ""
    """likeness, answers, or nothing where it neither embeds nor answers."""
    writes: tuple[str, ...] = ()
    """What it writes beside actions: answer, goal."""
    retrieval: Retrieval | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def measure(
    name: str, paradigm: str, stages: Sequence[Path], given: int, asking: Asking, data: Path, folder: Path
) -> Measurement:
    """Measure the last of a contestant's checkpoints; of the ``stages``, the first ``given`` are beside the budget.

    What ``folder`` holds of the same checkpoint and asking is taken from there.
    """
    checkpoint = stages[-1]
    digest, file = folder_digest(checkpoint), folder / FILE
    if file.exists():
        kept = read_measurement(file)
        if (kept.digest, to_dict(kept.asking)) == (digest, to_dict(asking)):
            return kept
        raise ConfigError(f"{file} is of another checkpoint, or measured otherwise; choose another --out, or remove it")
    policy = LearnedPolicy(checkpoint)
    probes = [probe for kind in KINDS for probe in make_probes(kind, asking.probes, settings=asking.settings)]
    info, told = checkpoint_info(checkpoint), [_training(stage) for stage in stages]
    judged = _probed(checkpoint, info.kind, policy, probes)
    acted = _acted(checkpoint, asking, folder)
    times = take_turns({"": partial(policy.act, [probes[0].seen])}, asking.seconds, torch.device("cpu"))[""]
    found = Measurement(
        name=name,
        paradigm=paradigm,
        checkpoint=str(checkpoint),
        digest=digest,
        kind=info.kind,
        samples=sum(samples for samples, _ in told[given:]),
        training_s=sum((seconds for _, seconds in told[given:]), start=0.0),
        given_s=sum((seconds for _, seconds in told[:given]), start=0.0),
        parameters=info.parameters,
        trainable=_trainable(checkpoint),
        asking=asking,
        **acted,
        decision_ms=times.p50,
        decision_p99_ms=times.p99,
        **judged,
        writes=_writes(checkpoint),
        retrieval=_retrieval(checkpoint, info.kind, data, asking),
        provenance=provenance(seed=asking.seed),
    )
    write_json(file, to_dict(found))
    return found


def read_measurement(path: Path) -> Measurement:
    """What `measure` wrote, from its file or its folder."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{path} holds no measurement; make one with vla compare --data DATASET --out {path.parent}")
    try:
        value = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigError(f"{file} is damaged ({error}); remove it and measure again") from None
    return from_dict(Measurement, value, where=str(file))


def asking_of(data: Path, **changes: Any) -> Asking:
    """With the settings that the data was recorded with."""
    return Asking(settings=recorded_settings(Dataset.open(data), 0), **changes)


def embedder_of(checkpoint: Path, kind: str) -> tuple[Embeds, str] | None:
    """What embeds pictures and sentences, and the camera whose pictures it knows; None of other kinds of models."""
    if kind != _TWO_TOWER_KIND:
        return None
    from vla.models.contrastive.embedder import Embedder

    embedder = Embedder.open(checkpoint)
    return embedder, embedder.camera


def _acted(checkpoint: Path, asking: Asking, folder: Path) -> dict[str, Any]:
    """In closed loop: as told, told nothing, told another goal, and where only the binding of words decides."""
    how: dict[str, Any] = {"env": asking.env, "episodes": asking.episodes, "seed": asking.seed}
    run = RunConfig(workers=asking.workers)
    languages: Any = ("right", "blank", "wrong")
    told = evaluate(
        checkpoint, settings=asking.settings, languages=languages, out=folder / "evaluation", run=run, **how
    )
    binding = evaluate(checkpoint, settings={**asking.settings, **BINDING}, out=folder / "binding", run=run, **how)
    gaps = {gap.condition.language: gap for gap in told.language}
    blank, wrong = gaps.get("blank"), gaps.get("wrong")
    return {
        "success": told.success,
        "binding": binding.success,
        "blank": blank.behind.gap if blank and blank.behind else None,
        "wrong": wrong.success if wrong else None,
        "unsaid": wrong.success_unsaid if wrong else None,
    }


def _probed(checkpoint: Path, kind: str, policy: LearnedPolicy, probes: Sequence[Probe]) -> dict[str, Any]:
    """By what it can: likeness, or answers beside those of the same model without pictures."""
    embeds = embedder_of(checkpoint, kind)
    if embeds is not None:
        return {"probes": rates(by_likeness(*embeds), probes), "probed_by": "likeness"}
    if "answer" not in _writes(checkpoint):
        return {}
    judges: Mapping[str, Judge] = {"probes": by_answers(policy), "blind": by_answers(policy, blind=True)}
    return {name: rates(judge, probes) for name, judge in judges.items()} | {"probed_by": "answers"}


def _writes(checkpoint: Path) -> tuple[str, ...]:
    _, model = load_model(checkpoint, torch.device("cpu"))
    return tuple(sorted(w.target for w in model.writers.values())) if isinstance(model, UnifiedTransformer) else ()


def _training(checkpoint: Path) -> tuple[int, float]:
    """Samples and seconds of a run."""
    recipe = read_claim(checkpoint.parent).recipe
    told = json.loads((checkpoint / "provenance.json").read_text())["training"]
    return told["step"] * recipe.batch * recipe.workers, float(told["seconds"])


def _trainable(checkpoint: Path) -> int:
    """Parameters that the last stage trained."""
    _, model = load_model(checkpoint, torch.device("cpu"))
    freeze = read_claim(checkpoint.parent).recipe.freeze
    model.requires_grad_(True)
    if freeze:
        Frozen(model, freeze)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _retrieval(checkpoint: Path, kind: str, data: Path, asking: Asking) -> Retrieval | None:
    """Among the first frames of episodes, by comparing with all: what an index must be faster than."""
    embeds = embedder_of(checkpoint, kind)
    if embeds is None:
        return None
    embedder, camera = embeds
    dataset = Dataset.open(data)
    episodes = range(min(asking.items, len(dataset.episodes)))
    vectors = embedder.images(np.stack([dataset.read_episode(i).images[camera][0] for i in episodes]))

    def search() -> np.ndarray:
        return np.argsort(-(embedder.texts(["a red block on a blue plate"]) @ vectors.T)[0])

    times = take_turns({"": search}, asking.seconds, torch.device("cpu"))[""]
    return Retrieval(items=len(episodes), query_ms=times.p50)


def summary(found: Measurement) -> dict[str, Any]:
    """Its row for people, by what is measured."""
    from vla.report.numbers import count, duration, interval, percent

    row: dict[str, Any] = {
        "run": found.name,
        "success": f"{percent(found.success.rate)} ({interval(found.success)}) of {found.success.episodes}",
        "training": f"{duration(found.training_s)}, {count(found.samples)} samples",
        "parameters": f"{count(found.parameters)}, {count(found.trainable)} trained",
        "decision": f"{found.decision_ms:.1f} ms",
    }
    if found.retrieval is not None:
        row["retrieval"] = f"{found.retrieval.query_ms:.2f} ms among {count(found.retrieval.items)}"
    for kind, rate in found.probes.items():
        row[f"{kind} by {found.probed_by}"] = f"{percent(rate.rate)} ({interval(rate)})"
    return row | {"checkpoint": found.checkpoint, "git": found.provenance.get("git", "")}


def write_measured(path: Path, best: Mapping[str, Measurement]) -> None:
    """What `vla recommend` shows: a row for each paradigm."""
    write_json(
        path,
        {
            "paradigms": {name: summary(found) for name, found in best.items()},
            "of": [asdict(f.asking) for f in best.values()][:1],
        },
    )
