"""A bank is the same wherever it is made, is gone on with, and is trusted only as it was sealed."""

from pathlib import Path

import numpy as np
import pytest

from vla.core.errors import DatasetError, UnknownNameError, VlaError
from vla.sound import bank as bank_module
from vla.sound.bank import INDEX, SOUNDS, SpeechBank, speak
from vla.sound.synthesis import synthesise
from vla.sound.voices import HELD_OUT

SAID = ["lift the red block", "lift the blue block"]
VOICES = ("en-us", "en+f4")


@pytest.fixture
def made(tmp_path: Path) -> SpeechBank:
    return speak(tmp_path / "bank", SAID, VOICES)


def test_everybody_says_everything(made: SpeechBank) -> None:
    opened = SpeechBank.open(made.path)
    assert opened == made
    assert {(s.text, s.voice) for s in opened.sounds} == {(text, voice) for text in SAID for voice in VOICES}
    for sound in opened.sounds:
        exact = synthesise(sound.text, sound.voice, words_per_minute=sound.words_per_minute, pitch=sound.pitch)
        np.testing.assert_allclose(opened.samples(sound), exact, atol=2**-15)
    assert len({(s.words_per_minute, s.pitch) for s in opened.sounds}) == 4
    opened.require([*SAID, ""])


def test_it_is_the_same_wherever_it_is_made(made: SpeechBank, tmp_path: Path) -> None:
    """In whatever order, beside whatever else: only the seed makes another one."""
    again = speak(tmp_path / "again", [*SAID[::-1], "stop"], VOICES[::-1])
    assert {s for s in again.sounds if s.text != "stop"} == set(made.sounds)
    other = speak(tmp_path / "other", SAID, VOICES, seed=1)
    assert not {s.crc32c for s in other.sounds} & {s.crc32c for s in made.sounds}


def test_what_is_there_stays_and_what_is_missing_is_added(made: SpeechBank, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken: list[str] = []
    real = bank_module.synthesise

    def counted(text: str, voice: str, **settings: int) -> np.ndarray:
        spoken.append(text)
        return real(text, voice, **settings)

    monkeypatch.setattr(bank_module, "synthesise", counted)
    seen: list[tuple[int, int]] = []
    more = speak(made.path, [*SAID, "stop"], VOICES, takes=2, on_progress=lambda *at: seen.append(at))
    assert len(spoken) == 12 - 4
    assert set(made.sounds) < set(more.sounds) == set(SpeechBank.open(made.path).sounds)
    assert seen[-1] == (12, 12)


def test_an_end_in_between_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = bank_module.synthesise, [3]

    def ending(text: str, voice: str, **settings: int) -> np.ndarray:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(text, voice, **settings)

    monkeypatch.setattr(bank_module, "synthesise", ending)
    with pytest.raises(KeyboardInterrupt):
        speak(tmp_path / "bank", SAID, VOICES)
    assert len(SpeechBank.open(tmp_path / "bank").sounds) == 3
    left[0] = 1  # one is missing, and one is said
    assert len(speak(tmp_path / "bank", SAID, VOICES).sounds) == 4


def test_damage_is_noticed_and_mended(made: SpeechBank) -> None:
    file = made.path / SOUNDS / made.sounds[1].name
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + bytes(100))
    with pytest.raises(DatasetError, match=rf"{file.name} is damaged; make it again with: vla data speak"):
        SpeechBank.open(made.path)
    file.unlink()
    with pytest.raises(DatasetError, match=rf"{file.name} is missing"):
        SpeechBank.open(made.path)
    assert set(speak(made.path, SAID, VOICES).sounds) == set(made.sounds)
    assert file.read_bytes() == whole


@pytest.mark.parametrize(("old", "new"), [(b"lift the red", b"lift the rod"), (b'"format_version": "1.0"', b'"a": 1')])
def test_a_damaged_index_is_refused(made: SpeechBank, old: bytes, new: bytes) -> None:
    index = made.path / INDEX
    index.write_bytes(index.read_bytes().replace(old, new))
    for read in (lambda: SpeechBank.open(made.path), lambda: speak(made.path, SAID, VOICES)):
        with pytest.raises(DatasetError, match=r"bank\.json is damaged"):
            read()


def test_a_file_that_is_named_from_outside_is_not_read(made: SpeechBank) -> None:
    """Files are named by what they are; a link in their place is not followed."""
    file = made.path / SOUNDS / made.sounds[0].name
    other = made.path.parent / "other.wav"
    file.rename(other)
    file.symlink_to(other)
    with pytest.raises(DatasetError, match="is missing"):
        SpeechBank.open(made.path)


def test_folders_of_something_else_are_refused(tmp_path: Path, made: SpeechBank) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds something else than a speech bank"):
        speak(tmp_path, SAID, VOICES)
    with pytest.raises(DatasetError, match="is a file; choose a new folder"):
        speak(tmp_path / "notes.txt", SAID, VOICES)
    with pytest.raises(DatasetError, match=r"is no speech bank: bank\.json does not exist"):
        SpeechBank.open(tmp_path)
    with pytest.raises(DatasetError, match="is of seed 0, not 5"):
        speak(made.path, SAID, VOICES, seed=5)


def test_who_is_held_out_speaks_in_no_bank(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match=rf"voice {HELD_OUT.replace('+', '.')} is held out"):
        speak(tmp_path / "bank", SAID, (*VOICES, HELD_OUT))
    with pytest.raises(UnknownNameError, match="unknown voice 'nobody'"):
        speak(tmp_path / "bank", SAID, ("nobody",))
    with pytest.raises(VlaError, match="no voice: name some of"):
        speak(tmp_path / "bank", SAID, ())
    assert not (tmp_path / "bank").exists()


def test_a_sentence_that_nobody_says_is_named_with_the_command(made: SpeechBank) -> None:
    with pytest.raises(DatasetError, match=r"nobody says 'stop', nor 1 others, .* data speak DATASET --out .*/bank"):
        made.require([*SAID, "stop", "go on"])
