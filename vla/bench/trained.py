"""What a recipe is worth: trained, let act and kept in a file; the same command goes on with what is missing."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vla.core.config import to_dict
from vla.core.errors import ConfigError
from vla.core.files import write_json
from vla.datasets.dataset import Dataset
from vla.datasets.scenes import recorded_settings
from vla.evaluation.evaluate import evaluate
from vla.training.engines import train
from vla.training.recipe import TrainConfig

RUN = "run"
"""Below its folder, the training."""


def trained(
    recipe: TrainConfig,
    folder: Path,
    *,
    env: str,
    episodes: int,
    scenes: int = 500_000,
    measure: Callable[[Path], Mapping[str, Any]],
) -> dict[str, Any]:
    """``success`` (a rate from 0 to 1), ``successes``, ``episodes``, ``low``, ``high``, and what ``measure`` says.

    It acts in as many scenes from seed ``scenes`` on, with the settings that the data was recorded with; ``measure`` is
    told the checkpoint. A folder that holds what came of anything else is a `ConfigError`.
    """
    file = folder / "result.json"
    asked = {"recipe": to_dict(recipe.resolved()), "env": env, "scenes": scenes, "episodes": episodes}
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["asked"] != asked:
            raise ConfigError(f"{file} is of another recipe, dataset or length; choose another folder")
        return dict(kept["found"])
    checkpoint = train(recipe, folder / RUN)
    settings = recorded_settings(Dataset.open(recipe.data.path), 0)
    judged = evaluate(
        checkpoint, env=env, settings=settings, episodes=episodes, seed=scenes, out=folder / "evaluation"
    ).success
    rate = asdict(judged)
    found = {"success": rate.pop("rate"), **rate, **measure(checkpoint)}
    write_json(file, {"asked": asked, "found": found})
    return found
