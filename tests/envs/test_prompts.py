"""What success looks like, said of what an instruction names."""

from typing import Any

import pytest

from vla.core.errors import ConfigError
from vla.envs.prompts import Prompts
from vla.envs.recording import finish
from vla.envs.registry import env_spec, make_expert
from vla.envs.tabletop.prompts import PROMPTS

PLACE: dict[str, Any] = {
    "instructions": ("put the {block} on the {plate}", "on the {plate}, put the {block}"),
    "success": ("a {block} on a {plate}",),
    "failure": ("a {block} held", "a {block} on a {other}"),
    "others": ("red plate", "blue plate"),
}


def test_sentences_are_about_what_is_named() -> None:
    prompts = Prompts(**PLACE)
    for said in ("put the green block on the red plate", "on the red plate, put the green block"):
        success, failure = prompts.filled(said)
        assert success == ["a green block on a red plate"]
        assert failure == ["a green block held", "a green block on a blue plate"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"failure": ()}, "failure has no sentence; what fits a success is told from what fits a failure"),
        ({"success": ()}, "success has no sentence"),
        ({"failure": ("a {block} on a {other}",), "others": ("blue plate",)}, "no sentence of failure is left"),
        ({"success": ("a {cup} on a {plate}",)}, r"nothing in 'put the \{block\} on the \{plate\}' is called 'cup'"),
        ({"instructions": ("lift the {block}",)}, "has none of the forms 'lift the {block}'; add its form"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Prompts(**PLACE | changes).filled("put the red block on the blue plate")


@pytest.mark.parametrize("task", PROMPTS)
def test_prompts_say_what_captions_say(task: str) -> None:
    """Of each family, the sentence of success is true of the end of the expert's episode and none of failure is."""
    env = env_spec(task).build({"image_size": 16})
    for seed in range(4):
        env.reset(seed=seed)
        begins = {q.answer for q in env.questions()}
        success, failure = PROMPTS[task].filled(env.instruction)
        finish(env, make_expert(task, env))
        ends = {q.answer for q in env.questions()}
        assert not begins.intersection(success)
        assert ends.issuperset(success)
        assert not ends.intersection(failure)
        assert begins.intersection(failure)
    env.close()
