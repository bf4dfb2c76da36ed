"""Renders a dataset anew from its simulator states: frames of another size without driving the robot again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from vla.core.contract import differences
from vla.core.errors import ContractError, DatasetError
from vla.core.machine.engines import EngineChoice
from vla.datasets.dataset import Dataset, create_dataset
from vla.datasets.storage.storage import Location, open_storage
from vla.datasets.store.segment import SegmentWriter
from vla.datasets.store.shares import write_segments
from vla.envs.open_loop import render_again
from vla.envs.registry import env_spec

_SEGMENT_EPISODES = 50


@dataclass(frozen=True, kw_only=True)
class Rerender:
    """What to render, and how."""

    env: str
    settings: Mapping[str, Any]
    workers: int
    engine: EngineChoice = "auto"


def rerender(source: Dataset, target: Location, config: Rerender, on_episode: Callable[[int], None]) -> int:
    """Write all episodes of ``source``, seen by the cameras of the environment, into ``target``; the version."""
    env = env_spec(config.env).build(config.settings)
    try:
        contract = env.contract
        others = [line for line in differences(contract, source.contract) if not line.startswith("cameras")]
        if others:
            raise ContractError(
                f"environment {config.env} does not fit dataset {source.url}: {'; '.join(others)}. "
                "Use the settings that it was recorded with, and change only its cameras"
            )
    finally:
        env.close()
    storage = open_storage(target)
    create_dataset(storage, contract)
    numbers = range(len(source.episodes))
    shares = [list(numbers[i : i + _SEGMENT_EPISODES]) for i in range(0, len(numbers), _SEGMENT_EPISODES)]
    run = partial(_render_share, source, storage.url, config)
    version, _ = write_segments(
        storage,
        run,
        shares,
        f"rendered from {source.url}",
        workers=config.workers,
        engine=config.engine,
        on_report=on_episode,
    )
    if version is None:
        raise DatasetError(f"{source.url}: expected at least 1 episode to render, got none; open another version")
    return version


def _render_share(
    source: Dataset, target: str, config: Rerender, numbers: list[int], report: Callable[[int], None]
) -> tuple[str, None]:
    env = env_spec(config.env).build(config.settings)
    origin = {"rendered_from": source.url, "env": config.env, "settings": dict(config.settings)}
    try:
        with SegmentWriter(target, env.contract, origin) as writer:
            for number in numbers:
                writer.append(render_again(env, source.read_rows(number)))
                report(int(source.episode_lengths[number]))
            return writer.seal(), None
    finally:
        env.close()
