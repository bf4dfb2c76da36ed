"""Spoken instructions from a bank to a success rate, by the commands that a person types."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.tiny import TINY
from vla.datasets.dataset import Dataset
from vla.evaluation.folder import RESULT, read_episodes
from vla.sound.bank import SpeechBank
from vla.sound.voices import HELD_OUT, TRAINING

_SHORT = ("--workers", "1", "--batch", "2", "--episodes", "2", "--set", "image_size=32", "max_steps=8")


def test_a_bank_is_made_and_gone_on_with(call: Callable, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "bank"
    answer = call("data", "speak", dataset, "--out", out, "--voices", "en-us", "en+f4", "--json", tmp_path / "a.json")
    assert answer.code == 0, answer.err
    said = json.loads((tmp_path / "a.json").read_text())["voices"]
    texts, _ = Dataset.open(dataset).episodes.column("instruction")
    assert set(said) == set(texts)
    assert f"{2 * len(said)} sounds of {len(said)} sentences by 2 voices" in answer.out
    answer = call("data", "speak", "--sentences", "stop", "--out", out)
    assert f"{2 * len(said) + len(TRAINING)} sounds of {len(said) + 1} sentences" in answer.out
    assert set(SpeechBank.open(out).by_text) == {*said, "stop"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "speak: what? name a dataset, or give --sentences"),
        (("--sentences", "stop", "--voices", HELD_OUT), f"voice {HELD_OUT} is held out"),
        (("--sentences", "stop", "--voices", "en-su"), "unknown voice 'en-su': did you mean 'en-us'"),
        (("--sentences", "stop", "--takes", "0"), "takes=0 must be at least 1"),
        (("--sentences", "..."), "has no word to say"),
        (("nowhere",), "nowhere"),
    ],
)
def test_what_cannot_be_said_is_one_line(call: Callable, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    answer = call("data", "speak", *arguments, "--out", tmp_path / "bank")
    assert (answer.code, says in answer.err, len(answer.err.splitlines())) == (2, True, 1), answer.err


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of a tiny model that reads and listens."""
    model = TINY["model"]
    readers = {**model["readers"], "sound": {"kind": "sound", "layers": 1, "channels": 8}}
    readers["images"] = {**readers["images"], "asks": ["text", "sound"]}
    path = tmp_path_factory.mktemp("recipe") / "listening.yaml"
    path.write_text(yaml.safe_dump(TINY | {"model": {**model, "readers": readers}}))
    return path


def test_from_instructions_to_a_policy_that_is_spoken_to(
    call: Callable, dataset: Path, listening: Path, trained: Path, tmp_path: Path
) -> None:
    bank, run = tmp_path / "bank", tmp_path / "run"
    answer = call("train", listening, "--data.path", dataset, "--out", run, "--augmentation.speech", bank)
    assert (answer.code, "is no speech bank" in answer.err) == (2, True), answer.err
    call("data", "speak", "--sentences", "stop", "--out", bank, "--voices", "en-us")
    answer = call("train", listening, "--data.path", dataset, "--out", run, "--augmentation.speech", bank)
    assert (answer.code, f"vla data speak DATASET --out {bank}" in answer.err) == (2, True), answer.err
    assert call("data", "speak", dataset, "--out", bank, "--voices", "en-us", "en+f4").code == 0
    answer = call("train", listening, "--data.path", dataset, "--out", run, "--augmentation.speech", bank)
    assert answer.code == 0, answer.err
    policy, spoken, written = run / "checkpoint", tmp_path / "spoken", tmp_path / "written"
    answer = call("eval", policy, "--speech", HELD_OUT, "--out", spoken, *_SHORT)
    assert answer.code == 0, answer.err
    assert call("eval", policy, "--out", written, *_SHORT).code == 0
    assert json.loads((spoken / RESULT).read_text())["config"]["speech"] == HELD_OUT
    told = [[result.instruction for _, result in read_episodes(folder)] for folder in (spoken, written)]
    assert told[0] == told[1]
    digests = [[result.actions_digest for _, result in read_episodes(folder)] for folder in (spoken, written)]
    assert digests[0] != digests[1]
    answer = call("eval", "--diff", spoken, written)
    assert answer.code == 0, answer.err
    answer = call("eval", trained, "--speech", HELD_OUT, *_SHORT)
    assert (answer.code, "was not trained to listen" in answer.err) == (2, True), answer.err
    answer = call("info", policy)
    assert (answer.code, "listens" in answer.out) == (0, True), answer.out
