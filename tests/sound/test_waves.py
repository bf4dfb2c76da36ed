"""Sound files come back as they were, and those of another kind are named with both values."""

import io
import wave
from typing import Any

import numpy as np
import pytest

from vla.core.errors import DatasetError
from vla.sound.waves import decode_wave, encode_wave

SAMPLES = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)


def _file(*, channels: int = 1, hz: int = 16_000, width: int = 2, frames: int = 100) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(hz)
        file.writeframes(bytes(frames * channels * width))
    return buffer.getvalue()


def test_samples_come_back() -> None:
    ends = np.array([-1.0, 1.0, 0.0], np.float32)
    for samples in (SAMPLES, ends):
        back = decode_wave(encode_wave(samples), where="x")
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, samples, atol=2**-15)
        assert np.abs(back).max() <= 1
    assert encode_wave(decode_wave(encode_wave(SAMPLES), where="x")) == encode_wave(SAMPLES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hz": 22_050}, "a.wav: expected 16000 Hz, got 22050; convert it"),
        ({"channels": 2}, "a.wav: expected 1 channels, got 2; convert it"),
        ({"width": 1}, "a.wav: expected 2 bytes a sample, got 1"),
        ({"frames": 0}, "a.wav: expected sound, got an empty file"),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        decode_wave(_file(**changes), where="a.wav")


def test_what_is_no_sound_file_is_refused() -> None:
    for data in (b"", b"RIFF", b"OggS" + bytes(100)):
        with pytest.raises(DatasetError, match=r"a\.wav is no WAV file"):
            decode_wave(data, where="a.wav")
    with pytest.raises(DatasetError, match="expected 100 samples, got 40: it is cut off"):
        decode_wave(_file()[:-120], where="a.wav")
