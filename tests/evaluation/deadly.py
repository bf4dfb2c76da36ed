"""An expert in whose hands some episodes kill their process; a module of its own, for workers to import."""

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vla.evaluation.baselines import ExpertPolicy

SEED = 1


def deadly_expert(mark: Path, always: bool, name: str, envs: Sequence[Any]) -> ExpertPolicy:
    """Resetting one of ``envs`` to the seed is the end: the first time, or always."""
    for env in envs:
        env.reset = partial(_reset, env.reset, mark, always)
    return ExpertPolicy(name, envs)


def _reset(reset: Callable[..., Any], mark: Path, always: bool, *, seed: int, options: dict[str, Any]) -> Any:
    if seed == SEED and (always or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return reset(seed=seed, options=options)
