"""Sound as a log-mel spectrogram: what training and serving both make of speech before a model reads it.

The formula is Whisper's (arXiv 2212.04356, section 2.2): windows of 25 ms every 10 ms, 80 bands that are triangles on
Slaney's mel scale, each of the same area, and the logarithm of their power, at most 80 dB below the loudest. Unlike
there the loudest is always 1, so that it does not matter how far away the microphone is; what is so quiet that it is no
speech at all is not made loud.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from vla.core.fit import check_waveform
from vla.core.types import SPEECH_HZ, SPEECH_S

BANDS = 80
FRAMES_S = 100
"""Frames in a second."""
MOST_FRAMES = int(FRAMES_S * SPEECH_S[1])
_WINDOW, _HOP = SPEECH_HZ // 40, SPEECH_HZ // FRAMES_S
_QUIET = -4.0
"""Power, as a logarithm, of a loudest band that is background and no speech: that of speech is from 0 to 2."""


def log_mel(samples: Float32[np.ndarray, " a"]) -> Float[Tensor, "f 80"]:
    """Frames of `BANDS` numbers from -1 to 1, one each 10 ms; a `ContractError` for what is no waveform."""
    check_waveform(samples, who="speech")
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        torch.from_numpy(samples), _WINDOW, _HOP, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum[:, :-1].abs().square()  # (bins, f): the last frame would be half of padding
    loudness = (_triangles() @ power).clamp(min=1e-10).log10()
    most = loudness.max().clamp(min=_QUIET)
    return ((torch.maximum(loudness, most - 8.0) - most + 4.0) / 4.0).T.contiguous()


@cache
def _triangles() -> Float[Tensor, "80 bins"]:
    """What each band takes of each frequency: rising from the centre of the band below, falling to that above."""
    frequencies = np.linspace(0.0, SPEECH_HZ / 2, _WINDOW // 2 + 1)
    edges = _to_hz(np.linspace(0.0, _to_mel(SPEECH_HZ / 2), BANDS + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (high - low)
    return torch.from_numpy(triangles.astype(np.float32))


# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz at 200/3 Hz a mel, then 27 mels for a factor of 6.4.
_KINK_HZ, _KINK, _STEP = 1000.0, 15.0, np.log(6.4) / 27.0


def _to_mel(hz: float) -> float:
    return float(_KINK + np.log(hz / _KINK_HZ) / _STEP) if hz >= _KINK_HZ else hz * _KINK / _KINK_HZ


def _to_hz(mel: np.ndarray) -> np.ndarray:
    hz: np.ndarray = np.where(mel >= _KINK, _KINK_HZ * np.exp(_STEP * (mel - _KINK)), mel * _KINK_HZ / _KINK)
    return hz
