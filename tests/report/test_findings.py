from dataclasses import asdict

import pytest

from vla.envs.tabletop.tasks.place import PlaceConfig
from vla.evaluation.statistics import success_rate
from vla.report.findings import chance, goal_grid, main_row, outcome, outcomes, verdict

SPACE = "\u202f"


def said(facts) -> str:
    return verdict(facts).replace(SPACE, " ")


def set_success(facts, name: str, successes: int) -> None:
    next(row for row in facts["rows"] if row["name"] == name)["success"] = asdict(success_rate(successes, 100))


def test_a_policy_that_listens(facts):
    assert said(facts) == (
        "The policy does what it is told in 87 % of 100 episodes, above the 25 % of a perfect arm that ignores the "
        "words, and it listens: without an instruction it succeeds in 22 %, and given another goal of the same scene "
        "it reaches that one in 84 % and the unnamed one in 1 %."
    )


def test_a_policy_that_ignores_the_words(facts):
    facts["success"] = asdict(success_rate(26, 100))
    set_success(facts, "blank instruction", 24)
    set_success(facts, "wrong instruction: what was said", 24)
    set_success(facts, "wrong instruction: what was not said", 25)
    assert "which the interval does not separate from the 25 %" in said(facts)
    assert "the language test does not show that it listens" in said(facts)


def test_a_policy_that_listens_in_part(facts):
    set_success(facts, "blank instruction", 85)
    assert "the language test is mixed" in said(facts)


def test_a_verdict_without_language_test_or_chance(minimal_facts):
    start = "The policy does what it is told in 87 % of 100 episodes"
    assert said(minimal_facts) == f"{start}, above the 25 % of a perfect arm that ignores the words."
    assert said({**minimal_facts, "chance": None}) == f"{start}."
    low = {**minimal_facts, "success": asdict(success_rate(2, 100))}
    assert ", below the 25 %" in said(low)


def test_chance_is_one_goal_among_those_of_the_default_scene(minimal_facts):
    config = PlaceConfig()
    assert chance(minimal_facts) == 1 / (config.blocks * config.plates)
    assert chance({**minimal_facts, "chance": 0.5}) == 0.5
    assert chance({**minimal_facts, "title": "another"}) is None


def test_the_report_is_about_the_policy_else_the_first_row(facts):
    assert main_row(facts)["name"] == "policy"
    facts["rows"] = facts["rows"][1:]
    assert main_row(facts)["name"] == "expert"
    assert main_row({}) is None
    assert said(facts).startswith("The expert does")


def test_each_way_an_episode_can_end(facts):
    ends = [outcome(episode) for episode in facts["episodes"]["policy"]]
    assert ends == ["success", "unfinished", "misplaced", "ungrasped", "crash"]
    assert outcomes(facts)["policy"] == dict.fromkeys(ends, 1)


@pytest.mark.parametrize("distance_m", [None, float("nan")])
def test_a_condition_without_distances_has_no_outcomes(facts, distance_m):
    for episode in facts["episodes"]["random"]:
        episode["metrics"] = {"distance_m": distance_m}
    assert list(outcomes(facts)) == ["policy"]


def test_goals_by_colour(facts):
    grid = goal_grid(facts)
    assert grid is not None
    assert (grid.blocks, grid.plates) == (("blue", "red"), ("blue", "green"))
    assert grid.cells["red", "blue"]["successes"] == 9
    assert ("blue", "blue") not in grid.cells
    assert goal_grid({}) is None
