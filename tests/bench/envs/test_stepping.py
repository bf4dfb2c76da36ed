"""What is measured is real: environments that step, evaluations that run."""

from pathlib import Path

import pytest

from vla.bench.envs.evaluation import bench_evaluation, write_random_checkpoint
from vla.bench.envs.stepping import measure_rates
from vla.bench.measure import in_fresh_process
from vla.bench.settings import EnvConfig
from vla.core.contract import read_contract
from vla.envs.registry import env_spec

CONFIG = EnvConfig(size=32, budget=0.05, episodes=2, batch=2, network_episodes=2)


def test_steps_are_counted_for_each_environment() -> None:
    ours = {"a": ("tabletop/place", {"image_size": 32}), "b": ("tabletop/place", {"image_size": 128})}
    rates = measure_rates(ours, CONFIG)
    assert rates.keys() == {"a", "b"}
    assert rates["a"] > rates["b"] > 0


@pytest.mark.parametrize("suite", ["metaworld", "robosuite"])
def test_a_suite_is_measured_where_nobody_has_chosen_opengl(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(suite)
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "VLA_GL"):
        monkeypatch.delenv(name, raising=False)
    assert in_fresh_process(measure_rates, {}, CONFIG, suite)["peer"] > 0


def test_evaluations_are_timed_and_the_bar_is_for_a_hundred_episodes() -> None:
    expert, inference, network = bench_evaluation(CONFIG, lambda text: None)
    assert (expert.unit, expert.bar) == ("s", None)
    assert expert.value > 0
    assert inference.ratio is not None
    assert network.bar == 2.0
    assert network.against is not None
    assert network.against > 0


def test_the_network_fits_the_environment(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", 0, {"image_size": 32})
    env = env_spec("tabletop/place").make({"image_size": 32})
    assert read_contract(checkpoint / "contract.json").action == env.contract.action
