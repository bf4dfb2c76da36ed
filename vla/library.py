"""The verbs as functions, with results that have types; imports happen in the call."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla.collection.experts import Collected
    from vla.core.contract import Contract
    from vla.core.types import Image, Policy
    from vla.datasets.dataset import Dataset
    from vla.models.pictures.codec import ImageCodec
    from vla.models.pictures.measures import Measured
    from vla.search.hits import Hit
    from vla.training.recipe import TrainConfig
    from vla.training.seeds.band import SeedRuns


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
    from vla.training.engines import train as run
    from vla.training.metrics import read_metrics

    config = _recipe(recipe, changes, partial(_own, Path(out)) if resume else None)
    checkpoint = run(config, Path(out), log, prolong=resume)
    training = json.loads((checkpoint / "provenance.json").read_text())["training"]
    lines = [line for line in read_metrics(Path(out)) if line["kind"] in ("train", "validation")]
    metrics = {key: float(value) for key, value in (lines[-1] if lines else {}).items() if isinstance(value, float)}
    return Trained(checkpoint=checkpoint, steps=training["step"], seconds=training["seconds"], metrics=metrics)


def train_seeds(
    recipe: "str | Path | TrainConfig | None",
    out: str | Path,
    *,
    seeds: int | None = None,
    changes: Mapping[str, Any] | None = None,
    resume: bool = False,
    log: Callable[[dict[str, Any]], None] = lambda line: None,
) -> "SeedRuns":
    """Train a recipe with several seeds, its own and those that follow, each in ``out/seed-N``; 3 if none are said.

    What is finished is not trained again, what was stopped goes on. Returned, and written to ``out/seeds.json``, is
    what each seed brought and the band of each metric; ``out/seeds.svg`` shows the curves. The other arguments are
    those of `train`, and with ``resume`` and no recipe the seeds are those that ``out`` is for.
    """
    from vla.core.machine.packages import needed_packages
    from vla.training.seeds import runs

    folder = Path(out)
    config = _recipe(recipe, changes, partial(runs.recipe_of, folder) if resume else None)
    if seeds is None:
        seeds = len(runs.seeds_of(folder)) if resume else 3
    result = runs.train_seeds(config, folder, seeds, log, prolong=resume)
    with needed_packages("the picture of the curves"):
        from vla.report.seeds import write_picture
    write_picture(folder, [runs.run_of(folder, run.seed) for run in result.runs])
    return result


def _own(run: Path) -> "TrainConfig":
    """The recipe of the run in a folder."""
    from vla.training.claims import read_claim

    return read_claim(run).recipe


def _recipe(
    recipe: "str | Path | TrainConfig | None",
    changes: Mapping[str, Any] | None,
    own: "Callable[[], TrainConfig] | None",
) -> "TrainConfig":
    """A configuration as it is, a recipe as it is read with ``changes``, or the ``own`` one of a run with them."""
    from vla.core.config import from_dict, load_recipe, nested, to_dict
    from vla.training.recipe import TrainConfig

    if recipe is None:
        if own is None:
            raise TypeError("train: which recipe? None is that of the run in out, which resume=True goes on with")
        return from_dict(TrainConfig, nested(to_dict(own()), changes or {}), where="changes")
    if not isinstance(recipe, TrainConfig):
        return load_recipe(TrainConfig, recipe, changes=changes)
    if changes:
        raise TypeError("train: changes belong to a recipe that is read; replace the fields of a configuration instead")
    return recipe


def load_policy(name: str | Path, *, contract: "Contract | None" = None, device: str = "auto") -> "Policy":
    """The policy called ``name``: a checkpoint folder, a server's address, a name of ``POLICIES`` or ``module:Name``.

    ``contract`` is the robot that it is to act for: what does not fit it is refused. ``device``: auto, cpu, cuda.
    """
    from vla.policies.table import build_policy, find_policy

    offers: dict[str, Any] = {"device": device}
    return build_policy(find_policy(str(name)), **(offers if contract is None else offers | {"contract": contract}))


def fit_image_codec(
    dataset: str | Path,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[float, str], None] = lambda fraction, text: None,
    **frames: Any,
) -> "Measured":
    """Make codes of the pictures of a dataset, in the new folder ``out``, and say how good they are on others of it.

    ``settings`` are those of a codec as a recipe would hold them, ``{"kind": "vq", "minutes": 10}``; by default a
    codebook of patches. ``frames`` are fields of `vla.training.codes.settings.FramesConfig`: ``cameras``, ``pictures``.
    """
    from vla.core.config import from_dict
    from vla.core.lookup import lookup
    from vla.models.pictures.config import ImageCodecConfig
    from vla.training.codes import fit
    from vla.training.codes.settings import FramesConfig

    said = {"kind": "patches"} | dict(settings or {})
    own, group = ImageCodecConfig.table(), ImageCodecConfig.group
    config = from_dict(lookup(ImageCodecConfig.what, said["kind"], own, group=group), said, where="settings")
    chosen = FramesConfig(**frames)
    return fit.fit_image_codec(open_dataset(dataset), Path(out), config, chosen, progress=progress)


def load_image_codec(path: str | Path) -> "ImageCodec":
    """The codec in a folder that `fit_image_codec` wrote: pictures to ids, and ids to pictures."""
    from vla.models.pictures.folder import load_image_codec as load

    return load(path)


def open_dataset(path: str | Path, manifest: int | None = None) -> "Dataset":
    """A version of the dataset in a folder or behind a URL, the latest by default."""
    from vla.datasets.dataset import Dataset

    return Dataset.open(path, manifest)


def search_dataset(
    dataset: str | Path, query: "str | Image", checkpoint: str | Path, *, index: str | Path | None = None, **wanted: Any
) -> "list[Hit]":
    """Frames or episodes of a dataset that a model of two towers finds nearest to words or to an RGB picture.

    ``index`` is a folder for the index, by default in that of the dataset; episodes that it lacks are embedded first.
    ``wanted`` are fields of `vla.search.settings.Wanted`: ``hits``, ``by``, ``select``, ``cameras``.
    """
    from vla.models.contrastive.embedder import Embedder
    from vla.search.hits import find
    from vla.search.query import embed_query
    from vla.search.session import open_searched
    from vla.search.settings import Wanted

    chosen, opener = Wanted(**wanted), partial(Embedder.open, Path(checkpoint))
    embedder = opener()
    base = None if index is None else Path(index)
    searched = open_searched([open_dataset(dataset)], embedder, opener, base=base)
    return find(embed_query(embedder, query), searched, chosen)
