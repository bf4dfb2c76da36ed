"""Collecting demonstrations: processes that run whole episodes and write segments of one dataset."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.collection.settings import CollectConfig
from vla.core.errors import DatasetError
from vla.core.provenance import provenance
from vla.datasets.dataset import create_dataset
from vla.datasets.storage.storage import open_storage
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert

_SEGMENT_EPISODES = 100


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What a collection brought."""

    manifest: int
    episodes: int
    failed: int
    """Episodes in which the expert did not succeed: dropped, and counted."""
    steps: int


def collect(config: CollectConfig, root: Path, on_episode: Callable[[bool, int], None] | None = None) -> Collected:
    """Record ``config.episodes`` episodes into the dataset ``root`` and publish a new version of it.

    ``on_episode(success, steps)`` is called for each. The same seed gives the same episodes with any number of workers.
    """
    spec = env_spec(config.env)
    env = spec.build(config.settings)
    try:
        create_dataset(root, env.contract)
        origin = provenance(seed=config.seed, env=config.env, settings=config.settings, renderer=env.renderer)
    finally:
        env.close()
    seeds = np.arange(config.seed, config.seed + config.episodes)
    shares = [share for share in np.array_split(seeds, -(-config.episodes // _SEGMENT_EPISODES)) if len(share)]
    run = partial(_collect_share, config, root, origin)
    manifest, results = write_segments(
        open_storage(root),
        run,
        [share.tolist() for share in shares],
        f"collect {config.env}, seeds {seeds[0]} to {seeds[-1]}",
        workers=config.workers,
        on_report=on_episode and _spread(on_episode),
    )
    if manifest is None:
        raise DatasetError(f"collect: the expert failed in all {config.episodes} episodes; lower --disturbance")
    episodes, failed, steps = (sum(column) for column in zip(*results, strict=True))
    return Collected(manifest=manifest, episodes=episodes, failed=failed, steps=steps)


def _spread(on_episode: Callable[[bool, int], None]) -> Callable[[tuple[bool, int]], None]:
    return lambda report: on_episode(*report)


def _collect_share(
    config: CollectConfig,
    root: Path,
    origin: dict[str, Any],
    seeds: list[int],
    report: Callable[[tuple[bool, int]], None],
) -> tuple[str | None, tuple[int, int, int]]:
    """Record the episodes of ``seeds`` into one segment: its id, and (episodes, failures, steps)."""
    spec = env_spec(config.env)
    env = spec.build(config.settings)
    expert = make_expert(config.env, env)
    failed = 0
    try:
        with SegmentWriter(root, env.contract, origin) as writer:
            for seed in seeds:
                episode = record_episode(env, expert, task=config.env, seed=seed, disturbance=config.disturbance)
                if episode.success:
                    writer.append(episode)
                else:
                    failed += 1
                report((bool(episode.success), len(episode)))
            if not writer.episodes:
                writer.abandon()
                return None, (0, failed, 0)
            return writer.seal(), (writer.episodes, failed, writer.steps)
    finally:
        env.close()
