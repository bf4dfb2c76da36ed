"""Evaluation as a call: a policy, by name or as an object, in closed loop on held-out scenes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.core.errors import ConfigError
from vla.core.provenance import provenance
from vla.core.types import Policy
from vla.envs.registry import match
from vla.envs.spec import Language
from vla.evaluation.comparison import compare_rows
from vla.evaluation.conditions import execution_conditions, robustness_conditions
from vla.evaluation.folder import write_result
from vla.evaluation.plan import Contender, Note, OnProgress, Plan, execute, result_of
from vla.evaluation.result import ComparisonResult, EvaluationResult
from vla.evaluation.runner import Lent, MakePolicy
from vla.evaluation.sequential import SequentialTest
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import Condition

PolicyLike = str | Path | Policy | Callable[..., Policy]
"""A name as on the command line, a policy, or what makes one from those of its parameters that are called ``env``,
``envs``, ``contract`` and ``batch``, as in `vla.policies.table`."""


def evaluate(
    policy: PolicyLike,
    *,
    env: str | Sequence[str] = "tabletop/place",
    split: str | Sequence[str] = "",
    settings: dict[str, Any] | None = None,
    languages: Sequence[Language] = ("right",),
    robustness: bool | Sequence[str] = False,
    execution: bool = False,
    episodes: int = 100,
    seed: int = 500_000,
    out: str | Path | None = None,
    run: RunConfig | None = None,
    on_progress: OnProgress = lambda progress: None,
    note: Note = lambda text: None,
) -> EvaluationResult:
    """Run ``episodes`` of each task, split and language, episode i on ``seed + i``, and return what they say.

    ``env`` takes names, patterns of them (``metaworld/*``) and ``all``. With several ``languages``, those that an
    environment does not know are left out. ``robustness`` adds the same scenes with late, lost and noisy signals, of
    all kinds or the named ones; ``execution`` the same scenes with chunks executed in several ways. ``out`` keeps every
    episode: the same call goes on with what is missing. A policy that is given by name, or as a function that a process
    can import, is built in each of ``run.workers`` processes; an object acts in this one.
    """
    how = _how(run, out, note, policy)
    plan = Plan(
        contenders={"": _contender(policy, how)},
        conditions=_conditions(_matching(env, [policy], note), split, settings, languages, robustness, execution),
        episodes=episodes,
        seed=seed,
        run=how,
        may_refuse=len(languages) > 1,
    )
    result = result_of(plan, execute(plan, on_progress=on_progress, note=note))
    if plan.run.out:
        write_result(plan.run.out, result)
    return result


def compare(
    a: PolicyLike,
    b: PolicyLike,
    *,
    env: str | Sequence[str] = "tabletop/place",
    split: str | Sequence[str] = "",
    settings: dict[str, Any] | None = None,
    languages: Sequence[Language] = ("right",),
    robustness: bool | Sequence[str] = False,
    execution: bool = False,
    episodes: int = 100,
    seed: int = 500_000,
    sequential: bool = False,
    alpha: float = 0.05,
    out: str | Path | None = None,
    run: RunConfig | None = None,
    on_progress: OnProgress = lambda progress: None,
    note: Note = lambda text: None,
) -> ComparisonResult:
    """Evaluate two policies on the same scenes, as `evaluate` does one, and test scene by scene whether they differ.

    ``sequential`` lets them take turns and stops as soon as a test that allows for it knows which is better, wrong in
    a share of at most ``alpha``.
    """
    how = _how(run, out, note, a, b)
    contenders = {"a": _contender(a, how), "b": _contender(b, how)}
    plain = _conditions(_matching(env, [a, b], note), split, settings, languages, robustness, execution)
    conditions = [replace(condition, policy=label) for condition in plain for label in contenders]
    test = SequentialTest(alpha=alpha, scenes=episodes * len(conditions) // 2) if sequential else None
    plan = Plan(
        contenders=contenders,
        conditions=conditions,
        episodes=episodes,
        seed=seed,
        run=how,
        may_refuse=len(languages) > 1,
        sequential=test,
    )
    outcome = execute(plan, on_progress=on_progress, note=note)
    compared = compare_results(result_of(plan, outcome, "a"), result_of(plan, outcome, "b"))
    result = replace(compared, sequential=test.verdict() if test else None)
    if plan.run.out:
        write_result(plan.run.out, result)
    return result


def compare_results(a: EvaluationResult, b: EvaluationResult) -> ComparisonResult:
    """What two evaluations say of each other; see `vla.evaluation.result.require_same_scenes`."""
    return ComparisonResult(a=a, b=b, rows=compare_rows(a.rows, b.rows), provenance=provenance())


def _matching(env: str | Sequence[str], policies: Sequence[PolicyLike], note: Note) -> list[str]:
    chosen, missing = match(_several(env), with_expert="expert" in policies)
    if missing:
        note(f"not installed, left out: {', '.join(missing)}")
    return chosen


def _conditions(
    envs: Sequence[str],
    split: str | Sequence[str],
    settings: dict[str, Any] | None,
    languages: Sequence[Language],
    robustness: bool | Sequence[str],
    execution: bool,
) -> list[Condition]:
    """Every combination; the disturbed ones and those executed otherwise last and in the first language alone."""
    plain = [
        Condition(env=env, split=one, settings=settings or {}, language=language)
        for env in envs
        for one in _several(split)
        for language in languages
    ]
    first = [condition for condition in plain if condition.language == languages[0]]
    axes = () if isinstance(robustness, bool) else tuple(robustness)
    disturbed = robustness_conditions(first, axes) if robustness is not False else ()
    return [*plain, *disturbed, *(execution_conditions(first) if execution else ())]


def _contender(policy: PolicyLike, run: RunConfig) -> Contender:
    from vla.policies.table import files_of, find_policy, maker, parameters

    factory = find_policy(str(policy)) if isinstance(policy, str | Path) else policy
    taken: Collection[str] = ()
    if isinstance(factory, Policy) and not isinstance(factory, type):
        if run.workers > 1 or run.engine == "ray":
            raise ConfigError("a policy that is an object acts in this process: take workers=1, or give what makes it")
        name = type(factory).__qualname__
        make: MakePolicy = Lent(factory)
    else:
        name = str(policy) if isinstance(policy, str | Path) else getattr(policy, "__qualname__", repr(policy))
        make, taken = maker(factory, batch=run.batch, **run.computing), parameters(factory)
    ignored = [key for key in run.computing if key not in taken]
    if ignored:
        raise ConfigError(f"policy {name} takes no {' and no '.join(ignored)}: a checkpoint does; leave it out")
    files = files_of(name) if isinstance(policy, str | Path) else ()
    return Contender(name=name, make=make, files=files)


def _how(run: RunConfig | None, out: str | Path | None, note: Note, *policies: PolicyLike) -> RunConfig:
    from vla.policies.table import places_of

    run = run or (RunConfig(workers=1) if any(_is_object(policy) for policy in policies) else RunConfig())
    for name in dict.fromkeys(str(policy) for policy in policies if isinstance(policy, str | Path)):
        places = places_of(name)  # each environment of each worker is a client of the server
        if places is not None and run.workers * run.batch > places:
            batch = min(run.batch, places)
            run = replace(run, batch=batch, workers=max(1, places // batch))
            note(f"{name} has {places} places: {run.workers} workers with {batch} episodes at a time")
    return run if out is None else replace(run, out=Path(out))


def _is_object(policy: PolicyLike) -> bool:
    return isinstance(policy, Policy) and not isinstance(policy, type)


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
