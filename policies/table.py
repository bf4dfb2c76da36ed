"""Names to policies: whatever acts has one, and can be evaluated, compared and served by it.

A factory is called with those of its parameters that are on offer: ``env`` (the environment's name), ``envs`` (the
environments themselves, one for each slot), ``contract`` (theirs) and ``batch`` (observations at once). One that needs
none of them can act anywhere and be served; a parameter with a default says what it takes where it can get it.

A policy with settings of its own says them behind its name, ``hf-pi0,folder=models/pi0,contract=pi0.yaml``, wherever a
policy is named: so results, servers and records tell it from one with others. Its factory has a parameter ``settings``
that is annotated with a frozen dataclass, which they fill strictly.

This is a registry: beside the command line the one place that knows evaluation and deploy from here.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.core.config import from_dict, parse_settings
from vla.core.contract import Contract, require_match
from vla.core.errors import CheckpointError, ConfigError, ContractError, UnknownNameError
from vla.core.lookup import known_names, lookup
from vla.core.provenance import folder_digest
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


@dataclass(frozen=True, kw_only=True)
class HfPi0Settings:
    """What ``hf-pi0`` is told."""

    folder: Path
    """As ``save_pretrained`` of transformers writes it."""
    contract: Path
    """What the weights do not say: see `vla.policies.contract_file`."""

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise CheckpointError(f"hf-pi0: folder {self.folder} does not exist; nothing is downloaded: copy it there")
        if not self.contract.is_file():
            raise ConfigError(f"hf-pi0: contract {self.contract} does not exist; vla.policies.contract_file shows one")


def _hf_pi0(
    settings: HfPi0Settings,
    *,
    contract: Contract | None = None,
    batch: int | None = None,
    device: str = "auto",
    precision: "Precision" = "float32",
) -> Policy:
    from vla.policies.hf_pi0 import HfPi0Policy

    return _repeatable(HfPi0Policy(settings, robot=contract, device=device, precision=precision), batch)


POLICIES: dict[str, Factory] = {"expert": _expert, "random": _random, "hf-pi0": _hf_pi0}
"""Those that have a name of their own; a checkpoint goes by its folder, and a server by its address."""


def find_policy(name: str) -> Factory:
    """What makes the policy called ``name``; a wrong name fails here, before anything is built."""
    if is_address(name):
        return partial(_server, name)
    if Path(name).is_dir():
        return partial(_checkpoint, Path(name))
    name, *pairs = name.split(",")
    if pairs and Path(name).is_dir():
        raise ConfigError(f"checkpoint {name} has no settings, got {', '.join(pairs)}; leave them out")
    try:
        return _told(lookup("policy", name, POLICIES, group=GROUP), name, pairs)
    except UnknownNameError as error:
        if ":" in name:
            raise
        known = ", ".join(known_names(POLICIES, group=GROUP))
        raise CheckpointError(
            f"policy {name} does not exist; give a checkpoint folder, {known}, ws://HOST:PORT of a server, or "
            "module:Name; vla train makes checkpoints"
        ) from error


def _told(factory: Factory, name: str, pairs: Sequence[str]) -> Factory:
    """The factory with its settings; too few, too many or wrong ones are a `ConfigError`."""
    asked = parameters(factory).get("settings")
    cls = None if asked is None else asked.annotation
    if isinstance(cls, str):  # a module whose annotations are not evaluated
        cls = getattr(inspect.getmodule(factory), cls, None)
    if not dataclasses.is_dataclass(cls):
        if pairs:
            raise ConfigError(f"policy {name} has no settings, got {', '.join(pairs)}; leave them out")
        return factory
    fields = dataclasses.fields(cls)
    given = parse_settings(pairs)
    missing = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING and f.name not in given]
    if missing:
        shown = "".join(f",{name}=…" for name in missing)
        raise ConfigError(f"policy {name} needs {' and '.join(missing)}: {','.join((name, *pairs))}{shown}")
    return partial(factory, settings=from_dict(typing.cast(type, cls), given, where=f"policy {name}"))


def files_of(name: str) -> tuple[Path, ...]:
    """What a policy of this name is read from on this machine: a checkpoint's folder, or the paths in its settings."""
    if is_address(name):
        return ()
    if Path(name).is_dir():
        return (Path(name),)
    settings = getattr(find_policy(name), "keywords", {}).get("settings")
    return tuple(value for value in vars(settings).values() if isinstance(value, Path)) if settings else ()


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
    """What tells what is behind this name now from what will be later: of a checkpoint its seal, else of its files."""
    if is_address(name) or not Path(name).is_dir():
        return " ".join(folder_digest(path) for path in files_of(name))
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
    from vla.policies.acting import by_name

    remote = RemotePolicy(address, read_api_key(), timeout_s, tls_ca=read_tls_ca())
    if contract is None:
        return remote
    policy = by_name(remote, contract)  # a policy of somebody else's lists its cameras and joints as it was trained
    try:
        require_match(policy.contract, contract, who=f"server {address}", whom=f"environment {env}", fix=_FIX)
    except ContractError:
        remote.close()
        raise
    return policy


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
    return _repeatable(policy, batch)


def _repeatable(policy: Policy, batch: int | None) -> Policy:
    """A network whose answers do not rest on how many are asked for at once, where ``batch`` is the most of them."""
    if batch is None:
        return policy
    from vla.evaluation.baselines import SameBatch

    return SameBatch(policy, batch)
