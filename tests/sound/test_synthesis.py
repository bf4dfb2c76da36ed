"""Speech is the same samples wherever and whenever it is made, and each voice is another one."""

import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

from vla.core.errors import ConfigError, ContractError, UnknownNameError
from vla.core.types import SPEECH_HZ
from vla.sound.mel import log_mel
from vla.sound.synthesis import _resampled, synthesise
from vla.sound.voices import HELD_OUT, TRAINING, VOICES

SAID = "put the red block on the blue plate"


def test_it_is_speech() -> None:
    samples = synthesise(SAID, "en-us")
    assert samples.dtype == np.float32
    assert 1.0 < len(samples) / SPEECH_HZ < 2.5
    assert 0.2 < np.abs(samples).max() <= 1.0


def _hum_hz(samples: np.ndarray) -> float:
    """How often the vocal cords open in a second: the shift by which a vowel is most like itself."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    alike = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    first, last = SPEECH_HZ // 400, SPEECH_HZ // 60
    return SPEECH_HZ / (first + alike[first:last].argmax())


@pytest.mark.parametrize("hz", [100, 440, 3000])
def test_a_tone_keeps_its_height_at_16_khz(hz: int) -> None:
    given = np.sin(2 * np.pi * hz * np.arange(22_050) / 22_050).astype(np.float32)
    slower = _resampled(given, 22_050)
    assert len(slower) == SPEECH_HZ
    assert np.abs(np.fft.rfft(slower)).argmax() == hz


def test_what_was_said_before_changes_no_sample() -> None:
    first = synthesise(SAID, "en-us")
    for voice in ("en-us+linda", "en-us", "en-gb-scotland", "en-us"):
        last = synthesise(SAID, voice)
    np.testing.assert_array_equal(last, first)


def test_another_process_says_the_same_whatever_its_memory_held_before() -> None:
    """Every voice: there are some, left out for it, that read what nobody has written."""
    code = (
        "from vla.sound.synthesis import synthesise; from vla.sound.voices import VOICES; import zlib;"
        f"print(*(zlib.crc32(synthesise({SAID!r}, voice, words_per_minute=160).tobytes()) for voice in VOICES))"
    )
    environment = {**os.environ, "MALLOC_PERTURB_": "170"}  # glibc fills what is taken and what is given back
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    ours = [zlib.crc32(synthesise(SAID, voice, words_per_minute=160).tobytes()) for voice in reversed(VOICES)]
    assert list(map(int, run.stdout.split())) == ours[::-1]


def test_threads_do_not_speak_at_once() -> None:
    voices = TRAINING[:6] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda voice: synthesise(SAID, voice), voices))
    for voice, samples in zip(voices, together, strict=True):
        np.testing.assert_array_equal(samples, synthesise(SAID, voice))


def test_every_voice_is_known_and_another_one() -> None:
    """Of a person that it does not know the library says nothing, and takes another."""
    means = {voice: log_mel(synthesise(SAID, voice)).mean(dim=0).numpy() for voice in VOICES}
    for one, other in combinations(means, 2):
        assert np.abs(means[one] - means[other]).max() > 0.02, (one, other)


def test_nobody_who_is_heard_in_training_is_held_out() -> None:
    accent, _, person = HELD_OUT.partition("+")
    assert {*TRAINING, HELD_OUT} == set(VOICES)
    assert not any(voice.partition("+")[0] == accent or voice.partition("+")[2] == person for voice in TRAINING)


def test_rate_and_pitch_do_what_they_say() -> None:
    assert len(synthesise(SAID, "en", words_per_minute=250)) < 0.8 * len(synthesise(SAID, "en", words_per_minute=150))
    low, usual, high = (_hum_hz(synthesise("low", "en", pitch=pitch)) for pitch in (10, 50, 90))
    assert 50 < low < usual < high < 300


@pytest.mark.parametrize(
    ("text", "voice", "settings", "error", "says"),
    [
        (SAID, "en-us+lindy", {}, UnknownNameError, "unknown voice 'en-us\\+lindy': did you mean 'en-us\\+linda'"),
        ("", "en-us", {}, ConfigError, "'' has no word to say"),
        (" ...", "en-us", {}, ConfigError, "has no word to say"),
        (SAID, "en-us", {"words_per_minute": 20}, ConfigError, "words_per_minute=20 must be from 80 to 450"),
        (SAID, "en-us", {"pitch": 101}, ConfigError, "pitch=101 must be from 0 to 100"),
        (10 * SAID, "en-us", {}, ContractError, "by en-us: expected 0.1 to 8 s, got"),
    ],
)
def test_what_cannot_be_said_is_refused(
    text: str, voice: str, settings: dict[str, int], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        synthesise(text, voice, **settings)
