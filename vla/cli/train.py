"""``vla train``: train a policy as a recipe says."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import Cluster, console, parse, progress, show_config, write_result
from vla.core.config import RECIPES, find_recipe, load_recipe, to_dict
from vla.core.errors import ConfigError
from vla.core.machine.ray_cluster import check_ray
from vla.training.recipe import TrainConfig

if TYPE_CHECKING:
    from vla.training.seeds.band import SeedRuns

_EXAMPLES = """  vla train demo --data.path data/place --out runs/place            (a recipe that comes with vla)
  vla train my.yaml --engine inline --workers 1 --minutes 2         (one of your own)
  vla train demo --model.head.layout joint --out runs/joint         (any key of the recipe)
  vla train demo --model.head.kind tokens --out runs/tokens         (another kind of a part)
  vla train --resume runs/place --steps 3000                        (make a run longer)
  vla train demo --seeds 3 --out runs/band                          (three seeds, and how far apart they are)
  vla train my.yaml --init runs/demo/checkpoint --freeze "readers.images.*" --out runs/mine"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Train a policy on a dataset: vla train RECIPE [options]. The same command resumes a run that was stopped."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    out: Path = Path("runs/train")
    """Folder of the run: metrics, states to resume from, and the final checkpoint."""
    resume: Path | None = None
    """A run to go on with as its own recipe says, instead of RECIPE and --out; --steps and --minutes make it longer."""
    seeds: int = 1
    """Train as often, with the recipe's seed and those that follow, one after the other, each in OUT/seed-N: OUT then
    has the band of what they brought. The same command trains on what is not finished."""
    json: Path | None = None
    """Write the outcome to this file."""


def main(argv: list[str]) -> int:
    """Load the recipe, apply the overrides, train."""
    recipe, rest = None, argv
    if argv and not argv[0].startswith("-"):
        recipe, rest = find_recipe(argv[0]), argv[1:]
    kinds, rest = _kinds(rest)
    run_folder = _resumed(rest)
    if run_folder is not None:
        if recipe is not None:
            raise ConfigError(f"--resume {run_folder} goes on with the recipe of that run; leave {recipe} out")
        config, seeds, several = _recipe_of(run_folder)
    else:
        config = load_recipe(TrainConfig, recipe, kinds=kinds) if recipe else TrainConfig()
        seeds, several = 1, False
    default = Arguments(config=config, seeds=seeds)
    arguments = parse(Arguments, rest, verb="train [RECIPE]", examples=_EXAMPLES, default=default)
    if arguments.resume is None and recipe is None:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise ConfigError(f"which recipe? a YAML file, or one that comes with vla: {known}; for example vla train demo")
    from vla.training.engines import require_data

    require_data(arguments.config.data)
    if arguments.config.engine == "ray":
        check_ray()
    out = arguments.resume or arguments.out
    show_config(f"train {recipe or 'on'} → {out}", arguments.config)
    prolong = arguments.resume is not None
    if arguments.seeds != 1 or several:
        outcome = run_seeds(arguments.config, out, arguments.seeds, prolong=prolong)
    else:
        outcome = run(arguments.config, out, prolong=prolong)
    write_result(arguments.json, outcome)
    return 0


def _resumed(argv: list[str]) -> Path | None:
    """What --resume names: its recipe gives the defaults of all other flags."""
    for i, word in enumerate(argv):
        flag, given, value = word.partition("=")
        if flag == "--resume" and (given or i + 1 < len(argv)):
            return Path(value if given else argv[i + 1])
    return None


def _recipe_of(run_folder: Path) -> tuple[TrainConfig, int, bool]:
    """The recipe of a run or of those of several seeds, how many there are, and whether it is the latter."""
    from vla.training.claims import read_claim
    from vla.training.seeds.runs import SEEDS, recipe_of, seeds_of

    if (run_folder / SEEDS).exists():
        return recipe_of(run_folder), len(seeds_of(run_folder)), True
    return read_claim(run_folder).recipe, 1, False


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


def _fates(line: dict[str, Any]) -> Any:
    """What a run took of the checkpoint that it starts from, as a table."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", "", box=None, show_header=False, padding=(0, 2), title=f"from {line['checkpoint']}")
    for fate in line["fates"]:
        table.add_row(fate["verdict"], escape(fate["part"]), escape(fate["why"]))
    return table


def _told(line: dict[str, Any]) -> str:
    """What the evaluators measured, without the parts of the loss."""
    told = ("action_loss", "contrast_loss", "recall_at_1")
    shown = {key: value for key, value in line.items() if key in told or key.startswith("first_frame_")}
    return ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in shown.items())


def run(config: TrainConfig, out: Path, *, prolong: bool = False) -> dict[str, Any]:
    """Train with a progress bar and return where the checkpoint is and the last metrics."""
    from vla.training.engines import train
    from vla.training.metrics import read_metrics

    with _watched(config) as log:
        checkpoint = train(config, out, log, prolong=prolong)
    console().print(f"checkpoint: {checkpoint}")
    lines = [line for line in read_metrics(out) if line["kind"] in ("train", "validation")]
    return {"checkpoint": str(checkpoint), "metrics": lines[-1:]}


def run_seeds(config: TrainConfig, out: Path, seeds: int, *, prolong: bool = False) -> dict[str, Any]:
    """The same of several seeds, one after the other, and what they have in common."""
    from vla.report.seeds import write_picture
    from vla.training.seeds.runs import SEEDS, run_of, train_seeds

    with _watched(config) as log:
        result = train_seeds(config, out, seeds, log, prolong=prolong)
    _print_bands(result)
    picture = write_picture(out, [run_of(out, found.seed) for found in result.runs])
    console().print(f"all of it: {out / SEEDS}" + (f", the curves: {picture}" if picture else ""))
    return to_dict(result)


@contextmanager
def _watched(config: TrainConfig) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A progress bar; yields what hears of each line of the metrics."""
    with progress("text") as bar:
        task = bar.add_task("train", total=100, text="starting")

        def log(line: dict[str, Any]) -> None:
            if line["kind"] == "train":
                loss = line.get("action_loss", line["loss"])
                text = f"step {line['step']:,}  loss {loss:.3f}  {line['samples_per_s']:.0f} samples/s"
                which = f"seed {line['seed']}" if "seed" in line else "train"
                bar.update(task, description=which, completed=round(100 * min(1.0, line["fraction"])), text=text)
                if not sys.stdout.isatty() and line["step"] % (20 * config.log_steps) == 0:
                    bar.console.print(f"{which} {text}")
            elif line["kind"] == "note":
                bar.console.print(line["text"], style="yellow", markup=False, soft_wrap=True)
            elif line["kind"] == "closed_loop":
                told = f"{line['success']:.0%} of {line['episodes']:.0f} scenes that choose the best"
                bar.console.print(f"closed loop at step {line['step']:,}: {told}")
            elif line["kind"] == "init":
                bar.console.print(_fates(line))
            else:
                bar.console.print(f"held out at step {line['step']:,}: {_told(line)}")

        yield log
        bar.update(task, completed=100)


def _print_bands(result: "SeedRuns") -> None:
    """Each metric of each seed, and what they have in common."""
    from rich.table import Table

    title = "final weights on what each seed held out, and success where it was measured"
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column("")
    for title in (*(f"seed {run.seed}" for run in result.runs), "mean", "deviation", "least", "most"):
        table.add_column(title, justify="right", style="bold" if title == "mean" else "")
    for band in result.bands:
        own = [f"{run.metrics[band.metric]:.3g}" if band.metric in run.metrics else "–" for run in result.runs]
        deviation = "–" if band.deviation is None else f"{band.deviation:.2g}"
        name = band.metric.replace("_", " ")
        table.add_row(name, *own, f"{band.mean:.3g}", deviation, f"{band.low:.3g}", f"{band.high:.3g}")
    console().print(table)
