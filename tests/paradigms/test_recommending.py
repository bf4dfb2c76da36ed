"""What is recommended, and that every reason can be given."""

import json
from pathlib import Path

import pytest

from vla.core.errors import ConfigError, UnknownNameError
from vla.paradigms.framework import (
    ANY,
    COMPARISON,
    FLAMINGO,
    FUSION,
    LLAVA,
    PARADIGMS,
    QUESTIONS,
    REASONS,
    TWO_TOWER,
    UNIFIED,
    WEIGHTS,
    Reason,
)
from vla.paradigms.recommending import MEASURED, NEITHER, recommend

_ALL = [(section, reason) for section, reasons in REASONS.items() for reason in reasons]


@pytest.mark.parametrize(("section", "reason"), _ALL, ids=lambda value: value if isinstance(value, str) else value.text)
def test_every_reason_is_reached_by_each_of_its_answers_and_by_no_other(section: str, reason: Reason) -> None:
    """Walks all: told among what is for, against or of the others, exactly when one of its answers is given."""
    for name, asked in QUESTIONS.items():
        for answer in asked.choices:
            found = recommend({name: (answer,)})
            told = [one.reason for one in (*found.reasons, *found.against, *found.others)]
            expected = f"{name}={answer}" in reason.when
            if reason.about in (FLAMINGO, LLAVA):
                expected = expected and found.style == reason.about
            assert (reason in told) == expected, (name, answer)
    assert section in WEIGHTS


def test_reasons_of_a_style_are_given_with_it() -> None:
    for _, reason in _ALL:
        if reason.about in (FLAMINGO, LLAVA):
            question, answer = reason.conditions[0]
            many = {"makes": ("captions", "reports"), "starts": ("encoders",)}
            pushed = {"pictures": ("several",)} if reason.about == FLAMINGO else {"compute": ("small",)}
            found = recommend(many | pushed | {question: (answer,)})
            assert found.paradigm == FUSION
            assert (reason in [one.reason for one in found.reasons]) == (found.style == reason.about), reason


def test_what_reasons_and_cells_name_is_there() -> None:
    for _, reason in _ALL:
        assert reason.about in (*PARADIGMS, ANY, FLAMINGO, LLAVA)
        assert reason.when
        for question, answer in reason.conditions:
            assert answer in QUESTIONS[question].choices
    assert all(set(cells) == set(PARADIGMS) for cells in COMPARISON.values())
    assert {name: len([r for r in REASONS["decision"] if r.about == name]) for name in PARADIGMS} == dict.fromkeys(
        PARADIGMS, 5
    )


@pytest.mark.parametrize(
    ("answers", "paradigm"),
    [
        ({"makes": ("matches",), "catalogue": ("millions",), "latency": ("strict",)}, TWO_TOWER),
        ({"makes": ("classes",)}, TWO_TOWER),
        ({"makes": ("reports",), "starts": ("encoders",), "pairs": ("few",)}, FUSION),
        ({"makes": ("answers",), "starts": ("language-model",)}, FUSION),
        ({"makes": ("actions",), "joins": ("spatial", "composition")}, UNIFIED),
        ({"makes": ("anything",), "compute": ("massive",)}, UNIFIED),
        ({"joins": ("nothing",)}, NEITHER),
    ],
)
def test_use_cases_get_the_paradigm_that_is_used_for_them(answers: dict[str, tuple[str, ...]], paradigm: str) -> None:
    assert recommend(answers).paradigm == paradigm


def test_who_cannot_do_the_task_is_out_whatever_speaks_for_it() -> None:
    """Without the exclusion, two towers would win: more speaks for them than against."""
    found = recommend({"makes": ("captions", "classes", "backbone", "matches"), "pairs": ("web",)})
    assert found.scores[TWO_TOWER] > max(found.scores[FUSION], found.scores[UNIFIED])
    assert (found.paradigm, found.excluded) == (FUSION, (TWO_TOWER,))
    assert any(one.reason.excludes for one in found.others)


def test_the_measured_row_is_that_of_the_paradigm(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    assert recommend({"makes": ("actions",)}, file).measured is None
    file.write_text(json.dumps({"paradigms": {UNIFIED: {"success": "97 %"}, TWO_TOWER: {"success": "61 %"}}}))
    assert recommend({"makes": ("actions",)}, file).measured == {"success": "97 %"}
    if MEASURED.exists():
        assert set(json.loads(MEASURED.read_text())["paradigms"]) <= set(PARADIGMS)


def test_answers_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="answer at least one question"):
        recommend({})
    with pytest.raises(ConfigError, match="expected one answer, got 2"):
        recommend({"pairs": ("few", "web")})
    with pytest.raises(UnknownNameError, match="did you mean 'actions'"):
        recommend({"makes": ("action",)})
    with pytest.raises(UnknownNameError, match="unknown question"):
        recommend({"speed": ("high",)})
