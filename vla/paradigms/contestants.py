"""Who is compared, and how each is trained: the stages of a paradigm, each a recipe that starts from the one before.

All get the same number of samples. A stage that is ``given`` is what the paradigm's text takes for granted, a language
model that exists already: it is trained too, and its samples and seconds are counted beside the budget and said.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vla.core.config import from_dict, load_recipe, nested, to_dict
from vla.core.errors import ConfigError
from vla.paradigms.framework import FUSION, TWO_TOWER, UNIFIED
from vla.training.engines import train
from vla.training.recipe import TrainConfig

SAMPLES = 96_000
"""Budget of each contestant."""
Log = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training of a contestant."""

    recipe: str
    """A file, or the name of a recipe that comes with the package."""
    share: float = 1.0
    """Of the budget; of a given stage beside it."""
    given: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the recipe with other values, nested as in the file."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to a policy."""

    paradigm: str
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        budget = sum(stage.share for stage in self.stages if not stage.given)
        if abs(budget - 1) > 1e-9:
            raise ConfigError(f"contestant of {self.paradigm}: its stages take {budget:g} of the budget, expected 1")


_LANGUAGE = Stage(recipe="language", share=0.5, given=True)
_GEMMA = {"model": {"trunk": {"norm_offset": True, "activation": "gelu_tanh", "embedding_scale": 11.3}}}
_TOWER_STAYS = {"freeze": ["readers.images.tower.*"]}
_ANSWERS = {
    "model": {"writers": {"answers": {"kind": "text"}}},
    "data": {"strata": {"approach": 0.35, "questions": 0.25}},
}
"""The unified model is asked as the others are."""
CONTESTANTS: dict[str, Contestant] = {
    "two-tower": Contestant(paradigm=TWO_TOWER, stages=(Stage(recipe="two-tower"),)),
    "flamingo": Contestant(paradigm=FUSION, stages=(_LANGUAGE, Stage(recipe="fusion-flamingo"))),
    "llava": Contestant(
        paradigm=FUSION,
        stages=(
            _LANGUAGE,
            Stage(recipe="fusion-llava", share=0.5),
            Stage(recipe="fusion-llava", share=0.5, changes=_TOWER_STAYS),
        ),
    ),
    "paligemma": Contestant(
        paradigm=FUSION, stages=(replace(_LANGUAGE, changes=_GEMMA), Stage(recipe="fusion-paligemma"))
    ),
    "qwen": Contestant(paradigm=FUSION, stages=(_LANGUAGE, Stage(recipe="fusion-qwen"))),
    "qwen-scratch": Contestant(paradigm=FUSION, stages=(Stage(recipe="fusion-qwen"),)),
    "unified": Contestant(paradigm=UNIFIED, stages=(Stage(recipe="demo", changes=_ANSWERS),)),
    "chain": Contestant(
        paradigm=UNIFIED,
        stages=(
            Stage(recipe="two-tower", share=0.25),
            Stage(recipe="fusion-paligemma", share=0.25),
            Stage(recipe="fusion-paligemma", share=0.5, changes={"freeze": []}),
        ),
    ),
}
"""By name. ``qwen-scratch`` shows what the language model is worth to a policy; ``chain`` is contrastive pretraining,
fusion with what that has learned, and then all of it end to end."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What all contestants have in common."""

    data: Path
    samples: int = SAMPLES
    seed: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of every stage, such as the engine of this machine."""


def train_contestant(contestant: Contestant, budget: Budget, folder: Path, log: Log = lambda text: None) -> list[Path]:
    """The checkpoint of each stage, in ``folder/stage-N``; what is finished is not trained again."""
    found: list[Path] = []
    for number, stage in enumerate(contestant.stages, start=1):
        config = stage_config(stage, budget, found[-1] if found else None)
        log(f"stage {number} of {len(contestant.stages)}: {stage.recipe}, {config.steps} steps")
        found.append(train(config, folder / f"stage-{number}"))
    return found


def stage_config(stage: Stage, budget: Budget, init: Path | None) -> TrainConfig:
    """The recipe of a stage with the data, seed and number of samples of the comparison."""
    config = load_recipe(TrainConfig, stage.recipe, changes=nested({"data": {"path": str(budget.data)}}, stage.changes))
    config = from_dict(TrainConfig, nested(to_dict(config), budget.changes), where="changes")
    steps = max(1, round(stage.share * budget.samples / (config.batch * config.workers)))
    return replace(config, steps=steps, minutes=1e6, seed=budget.seed, init=None if init is None else str(init))
