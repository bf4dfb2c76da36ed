"""Spectrograms are Whisper's, but for loudness; and they are what the formula says, step by step."""

import numpy as np
import pytest
import torch

from vla.core.errors import ContractError
from vla.core.types import SPEECH_HZ
from vla.sound.mel import BANDS, log_mel
from vla.sound.synthesis import synthesise

RNG = np.random.default_rng(0)


def _tone(hz: float, seconds: float = 0.5, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hz * np.arange(int(seconds * SPEECH_HZ)) / SPEECH_HZ)).astype(np.float32)


SOUNDS = {
    "speech": synthesise("put the red block on the blue plate", "en-us"),
    "noise": RNG.uniform(-0.3, 0.3, 12_345).astype(np.float32),
    "tone": _tone(440.0),
    "short": RNG.uniform(-1, 1, 1600).astype(np.float32),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_it_is_what_whisper_reads_with_the_loudest_at_one(name: str) -> None:
    from transformers import WhisperFeatureExtractor

    samples = SOUNDS[name]
    extract = WhisperFeatureExtractor(feature_size=BANDS)
    theirs = extract(samples, sampling_rate=SPEECH_HZ, padding="do_not_pad", return_tensors="np").input_features[0].T
    ours = log_mel(samples).numpy()
    assert ours.shape == (len(samples) // 160, BANDS)
    np.testing.assert_allclose(ours, theirs - theirs.max() + 1.0, atol=2e-4)


def test_it_is_what_the_formula_says() -> None:
    """In double precision, one frame and one band after the other."""
    samples = SOUNDS["speech"].astype(np.float64)
    padded = np.pad(samples, 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[i * 160 : i * 160 + 400] * window for i in range(len(samples) // 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2  # (f, 201)
    kink = 15.0 + np.log(8000 / 1000) / (np.log(6.4) / 27)
    mels = np.linspace(0, kink, BANDS + 2)
    edges = [m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27) for m in mels]
    bands = np.zeros((len(power), BANDS))
    for band in range(BANDS):
        low, centre, high = edges[band : band + 3]
        for number in range(201):
            hz = number * 40.0
            share = min((hz - low) / (centre - low), (high - hz) / (high - centre))
            bands[:, band] += max(0.0, share) * 2 / (high - low) * power[:, number]
    loud = np.log10(np.maximum(bands, 1e-10))
    expected = (np.maximum(loud, loud.max() - 8) - loud.max() + 4) / 4
    np.testing.assert_allclose(log_mel(SOUNDS["speech"]).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(("low", "high"), [(200.0, 400.0), (400.0, 1000.0), (1000.0, 3000.0), (3000.0, 7000.0)])
def test_a_higher_tone_is_in_a_higher_band(low: float, high: float) -> None:
    below, above = (log_mel(_tone(hz))[20].argmax() for hz in (low, high))
    assert below < above


def test_it_does_not_matter_how_loud_somebody_speaks() -> None:
    loud = SOUNDS["speech"]
    torch.testing.assert_close(log_mel(loud), log_mel(loud * np.float32(0.05)), atol=1e-3, rtol=0)


def test_silence_is_not_made_loud() -> None:
    """A room in which nobody speaks, and a microphone that is off."""
    hiss = RNG.normal(0, 1e-5, 16_000).astype(np.float32)
    assert log_mel(hiss).max() < 0.5
    assert log_mel(np.zeros(16_000, np.float32)).max() < 0


def test_what_is_no_waveform_is_refused() -> None:
    with pytest.raises(ContractError, match=r"speech: expected 0\.1 to 8 s, got 0 samples"):
        log_mel(np.zeros(0, np.float32))
