"""What `vla bench damage` damages: how each thing is made, and how everything in it is read back."""

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.bench.crash.episodes import CONTRACT, digest, make
from vla.core.action_transform import ActionTransform
from vla.core.errors import CheckpointError, VlaError
from vla.core.scaling import Statistics
from vla.core.sealed import COMMIT, SealedFolder
from vla.datasets.care.validate import validate
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.edit import relabel
from vla.datasets.sampling.statistics import load_or_compute
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import SegmentWriter
from vla.evaluation.folder import ResultFolder, read_episodes, read_result, write_result
from vla.evaluation.result import EvaluationResult, PolicyIdentity
from vla.evaluation.rows import summarise
from vla.evaluation.trials import Condition, EpisodeResult, Trial
from vla.models.checkpoint import Blueprint, load_model, write_checkpoint
from vla.models.heads.config import BinsHeadConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.preprocessor import Embodiment, Preprocessor
from vla.models.readers.config import ImagesConfig, StateConfig, TextConfig
from vla.models.text.config import WordsConfig
from vla.models.trunk.config import TransformerConfig
from vla.training.state import Position, load_state, save_state


@dataclass(frozen=True, kw_only=True)
class Door:
    """One thing that is read back."""

    make: Callable[[Path], None]
    """Write it to a folder that is not there yet."""
    read: Callable[[Path], object]
    """Everything in it that its readers use, as a value that can be compared."""
    check: Callable[[Path], object]
    """The check that goes with it; what it finds is a `VlaError`."""
    kind: Callable[[str], str]
    """The kind of a file, by its path in the folder."""
    derived: tuple[str, ...] = ()
    """Kinds that are made anew where they are missing: then nothing is said, and nothing is wrong."""


_CAMERAS = {"front": "zstd", "range": "raw"}


def _make_dataset(root: Path) -> None:
    """Three versions of two segments, with statistics."""
    create_dataset(root, CONTRACT, _CAMERAS)
    for first in (1, 5):
        with SegmentWriter(root, CONTRACT, {"robot": first}) as writer:
            for seed in range(first, first + 2):
                writer.append(dataclasses.replace(make(seed, steps=6), model=f"<mujoco model='{seed}'/>"))
            publish(root, [writer.seal()], "written")
    dataset = Dataset.open(root)
    relabel(dataset, {dataset.episodes[0].uid: {"task": "renamed"}}, "relabelled")
    load_or_compute(Dataset.open(root), ActionTransform.absolute(CONTRACT), 1)


def _read_dataset(root: Path) -> object:
    dataset = Dataset.open(root)
    episodes = [digest(dataset.read_episode(number)) for number in range(len(dataset.episodes))]
    said = [(record.uid, record.task, record.success) for record in dataset.episodes]
    provenance = [dataset.provenance(number) for number in range(len(dataset.manifest.segments))]
    statistics = load_or_compute(dataset, ActionTransform.absolute(CONTRACT), 1).to_json()
    return dataset.manifest, dataset.contract, dataset.codecs, episodes, said, provenance, statistics


def _check_dataset(root: Path) -> None:
    for finding in validate(root, "full"):
        raise VlaError(f"{finding.where}: {finding.what}")


def _kind_in_dataset(name: str) -> str:
    for pattern, kind in (
        (r"segments/[^/]+/COMMIT.json", "commit record"),
        (r"segments/[^/]+/data.zarr/images/.*/c/.*", "frames"),
        (r"segments/[^/]+/data.zarr/.*zarr.json", "array metadata"),
        (r"segments/[^/]+/data.zarr/.*/c/.*", "arrays"),
        (r"segments/[^/]+/episodes.json", "episodes.json"),
        (r"segments/[^/]+/.*", "other files of a segment"),
        (r"manifests/.*", "manifest"),
        (r"witness/.*", "witness"),
        (r"stats/.*", "statistics"),
    ):
        if re.fullmatch(pattern, name):
            return kind
    return name


def _blueprint() -> Blueprint:
    config = UnifiedConfig(
        trunk=TransformerConfig(width=16, layers=1, heads=2),
        readers={"text": TextConfig(heads=2), "images": ImagesConfig(channels=4, tokens=2), "state": StateConfig()},
        head=BinsHeadConfig(bins=8),
        horizon=4,
        execute=2,
    )
    robot = Embodiment(
        contract=dataclasses.replace(CONTRACT, cameras=CONTRACT.cameras[:1]),
        cameras=("front",),
        space=ActionTransform.of(CONTRACT),
        state=Statistics.between([-1.0] * len(CONTRACT.state), [1.0] * len(CONTRACT.state)),
        action=Statistics.between([-0.5] * len(CONTRACT.action), [0.7] * len(CONTRACT.action)),
    )
    preprocessor = Preprocessor(
        embodiments=(robot,),
        tokenizer=WordsConfig().fit(["reach the cup"]),
        words=("reach", "the", "cup"),
        text_tokens=12,
        image_size=(16, 16),
        history=1,
        horizon=4,
    )
    chunks = torch.rand(50, 4, preprocessor.interface.action, generator=torch.Generator().manual_seed(0)) - 0.3
    return Blueprint(preprocessor=preprocessor, config=config, fitted=config.fit(chunks))


def _make_checkpoint(root: Path) -> None:
    torch.manual_seed(0)
    blueprint = _blueprint()
    write_checkpoint(root, blueprint, blueprint.build().state_dict(), {"seed": 0})


def _read_checkpoint(root: Path) -> object:
    blueprint, model = load_model(root)
    return blueprint.contract, blueprint.preprocessor.to_json(), _values(model.state_dict())


def _values(tensors: Any) -> dict[str, bytes]:
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def _check_seals(root: Path) -> None:
    """Every seal below a folder."""
    for path in sorted(root.rglob(COMMIT)):
        SealedFolder.open(path.parent, error=CheckpointError, fix="copy it again").check(
            error=CheckpointError, fix="copy it again"
        )


def _learner() -> tuple[torch.nn.Module, dict[str, torch.Tensor], list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return model, {k: v.detach().clone() for k, v in model.named_parameters()}, [torch.optim.AdamW(model.parameters())]


def _make_run(root: Path) -> None:
    model, average, optimisers = _learner()
    for step in (1, 2):
        model(torch.ones(1, 3)).sum().backward()
        optimisers[0].step()
        save_state(root, Position(step=step, consumed=step), model, average, optimisers)


def _read_run(root: Path) -> object:
    """The newest state, then the one before, as if there were no other."""
    found: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(root, run)
        for state in sorted((run / "states").iterdir(), reverse=True):
            model, average, optimisers = _learner()
            position = load_state(run, model, average, optimisers)
            moments = [_values({k: torch.as_tensor(v) for k, v in s.items()}) for s in _moments(optimisers[0])]
            found.append((position, _values(model.state_dict()), _values(average), moments))
            shutil.rmtree(state)
    return found


def _moments(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return list(optimiser.state_dict()["state"].values())


_IDENTITY = {"seed": 0, "settings": {"blocks": 2}}


def _make_evaluation(root: Path) -> None:
    root.mkdir()
    condition, results = Condition(env="x"), []
    with ResultFolder(root, _IDENTITY, {"command": "bench"}) as folder:
        for seed in range(4):
            actions = np.full((2, 3), seed, np.float32)
            ended = EpisodeResult(
                seed=seed, instruction="go", goal="there", success=bool(seed % 2), steps=2, actions=actions
            )
            folder.append(Trial(condition=condition, seed=seed), ended)
            results.append(ended)
    row = summarise(condition, results)
    identity = PolicyIdentity(name="bench")
    write_result(
        root,
        EvaluationResult(policy=identity, success=row.success, rows=(row,), origins={}, config={}, provenance={}),
    )


def _read_evaluation(root: Path) -> object:
    episodes = [(trial, result.to_record()) for trial, result in read_episodes(root)]
    return read_result(root), episodes


def _check_evaluation(root: Path) -> None:
    """Whether a next session would go on with it: not with settings that are not its own, or missing."""
    if not (root / "evaluation.json").exists():
        raise VlaError("evaluation.json is missing")
    with ResultFolder(root, _IDENTITY, {}):
        pass


DOORS: dict[str, Door] = {
    "dataset": Door(
        make=_make_dataset,
        read=_read_dataset,
        check=_check_dataset,
        kind=_kind_in_dataset,
        derived=("statistics",),
    ),
    "checkpoint": Door(
        make=_make_checkpoint, read=_read_checkpoint, check=_check_seals, kind=lambda name: f"checkpoint: {name}"
    ),
    "run": Door(
        make=_make_run, read=_read_run, check=_check_seals, kind=lambda name: f"run state: {name.rpartition('/')[2]}"
    ),
    "evaluation": Door(
        make=_make_evaluation,
        read=_read_evaluation,
        check=_check_evaluation,
        kind=lambda name: f"evaluation: {name}",
    ),
}
