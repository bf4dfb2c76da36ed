"""Environments by name: ours, users' own, and several at once."""

import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from vla.core.errors import ConfigError, UnknownNameError
from vla.core.machine.packages import MissingPackageError
from vla.envs.registry import ENVS, env_names, env_spec, make_expert, match
from vla.envs.tabletop.table import TABLETOP


class OwnEnv:
    """A user's own environment.

    More of it.
    """

    max_steps = 12
    contract = instruction = renderer = None
    instruction_alternatives = ()

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def reset(self) -> None: ...

    def step(self) -> None: ...

    def render(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that holds a class, a description and something else."""
    module: Any = types.ModuleType("their_own")
    module.Env, module.SPEC, module.PI = OwnEnv, ENVS["tabletop/place"], 3.14
    monkeypatch.setitem(sys.modules, "their_own", module)
    point = EntryPoint("their/env", "their_own:SPEC", "vla.envs")
    monkeypatch.setattr("vla.core.lookup.entry_points", lambda group: [point] if group == "vla.envs" else [])


@pytest.mark.usefixtures("own")
def test_users_own_are_found() -> None:
    assert env_spec("their_own:SPEC") is env_spec("their/env") is ENVS["tabletop/place"]
    spec = env_spec("their_own:Env")
    assert (spec.summary, spec.max_steps, spec.expert) == ("A user's own environment.", 12, None)
    built: Any = spec.make({"size": 4})
    assert built.size == 4
    with pytest.raises(ConfigError, match=r"'colour'.*settings are the arguments of the class"):
        spec.make({"colour": 4})
    with pytest.raises(ConfigError, match=r"their_own:PI: expected an EnvSpec or a class of RobotEnv, got 3\.14"):
        env_spec("their_own:PI")
    with pytest.raises(ConfigError, match="has no scripted expert"):
        make_expert("their_own:Env", built)


@pytest.mark.usefixtures("own")
def test_all_are_listed_users_own_last() -> None:
    assert env_names() == [*ENVS, "their/env"]
    assert match(["their*"]) == (["their/env"], [])


def test_an_unknown_one_is_guessed() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tabletop/place'"):
        env_spec("tabletop/plce")


def test_names_and_patterns_each_once_in_order() -> None:
    assert match(["tabletop/tidy", "tabletop/d*", "tabletop/drawer-open"]) == (
        ["tabletop/tidy", "tabletop/drawer-open", "tabletop/drawer-close"],
        [],
    )
    assert match(["tabletop/*"])[0] == list(TABLETOP)
    with pytest.raises(UnknownNameError, match="environments table/\\*: none is called like that"):
        match(["table/*"])
    with pytest.raises(UnknownNameError, match="did you mean"):
        match(["tabletop/plce"])


def test_what_is_not_installed_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVS, "tabletop/away", replace(ENVS["tabletop/place"], module="no_such_module"))
    names, missing = match(["tabletop/*", "all"])
    assert missing == ["tabletop/away"]
    assert set(names) == set(ENVS) - {"tabletop/away"}
    with pytest.raises(MissingPackageError, match="tabletop/away: the package no_such_module is needed"):
        match(["tabletop/away"])
    with pytest.raises(UnknownNameError, match="none is installed"):
        match(["tabletop/away*"])


def test_experts_can_be_asked_for() -> None:
    assert "fetch/slide" in match(["fetch/*"])[0]
    assert "fetch/slide" not in match(["fetch/*"], with_expert=True)[0]
    with pytest.raises(UnknownNameError, match="none with an expert"):
        match(["fetch/slid*"], with_expert=True)
