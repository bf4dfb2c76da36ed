"""Every name of the table makes a policy that keeps what policies promise, wherever it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.policies.pi0 import write_contract, write_pi0
from vla.bench.envs.evaluation import write_random_checkpoint
from vla.core.contract import Contract
from vla.core.errors import CheckpointError, ConfigError, ContractError, UnknownNameError
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.remote import RemotePolicy
from vla.deploy.serving.server import PolicyServer
from vla.envs.registry import env_spec
from vla.envs.spec import to_observation
from vla.policies.checker import check_policy
from vla.policies.table import POLICIES, build_policy, find_policy, needs

_ENV = "tabletop/place"
_SETTINGS = {"image_size": 32}


class Still:
    """Stays where it is; takes the contract where there is an environment."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    @property
    def contract(self) -> Contract:
        return self._contract

    def reset(self, slot: int) -> None:
        pass

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        return [o and ActionChunk(actions=o.state[None, :], time_ns=o.time_ns) for o in observations]


@pytest.fixture(scope="module")
def scene() -> Any:
    """What factories are offered, and what the environments show."""
    envs = [env_spec(_ENV).make(_SETTINGS) for _ in range(3)]
    observations = [to_observation(*env.reset(seed=seed)) for seed, env in enumerate(envs)]
    yield {"env": _ENV, "envs": envs, "contract": envs[0].contract, "batch": 4}, observations
    for env in envs:
        env.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("network") / "checkpoint", 0, _SETTINGS)


def _said(name: str, checkpoint: Path, folder: Path) -> str:
    """A name as a user gives it: with the settings that it needs."""
    if name != "hf-pi0":
        return str(checkpoint) if name == "checkpoint" else name
    pytest.importorskip("transformers.models.pi0", reason="π0 is transformers'")
    return f"hf-pi0,folder={write_pi0(folder / 'pi0')},contract={write_contract(folder / 'pi0.yaml', _SETTINGS)}"


@pytest.mark.parametrize("name", [*POLICIES, "checkpoint", f"{__name__}:Still"])
def test_every_name_makes_a_policy_that_keeps_its_promise(
    name: str, scene: Any, checkpoint: Path, tmp_path: Path
) -> None:
    offers, observations = scene
    policy = build_policy(find_policy(_said(name, checkpoint, tmp_path)), **offers)
    assert isinstance(policy, Policy)
    check_policy(policy, observations)


def test_a_checkpoint_acts_anywhere_and_those_that_need_an_environment_say_so(checkpoint: Path) -> None:
    assert needs(find_policy(str(checkpoint))) == []
    policy = build_policy(find_policy(str(checkpoint)))
    assert check_policy(policy) is not None
    assert needs(find_policy("expert")) == ["env", "envs"]
    assert needs(find_policy("random")) == ["contract"]
    with pytest.raises(ConfigError, match="policy random needs contract, and there is no environment here"):
        build_policy(find_policy("random"))


def test_a_checkpoint_for_another_environment_is_refused_before_its_weights(checkpoint: Path) -> None:
    contract = env_spec(_ENV).make({"image_size": 16}).contract
    with pytest.raises(ContractError, match=r"cameras\.front: 32x32 ≠ 16x16"):
        build_policy(find_policy(str(checkpoint)), env=_ENV, contract=contract)


def test_a_server_is_called_by_its_address(scene: Any, checkpoint: Path) -> None:
    offers, observations = scene
    served = build_policy(find_policy(str(checkpoint)))
    with PolicyServer(served, port=0).running() as address:
        policy = build_policy(find_policy(address), **offers)
        assert isinstance(policy, RemotePolicy)
        try:
            check_policy(policy, observations)
        finally:
            policy.close()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "runs/nowhere",
            CheckpointError,
            "does not exist; give a checkpoint folder, expert, random, hf-pi0, ws://HOST",
        ),
        ("expret", CheckpointError, "expert"),
        ("no.module:Name", UnknownNameError, "cannot be imported"),
    ],
)
def test_wrong_names_are_explained(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_policy(name)


@dataclass(frozen=True, kw_only=True)
class _Pace:
    """Settings of a policy of somebody else's."""

    speed: float = 1.0
    words: tuple[str, ...] = ()


def paced(contract: Contract, *, settings: _Pace) -> Policy:
    """A policy that is told its settings."""
    policy = Still(contract)
    policy.settings = settings  # type: ignore[attr-defined]
    return policy


def test_settings_stand_behind_a_name_and_are_strict(scene: Any, tmp_path: Path) -> None:
    offers, _ = scene
    for name, expected in (("", _Pace()), (",speed=2,words=[a]", _Pace(speed=2.0, words=("a",)))):
        policy = build_policy(find_policy(f"{__name__}:paced{name}"), **offers)
        assert vars(policy)["settings"] == expected
    with pytest.raises(ConfigError, match="has no settings, got device=cpu"):
        find_policy(f"{tmp_path},device=cpu")
    for wrong, message in (
        (",sped=2", "unknown key 'sped': did you mean 'speed'"),
        (",speed=fast", "speed must be float, got 'fast'"),
        (",speed", "'speed' must be key=value"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_policy(f"{__name__}:paced{wrong}")


def test_a_factory_is_given_what_it_asks_for(scene: Any) -> None:
    asked: list[Any] = []

    def make(batch: int, *, contract: Any = None, other: str = "own") -> Still:
        asked.append((batch, contract, other))
        return Still(contract)

    offers, _ = scene
    assert needs(make) == ["batch"]
    build_policy(make, **offers)
    assert asked == [(4, offers["contract"], "own")]
