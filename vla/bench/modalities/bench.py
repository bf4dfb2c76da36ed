"""What a checkpoint of several modalities can do on scenes that it has not seen, and what they cost its acting."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from vla.bench.measure import Note, Row
from vla.bench.modalities.boxes import meet
from vla.bench.modalities.colours import block_on_plate
from vla.bench.settings import ModalitiesConfig
from vla.core.errors import ConfigError
from vla.core.types import BOX, Episode, Observation, Question
from vla.envs.recording import finish, record_episode
from vla.envs.registry import env_spec, make_expert
from vla.envs.spec import to_observation
from vla.envs.tabletop.env import TabletopEnv
from vla.evaluation.statistics import success_rate
from vla.policies.learned import LearnedPolicy

_BATCH = 50
_DETECTED = 2.0
"""Percent of real frames in which the detector may be wrong, or it says nothing of others."""


def bench_modalities(config: ModalitiesConfig, note: Note) -> list[Row]:
    """Answers, pictures of the end, and acting against one that only acts; shares that are wrong, in percent.

    Of a checkpoint that draws no ends there are none.
    """
    if not config.checkpoint:
        raise ConfigError("bench modalities: which checkpoint? vla bench modalities RUN/checkpoint")
    policy = LearnedPolicy(Path(config.checkpoint))
    settings = {"image_size": policy.contract.cameras[0].height}
    env = cast(TabletopEnv, env_spec(config.env).build(settings))
    if not isinstance(env, TabletopEnv):
        raise ConfigError(f"bench modalities: env={config.env}: expected one of the table, of which all is known")
    ends = _ends(config, env, policy, note) if "goal" in policy.writes else ()
    rows = [*_answers(config, env, policy, note), *ends]
    env.close()
    return [*rows, *(_acting(config, settings, note) if config.against else ())]


class _Asked(NamedTuple):
    question: Question
    seen: Observation
    answer: str
    blind: str


def _answers(config: ModalitiesConfig, env: TabletopEnv, policy: LearnedPolicy, note: Note) -> Iterator[Row]:
    """Wrong answers to each kind of question, beside the commonest answer and a model that sees nothing."""
    note(f"questions of {config.scenes} scenes")
    found = _asked(config, env, policy)
    boxes, found = ([one for one in found if (one.question.kind == BOX) == asks] for asks in (True, False))
    for kind in ("", *sorted({one.question.kind for one in found})):
        own = [one for one in found if not kind or one.question.kind == kind]
        wrong = [one.answer != one.question.answer for one in own]
        commonest = [_commonest(one, found) != one.question.answer for one in own]
        unseen = [one.blind != one.question.answer for one in own]
        title = f"answers{f' of kind {kind}' if kind else ''}, wrong"
        yield _share(f"{title}, against the commonest answer", wrong, against=commonest)
        yield _share(f"{title}, against the same model without pictures", wrong, against=unseen)
    yield from _boxes(boxes) if boxes else ()


def _asked(config: ModalitiesConfig, env: TabletopEnv, policy: LearnedPolicy) -> list[_Asked]:
    """Questions of scenes that are asked of the model, and of the same one without pictures."""
    expert = make_expert(config.env, env)
    past = policy.contract.policy.history - 1 if policy.contract.policy else 0
    asked: list[tuple[Question, Observation]] = []
    for seed in range(config.seed, config.seed + config.scenes):
        episode = record_episode(
            env, expert, task=config.env, seed=seed, questions=config.questions, boxes=config.boxes
        )
        asked += [(question, _moment(episode, question.step, past)) for question in episode.questions]
    found = []
    for start in range(0, len(asked), _BATCH):
        questions, seen = zip(*asked[start : start + _BATCH], strict=True)
        words = [question.text for question in questions]
        answers, blind = policy.ask(seen, words), policy.ask(seen, words, blind=True)
        found += [_Asked(*one) for one in zip(questions, seen, answers, blind, strict=True)]
    return found


def _boxes(found: Sequence[_Asked]) -> Iterator[Row]:
    """How boxes meet those of what is seen, beside a model that sees nothing."""
    right = [one.question.answer for one in found]
    met, blind = meet([one.answer for one in found], right), meet([one.blind for one in found], right)
    against = "against the same model without pictures"
    apart, blindly = (100 * (1 - float(np.mean([one.overlap for one in each]))) for each in (met, blind))
    yield Row(name=f"boxes, mean of 1 - intersection over union, {against}", value=apart, unit="%", against=blindly)
    for title, name in (
        ("intersection over union below a half", "found"),
        ("centre outside of the thing's", "centred"),
    ):
        missed, missed_blind = ([not getattr(one, name) for one in each] for each in (met, blind))
        yield _share(f"boxes, {title}, {against}", missed, against=missed_blind)


def _commonest(one: _Asked, found: Sequence[_Asked]) -> str:
    """The answer that is right most often among questions of its kind."""
    counts = Counter(other.question.answer for other in found if other.question.kind == one.question.kind)
    return counts.most_common(1)[0][0]


def _ends(config: ModalitiesConfig, env: TabletopEnv, policy: LearnedPolicy, note: Note) -> Iterator[Row]:
    """Scenes in which the named block is not seen on the named plate: as imagined, as coded, and as it was."""
    note(f"pictures of the end of {config.scenes} scenes")
    expert, camera = make_expert(config.env, env), policy.camera
    began: list[Observation] = []
    ended: list[np.ndarray] = []
    shown: list[np.ndarray] = []
    colours: list[tuple[str, str]] = []
    seed = config.seed
    while len(began) < config.scenes:
        raw, info = env.reset(seed=seed)
        seed += 1
        block, plate = (env.layout.colours[thing] for thing in env.goal.things)
        if block == plate:  # nobody could say where one ends and the other begins
            continue
        began.append(to_observation(raw, info))
        colours.append((block, plate))
        ended.append(finish(env, expert)[0]["images"][camera])
    for start in range(0, len(began), _BATCH):
        shown += [*policy.imagine(began[start : start + _BATCH])]
    coded = policy.coded(np.stack(ended))

    def missed(pictures: Sequence[np.ndarray]) -> list[bool]:
        return [not block_on_plate(p, *named) for p, named in zip(pictures, colours, strict=True)]

    found = {True: missed(ended), False: [not miss for miss in missed([o.images[camera] for o in began])]}
    yield _share("detector, wrong on real frames", [*found[True], *found[False]], bar=_DETECTED)
    yield _share("the block is not on the plate in what the codec makes of the real end", missed([*coded]))
    yield _share("the block is not on the plate in what is imagined", missed(shown), bar=20.0)


def _acting(config: ModalitiesConfig, settings: dict[str, Any], note: Note) -> Iterator[Row]:
    """Scenes that are failed, against the other checkpoint on the same ones."""
    from vla.evaluation.evaluate import compare

    note(f"{config.checkpoint} and {config.against} act on {config.episodes} scenes")
    result = compare(
        config.checkpoint,
        config.against,
        env=config.env,
        settings=settings,
        episodes=config.episodes,
        seed=config.seed,
        out=config.out,
    )
    (row,) = result.rows
    paired = row.paired
    ours, theirs = (100 * (1 - rate.rate) for rate in (paired.a, paired.b))
    low, high = (100 * end for end in (paired.gap.low, paired.gap.high))
    title = f"scenes that are failed, against {config.against} (gap of success {low:+.1f} to {high:+.1f} points"
    yield Row(name=f"{title}, p {paired.p_value:.2f})", value=ours, unit="%", against=theirs)


def _moment(episode: Episode, step: int, past: int) -> Observation:
    return Observation(
        history=tuple(_moment(episode, before, 0) for before in range(max(0, step - past), step)),
        images={name: frames[step] for name, frames in episode.images.items()},
        state=episode.state[step],
        instruction=episode.instruction,
        time_ns=int(episode.time_ns[step]),
    )


def _share(name: str, wrong: Sequence[Any], *, against: Sequence[Any] | None = None, bar: float | None = None) -> Row:
    """How much is wrong, in percent, with its interval."""
    rate = success_rate(sum(map(bool, wrong)), len(wrong))
    other = None if against is None else 100 * float(np.mean(against))
    title = f"{name} ({100 * rate.low:.1f} to {100 * rate.high:.1f} of {len(wrong)})"
    return Row(name=title, value=100 * rate.rate, unit="%", against=other, bar=bar)
