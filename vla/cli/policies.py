"""Building the policy that a command names: a checkpoint, ``expert``, ``random``, or a server's address."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vla.core.errors import CheckpointError

if TYPE_CHECKING:
    from vla.core.types import Policy
    from vla.envs.spec import RobotEnv
    from vla.evaluation.runner import MakePolicy

_FIX = "Evaluate in the environment that it was trained for, with the same settings, or train on data of this one"
_RANDOM_HORIZON = 8


def policy_maker(name: str, env: str, seed: int) -> "MakePolicy":
    """A function that builds the policy inside each evaluation process; a wrong name fails here, before any starts."""
    if name not in ("expert", "random") and not name.startswith(("ws://", "wss://")) and not Path(name).is_dir():
        raise CheckpointError(
            f"checkpoint {name} does not exist; give a checkpoint folder, expert, random, or --server ws://HOST:PORT"
        )
    return partial(_make, name, env, seed)


def _make(name: str, env: str, seed: int, envs: Sequence["RobotEnv"]) -> "Policy":
    from vla.core.contract import require_match

    if name == "expert":
        from vla.evaluation.baselines import ExpertPolicy

        return ExpertPolicy(env, envs)
    if name == "random":
        from vla.policies.random import RandomPolicy

        return RandomPolicy(envs[0].contract, _RANDOM_HORIZON, seed)
    if name.startswith(("ws://", "wss://")):
        from vla.deploy.remote import RemotePolicy

        remote = RemotePolicy(name)
        require_match(remote.contract, envs[0].contract, who=f"server {name}", whom=f"environment {env}", fix=_FIX)
        return remote
    from vla.policies.learned import LearnedPolicy

    return LearnedPolicy(Path(name), robot=envs[0].contract)
