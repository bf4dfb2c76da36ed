"""Collecting demonstrations: processes that run whole episodes and write segments of one dataset."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.collection.learner import Learner, MakePolicy
from vla.collection.settings import CollectConfig
from vla.core.contract import Contract, differences
from vla.core.errors import ConfigError, ContractError, DatasetError
from vla.core.fit import check_limits
from vla.core.machine.memory import give_back
from vla.core.provenance import folder_digest, provenance
from vla.core.types import Episode
from vla.datasets.dataset import create_dataset
from vla.datasets.storage.storage import open_storage
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert, match

_SEGMENT_EPISODES = 100
"""The most in one share, which becomes one segment."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What a collection brought."""

    manifest: int
    episodes: int
    failed: int
    """Episodes that did not succeed: dropped where the expert drove, kept where a policy did, and counted."""
    steps: int
    finished: int = 0
    """Episodes that the policy ended before the expert took over: nothing is learned from them, so they are dropped."""
    envs: Mapping[str, int] = field(default_factory=dict)
    """Episodes of each environment."""
    missing: tuple[str, ...] = ()
    """Environments of a pattern that are left out, since they are not installed."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """Episodes of one environment: the smallest piece of work."""

    env: str
    seeds: tuple[int, ...]


def collect(
    config: CollectConfig,
    root: Path,
    on_episode: Callable[[bool, int], None] | None = None,
    driver: MakePolicy | None = None,
) -> Collected:
    """Record ``config.episodes`` episodes of each environment into the dataset ``root``, published as one new version.

    ``on_episode(success, steps)`` is called for each. The same seed gives the same episodes with any number of workers.
    ``driver`` builds ``config.policy`` in the workers.
    """
    if bool(config.policy) != (driver is not None):
        raise ConfigError(f"collect: policy {config.policy!r} wants what builds it, see vla.policies.table.maker")
    envs, missing = match(config.patterns, with_expert=True)
    contract, renderer = _common_contract(envs, config.settings)
    create_dataset(root, contract)
    origin = provenance(seed=config.seed, settings=config.settings, renderer=renderer) | _driven(config)
    last = config.seed + config.episodes - 1
    manifest, results = write_segments(
        open_storage(root),
        partial(_collect_share, config, root, origin, driver),
        _shares(envs, config),
        f"collect {', '.join(config.patterns)}, seeds {config.seed} to {last}",
        workers=config.workers,
        on_report=on_episode and _spread(on_episode),
        silence_s=config.patience_s,
    )
    if manifest is None:
        raise DatasetError(_nothing(config))
    episodes, failed, steps, finished = (sum(column) for column in zip(*(found for _, found in results), strict=True))
    kept = Counter(dict.fromkeys(envs, 0))
    for env, found in results:
        kept[env] += found[0]
    return Collected(
        manifest=manifest,
        episodes=episodes,
        failed=failed,
        steps=steps,
        finished=finished,
        envs=dict(kept),
        missing=tuple(missing),
    )


def _shares(envs: Sequence[str], config: CollectConfig) -> list[_Share]:
    """As many as give each worker something, and no segment too much."""
    size = min(_SEGMENT_EPISODES, math.ceil(len(envs) * config.episodes / config.workers))
    seeds = np.arange(config.seed, config.seed + config.episodes)
    parts = np.array_split(seeds, math.ceil(config.episodes / size))
    return [_Share(env=env, seeds=tuple(part.tolist())) for env in envs for part in parts]


def _common_contract(envs: Sequence[str], settings: Mapping[str, Any]) -> tuple[Contract, str]:
    """What all environments show and take, and who renders; one dataset holds one robot."""
    found: dict[str, Contract] = {}
    renderer = ""
    for name in envs:
        env = env_spec(name).build(settings)
        try:
            found[name] = env.contract
            renderer = renderer or env.renderer
        finally:
            env.close()
    first = found[envs[0]]
    others: dict[str, list[str]] = defaultdict(list)
    for name, contract in found.items():
        if lines := differences(first, contract):
            others[lines[0]].append(name)
    if others:
        lines = [f"{', '.join(names)} ({why})" for why, names in others.items()]
        raise ContractError(
            f"one dataset holds one robot with its cameras, and these are not as {envs[0]}: {'; '.join(lines)}. "
            "Collect them into another folder; a training mixture joins datasets"
        )
    return first, renderer


def _driven(config: CollectConfig) -> dict[str, Any]:
    """Who drove and who labelled, where that was not one and the same."""
    if not config.policy:
        return {}
    path = Path(config.policy)
    driver: dict[str, Any] = {"policy": config.policy, "digest": folder_digest(path) if path.is_dir() else ""}
    if config.execute:
        driver["execute"] = config.execute
    if any(config.lateness):
        driver |= {"latency_steps": list(config.latency_steps), "committed": config.committed}
    if config.latencies:
        driver |= {"latencies": str(config.latencies), "latencies_digest": folder_digest(config.latencies)}
    return {"driver": driver, "label": config.label}


def _spread(on_episode: Callable[[bool, int], None]) -> Callable[[tuple[bool, int]], None]:
    return lambda report: on_episode(*report)


def _nothing(config: CollectConfig) -> str:
    if config.policy:
        ended = f"{config.policy} ended all {config.episodes} episodes before the expert took over"
        return f"collect: {ended}; lower --takeover"
    return f"collect: the expert failed in all {config.episodes} episodes; lower --disturbance"


def _collect_share(
    config: CollectConfig,
    root: Path,
    origin: dict[str, Any],
    driver: MakePolicy | None,
    share: _Share,
    report: Callable[[tuple[bool, int]], None],
) -> tuple[str | None, tuple[str, tuple[int, int, int, int]]]:
    """Record the episodes of a share into one segment.

    Its id, the environment, and how many: episodes, failures, steps, and episodes that the policy finished itself.
    """
    env = env_spec(share.env).build(config.settings)
    failed = finished = 0
    try:
        expert = make_expert(share.env, env)
        learner = (
            Learner(driver(share.env, [env]), execute=config.execute, lateness=config.lateness) if driver else None
        )
        with SegmentWriter(root, env.contract, {**origin, "env": share.env}) as writer:
            for seed in share.seeds:
                how = _driving(config, share.env, learner, seed)
                episode = record_episode(env, expert, task=share.env, seed=seed, **how)
                sound = _is_sound(episode, env.contract)
                if not episode.valid.any():
                    finished += 1
                elif sound and (episode.success or learner):
                    writer.append(episode)
                success = bool(episode.success) and sound
                failed += not success
                report((success, len(episode)))
            if not writer.episodes:
                writer.abandon()
                return None, (share.env, (0, failed, 0, finished))
            return writer.seal(), (share.env, (writer.episodes, failed, writer.steps, finished))
    finally:
        env.close()
        del env
        give_back()  # the next share may be of another environment


def _is_sound(episode: Episode, contract: Contract) -> bool:
    """Whether the robot stayed within its limits; else the simulation tore it apart, and there is nothing to learn."""
    try:
        check_limits(episode.state, contract.state, contract.tolerance, what=f"{episode.task}: state")
    except ContractError:
        return False
    return True


def _driving(config: CollectConfig, env: str, learner: Learner | None, seed: int) -> dict[str, Any]:
    """Who drives an episode: what `record_episode` wants to know of it."""
    asked: dict[str, Any] = {name: getattr(config, name) for name in ("questions", "captions", "parts", "boxes")}
    if learner is None:
        return {"disturbance": config.disturbance, **asked}
    late = learner.begin(seed)
    if any(config.lateness) and not late.ms:
        asked["provenance"] = {"latency_steps": late.steps}
    if config.label == "expert":
        return {**asked, "driver": learner, "driver_steps": None, "label_driven": True}
    longest = int(config.settings.get("max_steps") or env_spec(env).max_steps)
    if not longest:
        raise ConfigError(f"collect: {env} does not say its longest episode; give it with --set max_steps=…")
    share = np.random.default_rng([seed, 0x74616B656F766572]).uniform(*config.takeover)
    return {**asked, "driver": learner, "driver_steps": round(share * longest)}
