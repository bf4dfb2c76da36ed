"""Names to policies: whatever acts has one, and can be evaluated, compared and served by it.

A factory is called with those of its parameters that are on offer: ``env`` (the environment's name), ``envs`` (the
environments themselves, one for each slot), ``contract`` (theirs) and ``batch`` (observations at once). One that needs
none of them can act anywhere and be served; a parameter with a default says what it takes where it can get it.

This is a registry: beside the command line the one place that knows evaluation and deploy from here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.core.contract import Contract, require_match
from vla.core.errors import CheckpointError, ConfigError, ContractError, UnknownNameError
from vla.core.lookup import known_names, lookup
from vla.core.secret import read_api_key, read_tls_ca
from vla.core.types import Policy

if TYPE_CHECKING:
    from vla.evaluation.baselines import ExpertPolicy
    from vla.models.runtime import Compile
    from vla.policies.learned import Precision
    from vla.policies.random import RandomPolicy

Factory = Callable[..., Policy]
GROUP = "vla.policies"
"""The entry point group in which packages offer theirs."""
_ADDRESS = ("ws://", "wss://")
_FIX = "Evaluate in the environment that it was trained for, with the same settings, or train on data of this one"


def _expert(env: str, envs: Any) -> "ExpertPolicy":
    from vla.evaluation.baselines import ExpertPolicy

    return ExpertPolicy(env, envs)


def _random(contract: Contract) -> "RandomPolicy":
    from vla.policies.random import RandomPolicy

    return RandomPolicy(contract)


POLICIES: dict[str, Factory] = {"expert": _expert, "random": _random}
"""Those that have a name of their own; a checkpoint goes by its folder, and a server by its address."""


def find_policy(name: str) -> Factory:
    """What makes the policy called ``name``; a wrong name fails here, before anything is built."""
    if is_address(name):
        return partial(_server, name)
    if Path(name).is_dir():
        return partial(_checkpoint, Path(name))
    try:
        return lookup("policy", name, POLICIES, group=GROUP)
    except UnknownNameError as error:
        if ":" in name:
            raise
        known = ", ".join(known_names(POLICIES, group=GROUP))
        raise CheckpointError(
            f"policy {name} does not exist; give a checkpoint folder, {known}, ws://HOST:PORT of a server, or "
            "module:Name; vla train makes checkpoints"
        ) from error


def is_address(name: str) -> bool:
    """Whether it is that of a server; one with a secret in it is a `ConfigError`, for addresses are shown and kept."""
    if not name.startswith(_ADDRESS):
        return False
    if "@" in name or "?" in name:
        raise ConfigError(
            "an address holds no password and no key: write ws://HOST:PORT; the key comes from --api-key-file or "
            "VLA_API_KEY"
        )
    return True


def version_of(name: str) -> str:
    """What tells what is behind this name now from what will be later: of a checkpoint its seal, else nothing."""
    if is_address(name) or not Path(name).is_dir():
        return ""
    from vla.models.checkpoint import open_checkpoint

    return open_checkpoint(Path(name)).digest


def parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    """What it can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in inspect.signature(factory).parameters.items() if p.kind in named}


def needs(factory: Factory) -> list[str]:
    """The parameters without which it cannot be called."""
    return [name for name, p in parameters(factory).items() if p.default is p.empty]


def build_policy(factory: Factory, **offers: Any) -> Policy:
    """Call ``factory`` with what it asks for of ``offers``."""
    missing = [name for name in needs(factory) if name not in offers]
    if missing:
        who = getattr(factory, "__qualname__", repr(factory)).lstrip("_")
        there = f"there is {', '.join(offers)}" if "contract" in offers else "there is no environment here"
        raise ConfigError(f"policy {who} needs {', '.join(missing)}, and {there}")
    taken = parameters(factory)
    return factory(**{name: value for name, value in offers.items() if name in taken})


def maker(factory: Factory, **offers: Any) -> Callable[[str, Sequence[Any]], Policy]:
    """What builds a policy inside a worker process: from the name of an environment, and one of them for each slot."""
    return partial(_make, factory, offers)


def _make(factory: Factory, offers: Mapping[str, Any], env: str, envs: Sequence[Any]) -> Policy:
    return build_policy(factory, env=env, envs=envs, contract=envs[0].contract, **offers)


def places_of(name: str) -> int | None:
    """How many episodes the server at this address serves at a time; None for what is no server or does not say."""
    if not is_address(name):
        return None
    from vla.deploy.client import PolicyClient

    with PolicyClient(name, read_api_key(), tls_ca=read_tls_ca()) as client:
        places = client.metadata.get("places")
    return places if isinstance(places, int) and places > 0 else None


def _server(address: str, *, env: str = "", contract: Contract | None = None, timeout_s: float = 30.0) -> Policy:
    from vla.deploy.remote import RemotePolicy

    remote = RemotePolicy(address, read_api_key(), timeout_s, tls_ca=read_tls_ca())
    if contract is not None:
        require_match(remote.contract, contract, who=f"server {address}", whom=f"environment {env}", fix=_FIX)
    return remote


def _checkpoint(
    path: Path,
    *,
    env: str = "",
    contract: Contract | None = None,
    batch: int | None = None,
    device: str = "auto",
    precision: "Precision" = "float32",
    compile: "Compile" = "none",
) -> Policy:
    """With ``batch`` made repeatable; of several robots the one that fits ``contract``, before a weight is read."""
    from vla.models.checkpoint import read_blueprint
    from vla.policies.learned import LearnedPolicy

    if contract is not None:
        try:
            read_blueprint(path).preprocessor.embodiment_for(contract)
        except ContractError as error:
            raise ContractError(f"checkpoint {path} does not fit environment {env}: {error}. {_FIX}") from None
    policy = LearnedPolicy(path, robot=contract, device=device, precision=precision, compile=compile)
    if batch is None:
        return policy
    from vla.evaluation.baselines import SameBatch

    return SameBatch(policy, batch)
