"""``vla train``: train a policy as a recipe says."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from vla.cli.command import Cluster, console, parse, progress, show_config, write_result
from vla.core.config import RECIPES, find_recipe, load_recipe
from vla.core.errors import ConfigError
from vla.core.machine.ray_cluster import check_ray
from vla.training.recipe import TrainConfig

_EXAMPLES = """  vla train demo --data.path data/place --out runs/place      (a recipe that comes with vla)
  vla train my.yaml --engine inline --workers 1 --minutes 2   (one of your own)
  vla train demo --model.head.layout joint                    (any key of the recipe)
  vla train demo --model.head.kind tokens                     (another kind of a part)"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a policy on a dataset: vla train RECIPE [options]. The same command resumes a run that was stopped."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    out: Path = Path("runs/train")
    """Folder of the run: metrics, states to resume from, and the final checkpoint."""
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Load the recipe, apply the overrides, train."""
    recipe, rest = None, argv
    if argv and not argv[0].startswith("-"):
        recipe, rest = find_recipe(argv[0]), argv[1:]
    kinds, rest = _kinds(rest)
    config = load_recipe(TrainConfig, recipe, kinds=kinds) if recipe else TrainConfig()
    default = Arguments(config=config)
    arguments = parse(Arguments, rest, verb="train [RECIPE]", examples=_EXAMPLES, default=default)
    if recipe is None:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise ConfigError(f"which recipe? a YAML file, or one that comes with vla: {known}; for example vla train demo")
    from vla.training.engines import require_data

    require_data(arguments.config.data)
    if arguments.config.engine == "ray":
        check_ray()
    show_config(f"train {recipe} → {arguments.out}", arguments.config)
    write_result(arguments.json, run(arguments.config, arguments.out))
    return 0


def _kinds(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """``--model.head.kind tokens`` by key, and the other arguments: a kind decides which flags there are."""
    kinds: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        flag, given, value = word.partition("=")
        if flag.startswith("--") and flag.endswith(".kind"):
            kinds[flag.removeprefix("--")] = value if given else next(words, "")
        else:
            rest.append(word)
    return kinds, rest


def _told(line: dict[str, Any]) -> str:
    """What the evaluators measured, without the parts of the loss."""
    shown = {key: value for key, value in line.items() if key == "action_loss" or key.startswith("first_frame_")}
    return ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in shown.items())


def run(config: TrainConfig, out: Path) -> dict[str, Any]:
    """Train with a progress bar and return where the checkpoint is and the last metrics."""
    from vla.training.engines import train
    from vla.training.metrics import read_metrics

    with progress("text") as bar:
        task = bar.add_task("train", total=100, text="starting")

        def log(line: dict[str, Any]) -> None:
            if line["kind"] == "train":
                text = f"step {line['step']:,}  loss {line['action_loss']:.3f}  {line['samples_per_s']:.0f} samples/s"
                bar.update(task, completed=round(100 * min(1.0, line["fraction"])), text=text)
                if not sys.stdout.isatty() and line["step"] % (20 * config.log_steps) == 0:
                    bar.console.print(f"train {text}")
            else:
                bar.console.print(f"held out at step {line['step']:,}: {_told(line) or 'nothing was held out'}")

        checkpoint = train(config, out, log)
        bar.update(task, completed=100)
    console().print(f"checkpoint: {checkpoint}")
    return {"checkpoint": str(checkpoint), "metrics": read_metrics(out)[-1:]}
