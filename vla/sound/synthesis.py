"""Text to speech by espeak-ng, which the package ``espeakng-loader`` brings with its voices.

The library is one instance in a process, has no threads in mind, and goes on from where its last sentence left it: in
the same voice the same words never sound alike twice. So it is loaded for each sentence and unloaded behind it, under a
lock, which takes four milliseconds: the same words, voice, rate and pitch are the same samples in every process.
"""

import ctypes
import threading
from _ctypes import dlclose
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32, Int16

from vla.core.errors import ConfigError, VlaError
from vla.core.fit import check_waveform
from vla.core.lookup import lookup
from vla.core.machine.packages import needed_packages
from vla.core.types import SPEECH_HZ
from vla.sound.voices import VOICES

WORDS_PER_MINUTE, PITCH = 175, 50
"""What espeak-ng takes where nobody says otherwise."""
_RATES, _PITCHES = (80, 450), (0, 100)

# Of speak_lib.h, espeak-ng 1.52.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_CHARACTER, _UTF8 = 1, 1
_RATE, _PITCH = 1, 3
_SOUND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_ONE_AT_A_TIME = threading.Lock()


def synthesise(
    text: str, voice: str, *, words_per_minute: int = WORDS_PER_MINUTE, pitch: int = PITCH
) -> Float32[np.ndarray, " a"]:
    """``text`` as a voice of `VOICES` says it, at `SPEECH_HZ`; what is too long to be listened to is a `VlaError`."""
    lookup("voice", voice, VOICES)
    for name, value, (least, most) in (("words_per_minute", words_per_minute, _RATES), ("pitch", pitch, _PITCHES)):
        if not least <= value <= most:
            raise ConfigError(f"speech: {name}={value} must be from {least} to {most}")
    if not has_words(text):
        raise ConfigError(f"speech: {text!r} has no word to say; write the instruction with letters")
    with _ONE_AT_A_TIME, _loaded() as (library, hz):
        spoken = _say(library, text, voice, {_RATE: words_per_minute, _PITCH: pitch})
    samples = _resampled(spoken.astype(np.float32) / 32768, hz)
    check_waveform(samples, who=f"speech: {text!r} by {voice}")
    return samples


def has_words(text: str) -> bool:
    """Whether there is anything to say."""
    return any(map(str.isalnum, text))


@contextmanager
def _loaded() -> Iterator[tuple[ctypes.CDLL, int]]:
    """The library as if nothing had ever been said, and the samples that it gives in a second."""
    with needed_packages("speech"):
        import espeakng_loader
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        data = espeakng_loader.get_data_path().encode()
        hz = int(library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT))
        if hz <= 0:
            raise VlaError(f"speech: espeak-ng does not start with {data.decode()}; reinstall espeakng-loader")
        try:
            yield library, hz
        finally:
            library.espeak_Terminate()
    finally:
        dlclose(library._handle)


def _say(library: ctypes.CDLL, text: str, voice: str, parameters: dict[int, int]) -> Int16[np.ndarray, " a"]:
    parts = [np.zeros(0, np.int16)]

    def take(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    said, taking = text.encode(), _SOUND(take)
    library.espeak_SetSynthCallback(taking)
    failed = library.espeak_SetVoiceByName(voice.encode())
    for parameter, value in parameters.items():
        failed |= library.espeak_SetParameter(parameter, value, 0)
    failed |= library.espeak_Synth(said, ctypes.c_size_t(len(said) + 1), 0, _CHARACTER, 0, _UTF8, None, None)
    if failed:
        raise VlaError(f"speech: espeak-ng cannot say {text!r} as {voice} (error {failed}); choose another voice")
    return np.concatenate(parts)


def _resampled(samples: Float32[np.ndarray, " _"], hz: int) -> Float32[np.ndarray, " a"]:
    with needed_packages("speech", extra="speech"):
        from scipy.signal import resample_poly
    slower: np.ndarray = resample_poly(samples, SPEECH_HZ, hz).astype(np.float32)  # it reduces the ratio itself
    return np.clip(slower, -1.0, 1.0)  # what is between loud samples may be louder
