import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from PIL import Image

from vla.core.errors import VlaError
from vla.core.types import Policy
from vla.envs.registry import env_spec
from vla.envs.spec import RobotEnv
from vla.evaluation.baselines import ExpertPolicy
from vla.evaluation.run import run_trials
from vla.evaluation.settings import RunConfig
from vla.evaluation.trials import Condition, EpisodeResult, trials_of
from vla.policies.random import RandomPolicy
from vla.report.evaluation.video import STRIP_GAP, STRIP_PIXELS, film_strip, replay_frames

ENV, SEED = "tabletop/place", 500_000


def wander(env: str, envs: Sequence[RobotEnv]) -> Policy:
    return RandomPolicy(envs[0].contract, horizon=8, seed=0)


def evaluated(language: str = "right", *, make=ExpertPolicy, settings=None) -> EpisodeResult:
    condition = Condition(env=ENV, language=language, settings=settings or {})
    run = RunConfig(execute=4, workers=1, batch=1)
    (result,) = run_trials(trials_of([condition], [SEED]), {"": make}, run).of(condition)
    return result


@pytest.fixture(scope="module")
def env() -> Iterator[RobotEnv]:
    env = env_spec(ENV).make({})
    yield env
    env.close()


@pytest.fixture(scope="module")
def success() -> EpisodeResult:
    return evaluated()


@pytest.fixture(scope="module")
def frames(env, success) -> np.ndarray:
    return replay_frames(env, success)


def test_one_frame_for_the_start_and_one_after_each_step(success, frames):
    assert success.success
    assert frames.shape == (success.steps + 1, 256, 512, 3)
    assert frames.dtype == np.uint8


def test_a_frame_is_the_front_view_beside_what_the_wrist_camera_saw(env, success, frames):
    raw, _ = env.reset(seed=SEED)
    assert np.array_equal(frames[0][:, :256], env.render())
    assert np.array_equal(frames[0][::4, 256::4], raw["images"]["wrist"])
    for action in success.actions:
        raw, *_ = env.step(action)
    assert np.array_equal(frames[-1][:, :256], env.render())
    assert np.array_equal(frames[-1][::4, 256::4], raw["images"]["wrist"])


def test_a_replay_is_the_same_every_time_and_in_another_environment(success, frames):
    other = env_spec(ENV).make({})
    try:
        assert np.array_equal(replay_frames(other, success), frames)
    finally:
        other.close()


def test_an_image_size_that_does_not_divide_the_height_fills_it():
    settings = {"image_size": 48}
    other = env_spec(ENV).make(settings)
    try:
        assert replay_frames(other, evaluated(settings=settings)).shape[1:] == (256, 512, 3)
    finally:
        other.close()


def test_a_wrong_instruction_is_replayed_as_such(env):
    result = evaluated("wrong")
    assert len(replay_frames(env, result, Condition(env="tabletop/place", language="wrong"))) == result.steps + 1
    with pytest.raises(VlaError, match=r"seed 500000: recorded instruction .*language \(now 'right'\)"):
        replay_frames(env, result)


def test_a_failure_is_replayed(env):
    result = evaluated(make=wander)
    assert not result.success
    assert len(replay_frames(env, result, camera=None)) == result.steps + 1 == 81


def test_without_a_camera_there_is_only_the_front_view(env, success, frames):
    assert np.array_equal(replay_frames(env, success, camera=None), frames[:, :, :256])
    with pytest.raises(VlaError, match="camera 'nose' is not one of front, wrist"):
        replay_frames(env, success, camera="nose")


def test_a_replay_that_ends_otherwise_is_an_error(env, success):
    flipped = dataclasses.replace(success, success=False)
    with pytest.raises(VlaError, match=r"recorded success=False .* got success=True"):
        replay_frames(env, flipped)
    still = dataclasses.replace(success, actions=np.repeat(success.actions[:1], success.steps, axis=0))
    with pytest.raises(VlaError, match=r"recorded success=True .* got success=False"):
        replay_frames(env, still)
    short = dataclasses.replace(success, actions=success.actions[:-1])
    with pytest.raises(VlaError, match="recorded success=True"):
        replay_frames(env, short)


def test_a_crash_is_not_replayed(env, success):
    with pytest.raises(VlaError, match="crashed"):
        replay_frames(env, dataclasses.replace(success, success=False, crash="step 3: boom"))


def test_a_strip_refuses_what_it_cannot_hold(frames):
    with pytest.raises(VlaError, match="expected at least one"):
        film_strip(frames[:0])
    with pytest.raises(VlaError, match="views=3 must divide the width 512"):
        film_strip(frames, views=3)


def test_strip_begins_with_the_first_frame_and_ends_with_the_last(frames):
    strip = np.asarray(Image.open(io.BytesIO(film_strip(frames, count=4))))
    step = STRIP_PIXELS + STRIP_GAP
    assert strip.shape == (2 * step - STRIP_GAP, 4 * step - STRIP_GAP, 3)
    for column, frame in ((0, frames[0]), (3, frames[-1])):
        for row, picture in enumerate((frame[:, :256], frame[:, 256:])):
            expected = np.asarray(Image.fromarray(picture).resize((STRIP_PIXELS, STRIP_PIXELS)))
            cell = strip[row * step :, column * step :][:STRIP_PIXELS, :STRIP_PIXELS]
            assert np.abs(cell.astype(int) - expected).mean() < 6


def test_a_strip_of_more_pictures_than_frames_repeats_them(frames):
    assert Image.open(io.BytesIO(film_strip(frames[:1], count=3, views=1))).size == (3 * 320 + 2 * STRIP_GAP, 160)
