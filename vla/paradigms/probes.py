"""Pictures with two statements of which one is so, made of scenes in which only the words' binding decides.

Three kinds. ``binding``: one block lies on a plate of another colour, and a block and a plate have the two colours the
other way round, so *a red block on a blue plate* and *a blue block on a red plate* name the same colours and things.
``side``: *a red block left of a green block* and the two swapped. ``number``: how many things have a colour, against
one more or less. A bag of words knows no more of a binding or a side than a coin.

Who is probed answers as it can: an embedder by which statement is nearer to the picture, a model that answers by the
question that belongs to the probe, also without seeing the picture; a policy in closed loop, where `BINDING` are the
scenes that ask for the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from vla.core.errors import ConfigError
from vla.core.types import Observation, Question
from vla.envs.registry import env_spec
from vla.envs.spec import to_observation
from vla.envs.tabletop.env import TabletopEnv
from vla.envs.tabletop.questions import NUMBERS
from vla.envs.tabletop.scene.mjcf import PLATE_HEIGHT_M
from vla.evaluation.statistics import SuccessRate, success_rate
from vla.paradigms.reports.describing import Describer, describe

BINDING: Mapping[str, Any] = {"colours": ["red", "blue"]}
"""Settings of ``tabletop/place`` with blocks and plates of the same two colours: every pair of them is there."""
_SCENES_A_PROBE = 40
"""Scenes that are looked at for one probe, before it is an error that there is none."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One picture and two statements."""

    kind: str
    seed: int
    seen: Observation
    right: str
    wrong: str
    question: Question
    """The same as a question, with its answer."""


@runtime_checkable
class Embeds(Protocol):
    """Pictures and sentences as unit vectors: `vla.models.contrastive.embedder.Embedder`."""

    def images(self, pictures: UInt8[np.ndarray, "b y x 3"]) -> Float32[np.ndarray, "b e"]:
        """A vector of each picture."""

    def texts(self, sentences: Sequence[str]) -> Float32[np.ndarray, "b e"]:
        """A vector of each sentence."""


Judge = Callable[[Sequence[Probe]], list[bool]]
"""Which probes are answered right."""


def by_likeness(embedder: Embeds, camera: str) -> Judge:
    """Right where the true statement has the larger inner product with the picture; equal ones are not."""

    def judge(probes: Sequence[Probe]) -> list[bool]:
        pictures = embedder.images(np.stack([probe.seen.images[camera] for probe in probes]))
        right, wrong = (embedder.texts([getattr(p, name) for p in probes]) for name in ("right", "wrong"))
        nearer = (pictures * right).sum(axis=1) > (pictures * wrong).sum(axis=1)
        return [bool(one) for one in nearer]

    return judge


def by_answers(describer: Describer, *, blind: bool = False) -> Judge:
    """Right where the answer to the probe's question is, to the letter; ``blind`` is the control that sees nothing."""

    def judge(probes: Sequence[Probe]) -> list[bool]:
        said = describe(describer, [(probe.seen, probe.question) for probe in probes], blind=blind)
        return [one.said == one.question.answer for one in said]

    return judge


def rates(judge: Judge, probes: Sequence[Probe]) -> dict[str, SuccessRate]:
    """The share of right ones of each kind, with its interval."""
    found: dict[str, list[bool]] = {}
    for probe, right in zip(probes, judge(probes) if probes else [], strict=True):
        found.setdefault(probe.kind, []).append(right)
    return {kind: success_rate(sum(rights), len(rights)) for kind, rights in found.items()}


def make_probes(
    kind: str, count: int, *, seed: int = 500_000, settings: Mapping[str, Any] | None = None
) -> list[Probe]:
    """So many probes of a kind, each of another scene of ``tabletop/place`` from ``seed`` on."""
    env = cast(TabletopEnv, env_spec("tabletop/place").build(dict(settings or {})))
    try:
        found: list[Probe] = []
        for scene in range(seed, seed + count * _SCENES_A_PROBE):
            if len(found) == count:
                break
            found += list(KINDS[kind](env, scene))[: count - len(found)]
    finally:
        env.close()
    if len(found) < count:
        raise ConfigError(
            f"probes: {count * _SCENES_A_PROBE} scenes gave {len(found)} of kind {kind}, expected {count}"
        )
    return found


def _binding(env: TabletopEnv, seed: int) -> Iterator[Probe]:
    env.reset(seed=seed)
    layout, colours = env.layout, env.layout.colours
    blocks, plates = ({colours[thing]: thing for thing in layout.things(kind)} for kind in ("block", "plate"))
    both = sorted(blocks.keys() & plates.keys())
    if len(both) < 2:
        return
    one, other = both if seed % 2 else reversed(both)
    # Put there, not carried: the arm is where every episode begins and gives nothing away.
    env.world.put(blocks[one], layout.spots_m[plates[other]], height_m=PLATE_HEIGHT_M)
    yield Probe(
        kind="binding",
        seed=seed,
        seen=_seen(env),
        right=f"a {one} block on a {other} plate",
        wrong=f"a {other} block on a {one} plate",
        question=Question(kind="place", text=f"what is on the {other} plate", answer=f"the {one} block"),
    )


def _side(env: TabletopEnv, seed: int) -> Iterator[Probe]:
    env.reset(seed=seed)
    known = [q for q in env.questions() if q.kind == "relation" and q.answer == ("yes" if seed % 2 else "no")]
    if not known:
        return
    question = known[np.random.default_rng(seed).integers(len(known))]
    said, swapped = _statements(question.text)
    right, wrong = (said, swapped) if question.answer == "yes" else (swapped, said)
    yield Probe(kind="side", seed=seed, seen=_seen(env), right=right, wrong=wrong, question=question)


def _number(env: TabletopEnv, seed: int) -> Iterator[Probe]:
    env.reset(seed=seed)
    known = [q for q in env.questions() if q.kind == "number"]
    if not known:
        return
    rng = np.random.default_rng(seed)
    question = known[rng.integers(len(known))]
    number, colour = NUMBERS.index(question.answer), question.text.split()[-1]
    off = number + 1 if number == 0 or rng.random() < 0.5 else number - 1
    right, wrong = (f"{NUMBERS[n]} {'thing is' if n == 1 else 'things are'} {colour}" for n in (number, off))
    yield Probe(kind="number", seed=seed, seen=_seen(env), right=right, wrong=wrong, question=question)


KINDS: dict[str, Callable[[TabletopEnv, int], Iterator[Probe]]] = {
    "binding": _binding,
    "side": _side,
    "number": _number,
}
"""How the probes of a scene are made, by kind."""


def _statements(question: str) -> tuple[str, str]:
    """``is the red block left of the blue plate`` as a statement, and with the two things swapped."""
    words = question.removeprefix("is ")
    side = next(s for s in (" left of ", " right of ", " in front of ", " behind ") if s in words)
    one, other = (f"a {thing.removeprefix('the ')}" for thing in words.split(side))
    return f"{one}{side}{other}", f"{other}{side}{one}"


def _seen(env: TabletopEnv) -> Observation:
    """The picture of the scene as it is now."""
    env.world.settle()
    raw = env.restore(env.sim_state())
    return to_observation(raw, {"time_ns": 0})
