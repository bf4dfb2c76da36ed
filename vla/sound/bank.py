"""A speech bank: the instructions of a dataset, each said by several voices, in a folder.

BANK/
bank.json             what was said by whom, how fast and how high, with size and checksum of each file; sealed
sounds/<name>.wav     one sound each, named by what it is

Whoever made it can go on with it: what is there stays, what is missing is added. Rate and pitch of each sound follow
from the seed and from what is said by whom, so a bank is the same wherever it is made.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Float32

from vla.core.errors import DatasetError, VlaError
from vla.core.files import NotPlainError, locked, read_below, write_atomic
from vla.core.lookup import lookup
from vla.core.sealed import MOST_BYTES, DamageError, Entry, brief, decode, encode, listed, measure, text, whole
from vla.sound.synthesis import PITCH, WORDS_PER_MINUTE, has_words, synthesise
from vla.sound.voices import HELD_OUT, VOICES
from vla.sound.waves import decode_wave, encode_wave

INDEX, SOUNDS, LOCK = "bank.json", "sounds", "LOCK"
_VERSION = "1.0"
_MOST_SOUND = 2**20
"""Bytes of a file."""
_RATES, _PITCHES = 0.15, 12
"""How far the rate may be from what is usual, as a share, and the pitch."""
_KEPT_EVERY = 200
"""Sounds after which the index is written: what an end in between would cost."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One sound of a bank."""

    text: str
    voice: str
    take: int
    """Which of several times that the voice said it."""
    words_per_minute: int
    pitch: int
    bytes: int
    crc32c: str

    @property
    def name(self) -> str:
        """Of its file."""
        return _name(self.text, self.voice, self.take)


@dataclass(frozen=True, kw_only=True)
class SpeechBank:
    """A bank whose files are all there; made by `speak`."""

    path: Path
    seed: int
    sounds: tuple[Spoken, ...]

    @staticmethod
    def open(path: Path) -> "SpeechBank":
        """Read the index and check each file against it; a `DatasetError` says what is missing or damaged."""
        bank = _read(path)
        for sound in bank.sounds:
            where = f"{SOUNDS}/{sound.name}"
            try:
                found = measure(path, where)
            except (FileNotFoundError, NotPlainError):
                raise DatasetError(f"speech bank {path}: {where} is missing; {_ADD}") from None
            if found != Entry(sound.bytes, sound.crc32c):
                raise DatasetError(f"speech bank {path}: {where} is damaged; {_ADD}")
        return bank

    @cached_property
    def digest(self) -> str:
        """Of what is said by whom, and of each sound: banks of one digest train alike."""
        return hashlib.sha256(repr([self.seed, *sorted(map(repr, self.sounds))]).encode()).hexdigest()

    @cached_property
    def by_text(self) -> Mapping[str, tuple[Spoken, ...]]:
        """The sounds of each sentence."""
        found: dict[str, list[Spoken]] = {}
        for sound in self.sounds:
            found.setdefault(sound.text, []).append(sound)
        return {said: tuple(sounds) for said, sounds in found.items()}

    def require(self, sentences: Iterable[str]) -> None:
        """`DatasetError` for a sentence with words that nobody says, with the command that adds it."""
        missing = [sentence for sentence in sentences if has_words(sentence) and sentence not in self.by_text]
        if missing:
            more = f", nor {len(missing) - 1} others" if len(missing) > 1 else ""
            raise DatasetError(
                f"speech bank {self.path}: nobody says {missing[0]!r}{more}, which the data asks for; add what is "
                f"missing with: vla data speak DATASET --out {self.path}"
            )

    def samples(self, sound: Spoken) -> Float32[np.ndarray, " a"]:
        """The sound itself."""
        where = f"{SOUNDS}/{sound.name}"
        return decode_wave(read_below(self.path, where, _MOST_SOUND), where=str(self.path / where))


_ADD = "make it again with: vla data speak DATASET --out FOLDER"


def speak(
    path: Path,
    sentences: Sequence[str],
    voices: Sequence[str],
    *,
    takes: int = 1,
    seed: int = 0,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> SpeechBank:
    """Let each voice say each sentence ``takes`` times, as far as the bank lacks it; begins a bank in a new folder.

    The held-out voice, another seed than the bank's and a folder of something else are a `VlaError`.
    """
    _require_trainable(voices)
    _require_bank_or_new(path)
    path.mkdir(parents=True, exist_ok=True)
    with locked(path / LOCK):
        known = _read(path) if (path / INDEX).exists() else SpeechBank(path=path, seed=seed, sounds=())
        if known.seed != seed:
            raise DatasetError(f"speech bank {path} is of seed {known.seed}, not {seed}; choose another folder")
        sounds = {sound.name: sound for sound in known.sounds if _is_whole(path, sound)}
        _write(path, seed, sounds)
        wanted = [(said, voice, take) for said in dict.fromkeys(sentences) for voice in voices for take in range(takes)]
        try:
            for done, (said, voice, take) in enumerate(wanted):
                on_progress(done, len(wanted))
                if (name := _name(said, voice, take)) not in sounds:
                    sounds[name] = _speak(path, said, voice, take, seed)
                    if len(sounds) % _KEPT_EVERY == 0:
                        _write(path, seed, sounds)
        finally:
            _write(path, seed, sounds)
        on_progress(len(wanted), len(wanted))
    return SpeechBank(path=path, seed=seed, sounds=tuple(sounds.values()))


def _require_trainable(voices: Sequence[str]) -> None:
    for voice in voices:
        lookup("voice", voice, VOICES)
    if HELD_OUT in voices:
        raise VlaError(
            f"voice {HELD_OUT} is held out, to tell whether a policy understands somebody it has never heard: leave it "
            "out here, and evaluate with --speech"
        )
    if not voices:
        raise VlaError(f"no voice: name some of {', '.join(VOICES)}")


def _require_bank_or_new(path: Path) -> None:
    if path.is_dir() and not (path / INDEX).exists() and {found.name for found in path.iterdir()} - {LOCK}:
        raise DatasetError(f"{path} holds something else than a speech bank; choose a new folder")
    if path.exists() and not path.is_dir():
        raise DatasetError(f"{path} is a file; choose a new folder for the speech bank")


def _speak(path: Path, said: str, voice: str, take: int, seed: int) -> Spoken:
    name = _name(said, voice, take)
    rng = np.random.default_rng([seed, int(name.partition(".")[0], 16)])
    rate = round(WORDS_PER_MINUTE * (1 + _RATES * rng.uniform(-1, 1)))
    pitch = PITCH + int(rng.integers(-_PITCHES, _PITCHES + 1))
    data = encode_wave(synthesise(said, voice, words_per_minute=rate, pitch=pitch))
    write_atomic(path / SOUNDS / name, data)
    checksum = f"{google_crc32c.value(data):08x}"
    return Spoken(
        text=said, voice=voice, take=take, words_per_minute=rate, pitch=pitch, bytes=len(data), crc32c=checksum
    )


def _name(said: str, voice: str, take: int) -> str:
    return hashlib.blake2b(f"{take} {voice} {said}".encode(), digest_size=12).hexdigest() + ".wav"


def _is_whole(path: Path, sound: Spoken) -> bool:
    try:
        return measure(path, f"{SOUNDS}/{sound.name}") == Entry(sound.bytes, sound.crc32c)
    except (FileNotFoundError, NotPlainError):
        return False


def _write(path: Path, seed: int, sounds: Mapping[str, Spoken]) -> None:
    value = {"seed": seed, "sounds": [asdict(sound) for sound in sounds.values()]}
    write_atomic(path / INDEX, encode(value, _VERSION))


def _read(path: Path) -> SpeechBank:
    """The index alone."""
    where = path / INDEX
    try:
        value = decode(read_below(path, INDEX, MOST_BYTES), _require_version)
        sounds = listed(value.get("sounds"), "sounds", _spoken)
        seed = whole(value.get("seed"), "seed")
    except FileNotFoundError:
        raise DatasetError(f"{path} is no speech bank: {INDEX} does not exist; {_ADD}") from None
    except (DamageError, NotPlainError) as error:
        raise DatasetError(f"{where} is damaged ({error}); copy it again, or choose a new folder and {_ADD}") from None
    return SpeechBank(path=path, seed=seed, sounds=sounds)


def _require_version(version: object) -> None:
    if version != _VERSION:
        raise DamageError(f"format version {brief(version)}, this software reads {_VERSION}")


def _spoken(value: object, what: str) -> Spoken:
    if not isinstance(value, dict) or value.keys() != Spoken.__dataclass_fields__.keys():
        raise DamageError(f"{what}: expected {', '.join(Spoken.__dataclass_fields__)}, got {brief(value)}")
    numbers: dict[str, Any] = {name: whole(value[name], name) for name in _NUMBERS}
    strings: dict[str, Any] = {name: text(value[name], name) for name in ("text", "voice", "crc32c")}
    return Spoken(**numbers, **strings)


_NUMBERS = ("take", "words_per_minute", "pitch", "bytes")
