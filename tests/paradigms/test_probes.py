"""Probes of real scenes: what is said of them is so, and a bag of words cannot tell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from vla.bench.modalities.colours import block_on_plate, of_colour
from vla.core.types import Observation
from vla.models.text.plain import words_of
from vla.paradigms.probes import KINDS, Probe, by_answers, by_likeness, make_probes, rates

_COUNT = 6
_SETTINGS = {"image_size": 64}


@pytest.fixture(scope="module")
def probes() -> dict[str, list[Probe]]:
    count = {"side": 2 * _COUNT}
    return {kind: make_probes(kind, count.get(kind, _COUNT), settings=_SETTINGS) for kind in KINDS}


def test_what_lies_on_what_is_seen_and_the_other_is_not(probes: dict[str, list[Probe]]) -> None:
    """By the fixed detector of colours, which knows nothing of how the scene was made."""
    found: dict[str, list[bool]] = {"right": [], "wrong": []}
    for probe in probes["binding"]:
        for which, seen in found.items():
            words = getattr(probe, which).split()
            seen.append(block_on_plate(probe.seen.images["front"], words[1], words[5]))
    assert all(found["right"])
    assert sum(found["wrong"]) <= 1  # a block may stand before a plate, and look as if it lay on it


def test_sides_are_those_of_the_picture(probes: dict[str, list[Probe]]) -> None:
    """By the middles of two colours, along the same axis of the picture and in the same sense in all of them."""
    ways: dict[str, list[float]] = {"beside": [], "along": []}
    for probe in probes["side"]:
        assert probe.wrong != probe.right
        assert Counter(words_of(probe.wrong)) == Counter(words_of(probe.right))
        side = next(s for s in (" left of ", " right of ", " in front of ", " behind ") if s in probe.right)
        one, other = (part.split()[1] for part in probe.right.split(side))
        if one == other or probe.question.text.count(one) != 1:
            continue
        rows, columns = (np.array([c.mean() for c in _pixels(probe, (one, other), axis)]) for axis in (0, 1))
        sign = 1 if side in (" left of ", " behind ") else -1
        name, middles = ("beside", columns) if side in (" left of ", " right of ") else ("along", rows)
        if len(_things_of(probe, one)) == len(_things_of(probe, other)) == 1:
            ways[name].append(sign * float(np.sign(middles[1] - middles[0])))
    assert sum(map(len, ways.values())) >= 2
    assert all(len(set(signs)) <= 1 for signs in ways.values())
    assert {p.question.answer for p in probes["side"]} == {"yes", "no"}


def _pixels(probe: Probe, colours: Sequence[str], axis: int) -> list[np.ndarray]:
    return [np.nonzero(of_colour(probe.seen.images["front"], colour))[axis] for colour in colours]


def _things_of(probe: Probe, colour: str) -> list[int]:
    """Patches of a colour that are as large as a thing."""
    patches, _ = ndimage.label(of_colour(probe.seen.images["front"], colour), np.ones((3, 3)))
    return [int(size) for size in np.bincount(patches.ravel())[1:] if size > 8]


def test_numbers_differ_by_one_and_colours_that_are_counted_are_there(probes: dict[str, list[Probe]]) -> None:
    for probe in probes["number"]:
        none, colour = probe.question.answer == "none", probe.question.text.split()[-1]
        pixels = int(of_colour(probe.seen.images["front"], colour).sum())
        assert (pixels < 20) == none, (probe.question, pixels)
        assert probe.right.split()[0] == probe.question.answer != probe.wrong.split()[0]


class _Bag:
    """Sentences as bags of words; pictures are told by the bag of what is true."""

    def __init__(self, probes: Sequence[Probe], *, ordered: bool) -> None:
        self._probes, self._ordered = probes, ordered
        self._words = sorted({word for p in probes for s in (p.right, p.wrong) for word in self._parts(s)})

    def _parts(self, sentence: str) -> list[str]:
        words = sentence.split()
        return [f"{place} {word}" for place, word in enumerate(words)] if self._ordered else words

    def images(self, pictures: np.ndarray) -> np.ndarray:
        return self.texts([probe.right for probe in self._probes])

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        found = np.array([[self._parts(s).count(word) for word in self._words] for s in sentences], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["binding", "side"])
def test_a_bag_of_words_that_knows_the_truth_cannot_tell(probes: dict[str, list[Probe]], kind: str) -> None:
    """And one that keeps the order can: what is probed is the binding, and nothing else."""
    found = probes[kind]
    bag, ordered = (rates(by_likeness(_Bag(found, ordered=kept), "front"), found)[kind] for kept in (False, True))
    assert (bag.rate, ordered.rate) == (0.0, 1.0)
    assert ordered.episodes == len(found)
    assert 0 < ordered.low < 1


class _Answers:
    """Knows what is right, unless it is blind."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._known = {(p.seen.images["front"].tobytes(), p.question.text): p.question.answer for p in probes}

    def ask(self, seen: Sequence[Observation], questions: Sequence[str], *, blind: bool = False) -> list[str]:
        truth = [self._known[o.images["front"].tobytes(), q] for o, q in zip(seen, questions, strict=True)]
        return ["yes"] * len(truth) if blind else truth


def test_answers_are_compared_with_what_is_so_seeing_and_blind(probes: dict[str, list[Probe]]) -> None:
    every = [probe for found in probes.values() for probe in found]
    told, blind = (rates(by_answers(_Answers(every), blind=b), every) for b in (False, True))
    assert {kind: rate.rate for kind, rate in told.items()} == dict.fromkeys(KINDS, 1.0)
    assert blind["binding"].rate == blind["number"].rate == 0.0
    assert blind["side"].rate == 0.5
    wrong = [replace(p, question=replace(p.question, answer="nothing of it")) for p in every]
    assert all(rate.rate == 0 for rate in rates(by_answers(_Answers(every)), wrong).values())
