"""``vla eval``: policies in closed loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vla.cli.command import Cluster, console, parse, progress, show_config, write_result
from vla.core.config import parse_settings, to_dict
from vla.core.errors import ConfigError
from vla.core.secret import hand_on
from vla.envs.spec import Language
from vla.evaluation.settings import RunConfig
from vla.policies.table import is_address

if TYPE_CHECKING:
    from vla.evaluation.plan import Progress
    from vla.evaluation.result import ComparisonResult, EvaluationResult, Result

_EXAMPLES = """  vla eval runs/place/checkpoint --episodes 100 --seed 777000 --out runs/eval-place
  vla eval runs/place/checkpoint --episodes 100 --language-test
  vla eval runs/place/checkpoint --episodes 100 --language right polite asked addressed indirect misspelt
  vla eval runs/modalities/checkpoint --episodes 100 --speech en-us-nyc+f1
  vla eval runs/place/checkpoint --episodes 50 --robustness image_noise observation_latency_steps
  vla eval runs/place/checkpoint --episodes 50 --execution
  vla eval runs/realtime/checkpoint --episodes 100 --latency-steps 4
  vla eval runs/realtime/checkpoint --episodes 100 --latencies run.json
  vla eval runs/place/checkpoint --episodes 50 --env tabletop/place tabletop/lift --split seen distractors
  vla eval runs/new/checkpoint --against runs/old/checkpoint --sequential --episodes 500 --out runs/new-old
  vla eval --diff runs/eval-new runs/eval-old
  vla eval expert --env all --episodes 100 --out runs/experts
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla eval --server ws://robot.local:8000 --api-key-file key.txt
  vla eval mypackage.policies:Mine --episodes 100 --env tabletop/lift
  vla eval runs/place/checkpoint --episodes 100 --set blocks=3"""
Flag = tyro.conf.FlagCreatePairsOff


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Run a policy in closed loop on held-out scenes and report its success rate with a 95 % Wilson interval."""

    policy: Annotated[str, tyro.conf.Positional] = ""
    """A checkpoint folder, ``expert``, ``random``, ws://HOST:PORT of a server, or module:Name of your own; settings of
    a policy stand behind its name, here as everywhere: hf-pi0,folder=models/pi0,contract=pi0.yaml."""
    server: str | None = None
    """The same as its address for POLICY."""
    api_key_file: Path | None = None
    """File with the key of a server; by default that in VLA_API_KEY, if it is set."""
    tls_ca: Path | None = None
    """Certificates that a wss:// server is checked against; by default what VLA_TLS_CA names, else the system's."""
    env: tuple[str, ...] = ("tabletop/place",)
    """Tasks, patterns of them ('metaworld/*'), or ``all`` that are installed."""
    split: tuple[str, ...] = ("",)
    """Splits of each task; by default its own."""
    language: tuple[Language, ...] = ("right",)
    """What the policy is told: ``paraphrase`` is any of the other words, each kind of which has a name of its own."""
    set: tuple[str, ...] = ()
    """Settings of the environments as key=value."""
    episodes: int = 100
    """Of each task, split and condition."""
    seed: int = 500_000
    """Episode i runs on seed + i, the same scenes for every policy."""
    language_test: Annotated[bool, Flag] = False
    """Also run the same scenes with a paraphrased, a blank and a wrong instruction."""
    robustness: tuple[str, ...] | None = None
    """Also run the same scenes with late, lost and noisy signals: all kinds, or those that are named."""
    execution: Annotated[bool, Flag] = False
    """Also run the same scenes with 1, 2, 4 and all steps of each chunk executed, with and without ensembling, and say
    which is best."""
    against: str | None = None
    """Another policy, compared on the same scenes."""
    sequential: Annotated[bool, Flag] = False
    """With --against: take turns, and stop as soon as a test that allows for it knows which is better."""
    alpha: float = 0.05
    """Share of sequential comparisons without a difference that may claim one."""
    diff: tuple[Path, Path] | None = None
    """Compare two results, folders or files, instead of running anything."""
    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    json: Path | None = None
    """Write the result to this file too."""

    def scenes(self) -> dict[str, Any]:
        """What is evaluated, as `vla.evaluation.evaluate.evaluate` takes it."""
        from vla.evaluation.conditions import LANGUAGE_TEST

        return {
            "env": self.env,
            "split": self.split,
            "settings": parse_settings(self.set),
            "languages": LANGUAGE_TEST if self.language_test else self.language,
            "execution": self.execution,
            "robustness": False if self.robustness is None else self.robustness or True,
            "episodes": self.episodes,
            "seed": self.seed,
        }


def main(argv: list[str]) -> int:
    """Evaluate, print tables, write JSON."""
    arguments = parse(Arguments, argv, verb="eval", examples=_EXAMPLES)
    if arguments.diff:
        _finish(arguments, _diff(*arguments.diff))
        return 0
    name = arguments.server or arguments.policy
    if not name:
        raise ConfigError("which policy? give a checkpoint folder, expert, random, or --server ws://HOST:PORT")
    if arguments.sequential and not arguments.against:
        raise ConfigError("--sequential compares two policies: name the other with --against")
    hand_on(arguments.api_key_file, arguments.tls_ca)
    for policy in filter(None, (name, arguments.against)):
        is_address(policy)  # refuses one with a key in it before it is shown
    scenes, run = arguments.scenes(), arguments.run
    title = name + (f" against {arguments.against}" if arguments.against else "")
    _require_names(name, arguments)
    show_config(f"evaluate {title}", {**scenes, **to_dict(run)})
    from vla.evaluation.evaluate import compare, evaluate

    with episodes_bar(title) as bar:
        watch: dict[str, Any] = {"run": run, "on_progress": bar, "note": note}
        if arguments.against:
            test: dict[str, Any] = {"sequential": arguments.sequential, "alpha": arguments.alpha}
            result: Result = compare(name, arguments.against, **scenes, **test, **watch)
        else:
            result = evaluate(name, **scenes, **watch)
    _finish(arguments, result)
    return 0


def _require_names(name: str, arguments: Arguments) -> None:
    """A mistyped name is told before anything is printed or built."""
    from vla.envs.registry import match
    from vla.policies.table import find_policy

    for policy in (name, *([arguments.against] if arguments.against else [])):
        find_policy(policy)
    match(arguments.env)


def note(text: str) -> None:
    """What is worth knowing, and no result."""
    console().print(text, style="dim", markup=False)


@contextmanager
def episodes_bar(title: str) -> "Iterator[Callable[[Progress], None]]":
    """A progress bar of episodes; yields what an evaluation reports to."""
    with progress("rate") as bar:
        task = bar.add_task(title, total=None, rate="")

        def show(at: "Progress") -> None:
            rate = f"{at.succeeded} of {at.done} succeeded" if at.done else ""
            if at.log10_e is not None:
                rate = f"E = {10**at.log10_e:.3g}"
            bar.update(task, total=at.total, completed=at.done, rate=rate)

        yield show


def _diff(*paths: Path) -> "ComparisonResult":
    from vla.evaluation.evaluate import compare_results
    from vla.evaluation.folder import read_result
    from vla.evaluation.result import ComparisonResult, require_same_scenes

    found: list[EvaluationResult] = []
    for path in paths:
        result = read_result(path)
        if isinstance(result, ComparisonResult):
            raise ConfigError(f"--diff {path}: expected the evaluation of one policy, got a comparison")
        found.append(result)
    require_same_scenes(*found)
    return compare_results(*found)


def _finish(arguments: Arguments, result: "Result") -> None:
    from vla.evaluation.folder import RESULT
    from vla.report.evaluation.terminal import print_result

    print_result(result, console())
    out = arguments.run.out
    for path in (arguments.json, out / RESULT if out else None):
        write_result(path, result.to_json() if path else None)
    if out:
        note(f"every episode and the result: {out}" if not arguments.diff else f"the result: {out}")
