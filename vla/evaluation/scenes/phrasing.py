"""The same goal in other words: what an evaluation says instead of the environment's instruction, chosen by the seed.

Nothing of this is trained on: neither these frames nor their words stand in a demonstration, and what training puts
around instructions (`vla.training.augmentation.wording`) has no words at all.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vla.core.errors import ConfigError
from vla.envs.spec import Language

FRAMES: Mapping[Language, tuple[str, ...]] = {
    "polite": ("please {}", "{} please", "please {}, thank you", "kindly {}"),
    "asked": ("could you {}, thanks", "could you please {}?", "can you {} for me?", "would you mind, {}, thanks"),
    "addressed": ("robot, {}", "robot, {}, thanks", "hey robot, please {}", "okay robot: {} now"),
    "indirect": (
        "I would like you to {}",
        "what I need now is this: {}",
        "it would be great if you could {} for me, thank you very much",
        "your next job is to {}",
    ),
}
"""What may stand around an instruction, by the kind of language that it is."""

_LETTERS = 4
"""Of a word that somebody misspells, at least."""


def rephrase(instruction: str, alternatives: Sequence[str], language: Language, seed: int) -> str:
    """The instruction as ``language`` has it; ``alternatives`` are the environment's own other wordings."""
    rng = np.random.default_rng([seed, 0x70617261])
    if language == "paraphrase":  # any of the others
        kinds = [kind for kind in PHRASINGS if kind != "reworded" or alternatives]
        language = kinds[int(rng.integers(len(kinds)))]
    return PHRASINGS[language](instruction, alternatives, rng)


def _reworded(instruction: str, alternatives: Sequence[str], rng: np.random.Generator) -> str:
    if not alternatives:
        raise ConfigError(f"there is no other wording of {instruction!r} to say; choose another language")
    return alternatives[int(rng.integers(len(alternatives)))]


def _misspelt(instruction: str, alternatives: Sequence[str], rng: np.random.Generator) -> str:
    """One letter in one of its longer words is missed, doubled or mistaken, or two have changed places."""
    words = instruction.split(" ")
    long = [i for i, word in enumerate(words) if sum(map(str.isalpha, word)) >= _LETTERS] or [len(words) - 1]
    i = long[int(rng.integers(len(long)))]
    word = words[i]
    at = int(rng.integers(1, max(2, len(word) - 1)))  # the first letter is seldom the wrong one
    letter = "abcdefghijklmnopqrstuvwxyz"[int(rng.integers(26))]
    before, here, after = word[:at], word[at : at + 1], word[at + 1 :]
    slips = (before + after, before + 2 * here + after, before + letter + after, before + after[:1] + here + after[1:])
    words[i] = slips[int(rng.integers(len(slips)))]
    return " ".join(words)


def _framed(frames: Sequence[str]) -> "Phrasing":
    def said(instruction: str, alternatives: Sequence[str], rng: np.random.Generator) -> str:
        return frames[int(rng.integers(len(frames)))].format(instruction)

    return said


Phrasing = Callable[[str, Sequence[str], np.random.Generator], str]
PHRASINGS: Mapping[Language, Phrasing] = {
    "reworded": _reworded,
    **{kind: _framed(frames) for kind, frames in FRAMES.items()},
    "misspelt": _misspelt,
}
"""Each kind of other words; ``paraphrase`` draws one of them for each seed."""
