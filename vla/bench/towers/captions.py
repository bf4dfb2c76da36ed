"""What datasets say of their pictures, and the same with two things exchanged."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from vla.core.types import CAPTIONS, PART, SCENE, Question
from vla.datasets.dataset import Dataset

_THING = re.compile(r"\ba (\w+) (\w+)")
"""A colour and what has it."""
_OPPOSITE = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A sentence and the moment that it is about."""

    episode: int
    question: Question

    @property
    def text(self) -> str:
        """The sentence."""
        return self.question.answer


def captions(dataset: Dataset, episodes: Int64[np.ndarray, " _"]) -> list[Caption]:
    """All captions of these episodes."""
    asked = dict(dataset.episodes.questions())
    found = ((int(number), question) for number in episodes for question in asked.get(int(number), ()))
    return [Caption(episode=number, question=q) for number, q in found if q.kind in CAPTIONS]


def unique_scenes(every: Sequence[Caption], number: int, seed: int) -> list[Caption]:
    """One caption of all that is there of each of so many episodes at most, each of which is said of one alone."""
    rng = np.random.default_rng(seed)
    one: dict[int, Caption] = {}
    for caption in (every[i] for i in rng.permutation(len(every))):
        if caption.question.kind == SCENE:
            one.setdefault(caption.episode, caption)
    chosen = list(one.values())[:number]
    said = Counter(caption.text for caption in chosen)
    return [caption for caption in chosen if said[caption.text] == 1]


def pictures(dataset: Dataset, camera: str, moments: Sequence[Caption]) -> UInt8[np.ndarray, "b y x 3"]:
    """What the camera saw then."""
    rows = np.array([dataset.episode_starts[c.episode] + c.question.step for c in moments], np.int64)
    shape = next(c.shape for c in dataset.contract.cameras if c.name == camera)
    found = np.empty((len(rows), *shape), np.uint8)
    dataset.read_frames(camera, rows, found)
    return found


def swapped(text: str) -> str | None:
    """With the colours of its first two things exchanged; None where that says the same, or of one kind of thing."""
    things = list(_THING.finditer(text))[:2]
    if len(things) < 2 or things[0][1] == things[1][1] or things[0][2] == things[1][2]:
        return None
    one, other = things
    return text[: one.start(1)] + other[1] + text[one.end(1) : other.start(1)] + one[1] + text[other.end(1) :]


def opposite(text: str) -> str | None:
    """With the one relation that it says turned round; None where it says none."""
    found = [side for side in _OPPOSITE if f" {side} " in text]
    return text.replace(found[0], _OPPOSITE[found[0]]) if len(found) == 1 else None


def resting(every: Sequence[Caption]) -> Iterator[tuple[Caption, str]]:
    """What lies on what, and the same with colours exchanged: "red on blue" against "blue on red"."""
    for caption in every:
        if caption.question.kind == PART and opposite(caption.text) is None:
            other = swapped(caption.text)
            if other is not None:
                yield caption, other


def exchanged(every: Sequence[Caption]) -> Iterator[tuple[Caption, str]]:
    """Whole scenes, and the same with the colours of two things exchanged."""
    for caption in every:
        other = swapped(caption.text)
        if caption.question.kind == SCENE and other is not None:
            yield caption, other


def turned(every: Sequence[Caption]) -> Iterator[tuple[Caption, str]]:
    """What is beside what, and the opposite side."""
    for caption in every:
        other = opposite(caption.text)
        if caption.question.kind == PART and other is not None:
            yield caption, other
