"""The words and groups of the fifty tasks."""

import string
from collections import Counter

from vla.envs.metaworld.table import METAWORLD
from vla.envs.metaworld.tasks import GROUPS, TASKS


def test_groups_have_their_published_sizes() -> None:
    assert Counter(task.group for task in TASKS.values()) == Counter(GROUPS)
    assert sum(GROUPS.values()) == len(TASKS) == len(METAWORLD) == 50


def test_some_known_members_of_each_group() -> None:
    members = {"easy": "peg-unplug-side", "medium": "push-wall", "hard": "push-back", "very hard": "pick-place-wall"}
    assert {group: TASKS[name].group for group, name in members.items()} == {group: group for group in members}


def test_every_task_of_the_package_is_there() -> None:
    from metaworld.env_dict import ENV_CLS_MAP
    from metaworld.policies import ENV_POLICY_MAP

    assert {f"{name}-v3" for name in TASKS} == set(ENV_CLS_MAP) == set(ENV_POLICY_MAP)


def test_no_sentence_is_said_of_two_tasks() -> None:
    sentences = [sentence for task in TASKS.values() for sentence in task.sentences]
    assert len(set(sentences)) == len(sentences)
    assert all(3 <= len(task.sentences) <= 5 for task in TASKS.values())


def test_sentences_are_plain() -> None:
    letters = set(string.ascii_lowercase + " ,-'")
    for task in TASKS.values():
        for sentence in task.sentences:
            assert set(sentence) <= letters
            assert len(sentence.split()) <= 12
