"""Spoken training samples: the share that was asked for, each in the words of its own instruction, and repeatable."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.errors import ConfigError, DatasetError
from vla.datasets.dataset import Dataset
from vla.models.checkpoint import load_model, read_tensors
from vla.models.text.words import WordTokenizer
from vla.models.trunk.inputs import Inputs
from vla.sound.bank import SpeechBank, Spoken, speak
from vla.sound.mel import log_mel
from vla.training.augmentation.config import AugmentationConfig
from vla.training.augmentation.speech import Speaking
from vla.training.engines import Stopped, train
from vla.training.loop import STOP, _altering
from vla.training.recipe import TrainConfig
from vla.training.samples import open_samples
from vla.training.state import newest_state

SAID = ["lift the red block", "lift the blue block", ""]
VOICES = ("en-us", "en+f4", "en-gb-scotland")
LENGTH, B = 8, 300
TOKENIZER = WordTokenizer.fit(SAID)
IDS, VALID = map(torch.from_numpy, TOKENIZER.encode(SAID, LENGTH))
TOKENS = dict(zip(SAID, IDS.tolist(), strict=True))


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> SpeechBank:
    return speak(tmp_path_factory.mktemp("speech") / "bank", SAID[:2], VOICES)


def _inputs(b: int = B) -> Inputs:
    rows = torch.arange(b) % 3
    return Inputs(
        images=torch.zeros(b, 1, 1, 1, 1, 3, dtype=torch.uint8),
        camera_valid=torch.ones(b, 1, dtype=torch.bool),
        state=torch.zeros(b, 1, 1),
        state_valid=torch.ones(b, 1, dtype=torch.bool),
        observed=torch.ones(b, 1, dtype=torch.bool),
        text=IDS[rows],
        text_valid=VALID[rows],
        embodiment=torch.zeros(b, dtype=torch.long),
    )


def _spoken(bank: SpeechBank, share: float, seed: int = 0) -> Inputs:
    torch.manual_seed(seed)
    inputs = _inputs()
    return Speaking(bank, share, TOKENS)(inputs, inputs.text)


def _heard(bank: SpeechBank, mel: Tensor, valid: Tensor) -> Spoken | None:
    """The sound of the bank that this is."""
    length = int(valid.sum())
    for sound in bank.sounds:
        expected = log_mel(bank.samples(sound))
        if len(expected) == length and torch.allclose(expected, mel[:length], atol=1e-3):
            return sound
    assert not length, "this is none of the bank's sounds"
    return None


def test_each_says_its_own_instruction_or_has_it_written(bank: SpeechBank) -> None:
    inputs, plain = _spoken(bank, 0.4), _inputs()
    assert inputs.sound is not None
    voices: Counter[str] = Counter()
    for i in range(B):
        heard, text = _heard(bank, inputs.sound.mel[i], inputs.sound.valid[i]), SAID[i % 3]
        assert (heard is None) or heard.text == text
        written = heard is None
        assert inputs.text_valid[i].tolist() == (plain.text_valid[i] & written).tolist()
        assert inputs.text[i].tolist() == (plain.text[i] * written).tolist()
        voices[heard.voice if heard else ""] += 1
    assert 0.3 < (B - voices[""]) / (2 / 3 * B) < 0.5  # of those that have words
    assert set(voices) == {"", *VOICES}
    assert min(voices[voice] for voice in VOICES) > 12


def test_a_share_of_all_and_of_none(bank: SpeechBank) -> None:
    everybody = _spoken(bank, 1.0)
    assert everybody.sound is not None
    assert everybody.sound.valid.any(dim=1).tolist() == [bool(SAID[i % 3]) for i in range(B)]
    assert not everybody.text_valid.any()
    nobody = _spoken(bank, 0.0)
    assert nobody.sound is None
    assert torch.equal(nobody.text, _inputs().text)


def test_what_is_asked_stays_written(bank: SpeechBank) -> None:
    inputs, acting = _inputs(), torch.arange(0, B, 2)
    changed = Speaking(bank, 1.0, TOKENS)(inputs, inputs.text, acting)
    assert changed.sound is not None
    spoken = changed.sound.valid.any(dim=1)
    assert spoken.tolist() == [i % 2 == 0 and bool(SAID[i % 3]) for i in range(B)]
    assert torch.equal(changed.text[1::2], inputs.text[1::2])
    assert torch.equal(changed.text_valid[1::2], inputs.text_valid[1::2])


def test_a_seeded_step_is_repeatable(bank: SpeechBank) -> None:
    one, again, other = (_spoken(bank, 0.5, seed) for seed in (1, 1, 2))
    assert one.sound is not None
    assert again.sound is not None
    assert other.sound is not None
    assert torch.equal(one.sound.mel, again.sound.mel)
    assert torch.equal(one.text, again.text)
    assert not torch.equal(one.text, other.text)


def test_an_instruction_that_nobody_says_is_refused(bank: SpeechBank) -> None:
    with pytest.raises(DatasetError, match=r"nobody says 'stop', which the data asks for; .* vla data speak DATASET"):
        Speaking(bank, 0.3, TOKENS | {"stop": [9] * LENGTH})


MakeRecipe = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def place_bank(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechBank:
    texts, _ = Dataset.open(dataset).episodes.column("instruction")
    return speak(tmp_path_factory.mktemp("speech") / "place", texts, VOICES[:2])


def _listening(make_recipe: MakeRecipe, bank: Path | str) -> TrainConfig:
    readers = {"sound": {"kind": "sound", "layers": 1, "channels": 8}, "images": {"channels": 8, "tokens": 4}}
    readers["images"]["asks"] = ["text", "sound"]  # type: ignore[assignment]
    augmentation = {"speech": str(bank), "spoken": 0.5}
    model = {
        "trunk": {"width": 32, "layers": 1, "heads": 2},
        "readers": readers,
        "head": {"bins": 16},
        "auxiliaries": {"grounding": {"bins": 8}},
    }
    return make_recipe(model=model, augmentation=augmentation)


def test_spoken_samples_keep_no_written_word_whatever_stands_around_commands(
    make_recipe: MakeRecipe, place_bank: SpeechBank
) -> None:
    """Words that say nothing are for who reads."""
    opened = open_samples(make_recipe(batch=64))
    preprocessor = opened.blueprint.preprocessor
    config = AugmentationConfig(words=1.0, rotate=0.5, speech=str(place_bank.path), spoken=0.5)
    alter = _altering(config, preprocessor, opened.train, place_bank)
    batch = next(iter(opened.batches(batch=64, rank=0, world=1, start=0)))
    torch.manual_seed(0)
    inputs, _ = alter(batch.inputs, batch.targets)
    assert inputs.sound is not None
    spoken = inputs.sound.valid.any(dim=1)
    assert 16 < spoken.sum() < 48
    assert not inputs.text_valid[spoken].any()
    assert inputs.text_valid[~spoken].any(dim=1).all()
    torch.manual_seed(0)
    plain, _ = _altering(replace(config, speech=""), preprocessor, opened.train, None)(batch.inputs, batch.targets)
    assert plain.sound is None
    assert torch.equal(plain.images, inputs.images)
    assert torch.equal(plain.text[~spoken], inputs.text[~spoken])  # what the seed decided without it stays so


def test_a_model_that_listens_is_trained_and_resumed_exactly(
    make_recipe: MakeRecipe, place_bank: SpeechBank, tmp_path: Path
) -> None:
    config, halves = _listening(make_recipe, place_bank.path), tmp_path / "halves"
    checkpoint = train(config, tmp_path / "whole")

    def stop(line: dict[str, Any]) -> None:
        if line["step"] == 2:
            (halves / STOP).touch()

    with pytest.raises(Stopped):
        train(config, halves, stop)
    told = json.loads((halves / "speech.json").read_text())
    (halves / "speech.json").write_text(json.dumps(told | {"digest": "0" * 64}))
    with pytest.raises(DatasetError, match=r"is another one than when .* began \(.* sounds, digest 000000000000; here"):
        train(config, halves)
    (halves / "speech.json").write_text(json.dumps(told))
    train(config, halves)
    whole, resumed = (read_tensors(newest_state(run), "state.safetensors") for run in (tmp_path / "whole", halves))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    blueprint, _ = load_model(checkpoint)
    assert blueprint.contract.policy is not None
    assert blueprint.contract.policy.speech
    assert blueprint.contract.to_json()["policy"]["speech"] is True


def test_recipes_that_hear_nothing_are_refused_before_training(
    make_recipe: MakeRecipe, bank: SpeechBank, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"train\.augmentation\.speech: the model has no reader of sound"):
        train(make_recipe(augmentation={"speech": str(bank.path)}), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"model\.readers\.sound learns nothing unless instructions are spoken"):
        train(_listening(make_recipe, ""), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train\.augmentation\.spoken=1\.5 must be between 0 and 1"):
        make_recipe(augmentation={"spoken": 1.5})
    with pytest.raises(DatasetError, match=r"nobody says 'put the .* add what is missing with: vla data speak DATASET"):
        train(_listening(make_recipe, bank.path), tmp_path / "run")
    with pytest.raises(DatasetError, match="is no speech bank"):
        train(_listening(make_recipe, tmp_path), tmp_path / "other")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_paths_of_banks_hold_in_any_folder(make_recipe: MakeRecipe, bank: SpeechBank) -> None:
    recipe = _listening(make_recipe, bank.path)
    relative = replace(recipe, augmentation=replace(recipe.augmentation, speech="speech/place"))
    assert relative.resolved().augmentation.speech == str(Path("speech/place").resolve())
    assert make_recipe().resolved().augmentation.speech == ""
