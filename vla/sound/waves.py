"""Sound files: WAV of one channel of 16 bits, at the one rate that is listened to."""

import io
import wave

import numpy as np
from jaxtyping import Float32

from vla.core.errors import DatasetError
from vla.core.types import SPEECH_HZ

_FIX = "convert it with: ffmpeg -i FILE -ac 1 -ar 16000 -c:a pcm_s16le OUT.wav"


def encode_wave(samples: Float32[np.ndarray, " a"]) -> bytes:
    """The file of these samples, which are in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH_HZ)
        file.writeframes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def decode_wave(data: bytes, *, where: str) -> Float32[np.ndarray, " a"]:
    """Its samples in [-1, 1]; a `DatasetError` for another format, rate or number of channels, and for no sound."""
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            found = {"channels": file.getnchannels(), "Hz": file.getframerate(), "bytes a sample": file.getsampwidth()}
            count, frames = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise DatasetError(f"{where} is no WAV file that is read here ({error or 'it is cut off'}); {_FIX}") from None
    for what, wanted in (("channels", 1), ("Hz", SPEECH_HZ), ("bytes a sample", 2)):
        if found[what] != wanted:
            raise DatasetError(f"{where}: expected {wanted} {what}, got {found[what]}; {_FIX}")
    if not frames:
        raise DatasetError(f"{where}: expected sound, got an empty file; record it again")
    if len(frames) != 2 * count:
        raise DatasetError(f"{where}: expected {count} samples, got {len(frames) // 2}: it is cut off; copy it again")
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768
