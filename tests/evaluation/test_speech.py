"""Instructions spoken while evaluating: the words are those of the condition, nothing is written, and scenes pair."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vla.core.errors import ConfigError, UnknownNameError, VlaError
from vla.core.policy_spec import PolicySpec
from vla.core.types import ActionChunk, Observation
from vla.envs.spec import RobotEnv
from vla.evaluation.evaluate import compare_results, evaluate
from vla.evaluation.result import require_same_scenes
from vla.evaluation.settings import RunConfig
from vla.sound.synthesis import synthesise

_SHORT: dict[str, Any] = {"settings": {"image_size": 32, "max_steps": 8}, "episodes": 3, "seed": 7}


class Hearing:
    """Stands still and keeps what it is told."""

    def __init__(self, env: str, envs: Sequence[RobotEnv]) -> None:
        self.contract = envs[0].contract
        seen.clear()

    def reset(self, slot: int) -> None:
        pass

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        seen.extend(o for o in observations if o is not None)
        return [o and ActionChunk(actions=o.state[None, :], time_ns=o.time_ns) for o in observations]


seen: list[Observation] = []
HERE, ALOUD = RunConfig(workers=1, batch=2), RunConfig(workers=1, batch=2, speech="en-us-nyc+f1")


@pytest.mark.parametrize("language", ["right", "wrong", "polite"])
def test_what_would_be_written_is_said(language: Any) -> None:
    written = evaluate(Hearing, **_SHORT, languages=(language,), run=HERE)
    read = {o.instruction for o in seen}
    assert all(o.speech is None for o in seen)
    spoken = evaluate(Hearing, **_SHORT, languages=(language,), run=ALOUD)
    assert {o.instruction for o in seen} == {""}
    heard = {o.speech.tobytes() for o in seen if o.speech is not None}
    assert heard == {synthesise(text, "en-us-nyc+f1").tobytes() for text in read}
    assert [e.instruction for e in spoken.rows[0].episodes] == [e.instruction for e in written.rows[0].episodes]
    assert len(read) > 1


def test_who_says_nothing_is_not_heard() -> None:
    evaluate(Hearing, **_SHORT, languages=("blank",), run=ALOUD)
    assert all((o.instruction, o.speech) == ("", None) for o in seen)


def test_results_say_who_spoke_and_are_compared_scene_by_scene(tmp_path: Path) -> None:
    written = evaluate("expert", **_SHORT, run=HERE)
    spoken = evaluate("expert", **_SHORT, run=ALOUD, out=tmp_path / "spoken")
    assert (written.config["speech"], spoken.config["speech"]) == ("", "en-us-nyc+f1")
    require_same_scenes(written, spoken)
    (row,) = compare_results(written, spoken).rows
    assert (row.paired.unpaired, row.paired.counts.both + row.paired.counts.neither) == (0, 3)
    with pytest.raises(VlaError, match="speech"):  # of another voice are other episodes
        evaluate("expert", **_SHORT, run=replace(ALOUD, speech="en-us"), out=tmp_path / "spoken")


class Reading(Hearing):
    """Was trained, and not to listen."""

    def __init__(self, env: str, envs: Sequence[RobotEnv]) -> None:
        super().__init__(env, envs)
        names = {"robots": ("panda",), "relative_to": (None,) * 8, "preprocessor": "", "tokenizer": ""}
        spec = PolicySpec(kind="mine", horizon=1, execute=1, model={}, **names)  # type: ignore[arg-type]
        self.contract = replace(self.contract, policy=spec)


def test_speaking_to_who_does_not_listen_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"speech=en-us-nyc\+f1: the policy reads .* not trained to listen"):
        evaluate(Reading, **_SHORT, run=ALOUD)
    assert not seen
    with pytest.raises(UnknownNameError, match="unknown voice 'en-usa': did you mean 'en-us'"):
        RunConfig(speech="en-usa")
