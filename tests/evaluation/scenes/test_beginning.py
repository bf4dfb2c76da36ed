"""An evaluated episode begins alike each time, and in no other way than its condition says."""

from typing import Any

import numpy as np
import pytest

from vla.core.errors import ConfigError, VlaError
from vla.envs.perturbations import Perturbed
from vla.envs.registry import env_spec
from vla.evaluation.scenes.beginning import Beginning, begin
from vla.evaluation.scenes.phrasing import rephrase
from vla.evaluation.trials import Condition

ENV = "tabletop/place"


@pytest.fixture(scope="module")
def env() -> Any:
    return env_spec(ENV).build({"image_size": 16})


def _begin(env: Any, seed: int, **circumstances: Any) -> Beginning:
    return begin(env, seed, **Condition(env=ENV, **circumstances).circumstances)


def test_the_same_trial_begins_alike(env: Any) -> None:
    condition = {"split": "seen", "language": "polite", "perturbation": {"image_noise": 10.0}}
    one = _begin(env, 3, **condition)
    _begin(env, 4, **condition)
    two = _begin(env, 3, **condition)
    np.testing.assert_array_equal(one.raw["images"]["front"], two.raw["images"]["front"])
    assert one.instruction == two.instruction
    plain = _begin(env, 3, split="seen")
    assert plain.env is env
    assert isinstance(one.env, Perturbed)
    assert (plain.raw["images"]["front"] != one.raw["images"]["front"]).any()


def test_words_are_the_environment_s_or_made_of_them(env: Any) -> None:
    right = _begin(env, 3)
    assert (right.said, right.instruction) == (None, env.instruction)
    said = rephrase(env.instruction, env.instruction_alternatives, "misspelt", 3)
    spelt = _begin(env, 3, language="misspelt")
    assert (spelt.said, spelt.instruction) == (said, said)
    assert said != right.instruction
    assert _begin(env, 3, language="blank").instruction == ""


@pytest.mark.parametrize("circumstances", [{"split": "elsewhere"}, {"perturbation": {"noise": 1}}])
def test_what_it_does_not_know_is_refused(env: Any, circumstances: dict[str, Any]) -> None:
    with pytest.raises(VlaError, match=r"elsewhere|noise"):
        _begin(env, 3, **circumstances)
    with pytest.raises(ConfigError, match="must be at least 0"):
        _begin(env, 3, perturbation={"action_latency_steps": -1})
