"""Contestants that are trained and measured alike, and what is said of them judged by rules."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.paradigms.conftest import SAMPLES
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.core.provenance import folder_digest
from vla.evaluation.statistics import success_rate
from vla.paradigms.contestants import CONTESTANTS, Budget, Contestant, Stage, stage_config, train_contestant
from vla.paradigms.framework import COMPARISON, FUSION, PARADIGMS, TWO_TOWER, UNIFIED
from vla.paradigms.measuring import Asking, Measurement, Retrieval, measure, read_measurement, write_measured
from vla.paradigms.probes import KINDS
from vla.paradigms.recommending import recommend
from vla.paradigms.tables import comparison_markdown, comparison_page
from vla.paradigms.verdicts import RULES, Cell, judged, paragraph, standing
from vla.training.claims import read_claim


def test_stages_start_from_one_another_and_share_the_budget(measured: dict[str, Measurement], compared: Path) -> None:
    recipes = [read_claim(compared / "unified" / f"stage-{n}").recipe for n in (1, 2, 3)]
    assert [recipe.steps for recipe in recipes] == [1, 2, 2]
    assert recipes[0].init is None
    assert [Path(str(recipe.init)).parent.name for recipe in recipes[1:]] == ["stage-1", "stage-2"]
    assert {recipe.seed for recipe in recipes} == {3}
    towers, unified = measured["towers"], measured["unified"]
    assert (towers.samples, unified.samples) == (SAMPLES, SAMPLES)
    assert towers.given_s == 0 < unified.given_s
    assert unified.trainable < unified.parameters
    assert towers.trainable == towers.parameters


def test_each_is_measured_by_what_it_can(measured: dict[str, Measurement]) -> None:
    towers, unified = measured["towers"], measured["unified"]
    assert (towers.probed_by, unified.probed_by) == ("likeness", "answers")
    assert set(towers.probes) == set(unified.probes) == set(unified.blind) == set(KINDS)
    assert all(rate.episodes == 2 for rate in (*towers.probes.values(), *unified.probes.values()))
    assert (towers.writes, unified.writes) == ((), ("answer",))
    assert towers.retrieval is not None
    assert towers.retrieval.items == 3
    assert unified.retrieval is None
    for found in (towers, unified):
        assert found.success.episodes == found.binding.episodes == 1
        assert found.blank is not None
        assert found.wrong is not None
        assert found.unsaid is not None
        assert 0 < found.decision_ms <= found.decision_p99_ms


def test_what_is_there_is_not_done_again(
    contestants: dict[str, Contestant],
    budget: Budget,
    asking: Asking,
    measured: dict[str, Measurement],
    data: Path,
    compared: Path,
) -> None:
    folder = compared / "towers"
    before = folder_digest(folder / "stage-1" / "checkpoint")
    stages = train_contestant(contestants["towers"], budget, folder)
    assert folder_digest(stages[-1]) == before
    assert measure("towers", TWO_TOWER, stages, 0, asking, data, folder) == measured["towers"]
    assert read_measurement(folder) == measured["towers"]
    with pytest.raises(ConfigError, match="measured otherwise"):
        measure("towers", TWO_TOWER, stages, 0, replace(asking, probes=3), data, folder)
    with pytest.raises(ConfigError, match="holds no measurement"):
        read_measurement(compared / "nowhere")


@pytest.mark.parametrize("name", CONTESTANTS)
def test_contestants_have_recipes_that_load_and_the_same_budget(name: str, data: Path) -> None:
    contestant, budget = lookup("contestant", name, CONTESTANTS), Budget(data=data)
    configs = [stage_config(stage, budget, None) for stage in contestant.stages]
    samples = [config.steps * config.batch * config.workers for config in configs]
    within = [count for count, stage in zip(samples, contestant.stages, strict=True) if not stage.given]
    assert sum(within) == pytest.approx(budget.samples, rel=0.01)
    assert {config.data.path for config in configs} == {str(data)}


def test_shares_that_are_no_whole_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"take 0\.7 of the budget"):
        Contestant(paradigm=FUSION, stages=(Stage(recipe="demo", share=0.7), Stage(recipe="language", given=True)))


def _made(paradigm: str, base: Measurement, **changes: Any) -> Measurement:
    by = {TWO_TOWER: "likeness"}.get(paradigm, "answers")
    probes = {kind: success_rate(90, 100) for kind in KINDS}
    values: dict[str, Any] = {"name": paradigm, "paradigm": paradigm, "probed_by": by, "probes": probes, "blind": {}}
    values |= {"success": success_rate(80, 100), "retrieval": None, "writes": (), "training_s": 100.0, "given_s": 0.0}
    return replace(base, **(values | changes))


@pytest.fixture
def field(measured: dict[str, Measurement]) -> dict[str, Measurement]:
    """As the words say of each."""
    base = measured["towers"]
    weak = {kind: success_rate(52, 100) for kind in KINDS}
    best = {kind: success_rate(100, 100) for kind in KINDS}
    return {
        TWO_TOWER: _made(
            TWO_TOWER, base, probes=weak, retrieval=Retrieval(items=9, query_ms=0.4), success=success_rate(20, 100)
        ),
        FUSION: _made(FUSION, base, writes=("answer",), blind=weak, success=success_rate(30, 100), training_s=50.0),
        UNIFIED: _made(
            UNIFIED, base, writes=("answer", "goal"), probes=best, success=success_rate(59, 100), training_s=400.0
        ),
    }


def _cells(field: dict[str, Measurement]) -> dict[tuple[str, str], Cell]:
    return {(cell.dimension, cell.paradigm): cell for cell in judged(field)}


def test_words_hold_where_numbers_are_as_they_say(field: dict[str, Measurement]) -> None:
    cells = _cells(field)
    assert len(cells) == len(COMPARISON) * len(PARADIGMS)
    not_measured = {key for key, cell in cells.items() if cell.verdict == "not measured"}
    assert not_measured == cells.keys() - RULES.keys()
    others = {key: cell.verdict for key, cell in cells.items() if key in RULES and cell.verdict != "holds"}
    assert others == {
        ("Best for", FUSION): "does not hold",  # the unified one answers better: both cannot be best
        ("Training data needed", UNIFIED): "not told apart",
    }


@pytest.mark.parametrize(
    ("paradigm", "changes", "key", "verdict"),
    [
        (TWO_TOWER, {"probes": {"side": success_rate(95, 100)}}, ("Spatial reasoning", TWO_TOWER), "does not hold"),
        (TWO_TOWER, {"probes": {"side": success_rate(75, 100)}}, ("Spatial reasoning", TWO_TOWER), "not told apart"),
        (TWO_TOWER, {"probes": {}}, ("Compositionality", TWO_TOWER), "not measured"),
        (TWO_TOWER, {"retrieval": Retrieval(items=9, query_ms=3.0)}, ("Retrieval speed", TWO_TOWER), "does not hold"),
        (TWO_TOWER, {"success": success_rate(80, 100)}, ("Training data needed", TWO_TOWER), "does not hold"),
        (TWO_TOWER, {"training_s": 900.0}, ("Training cost", TWO_TOWER), "does not hold"),
        (FUSION, {"probes": {"binding": success_rate(50, 100)}}, ("Compositionality", FUSION), "does not hold"),
        (FUSION, {"training_s": 101.0}, ("Training cost", FUSION), "does not hold"),
        (FUSION, {"blind": {"side": success_rate(100, 100)}}, ("Generation quality", FUSION), "does not hold"),
        (FUSION, {"retrieval": Retrieval(items=9, query_ms=0.1)}, ("Retrieval speed", FUSION), "does not hold"),
        (UNIFIED, {"writes": ("answer",)}, ("Generation quality", UNIFIED), "does not hold"),
        (UNIFIED, {"training_s": 60.0}, ("Training cost", UNIFIED), "does not hold"),
        (UNIFIED, {"success": success_rate(5, 100)}, ("Best for", UNIFIED), "does not hold"),
        (UNIFIED, {"probes": {"side": success_rate(60, 100)}}, ("Spatial reasoning", UNIFIED), "does not hold"),
        (UNIFIED, {"probes": {"side": success_rate(93, 100)}}, ("Spatial reasoning", UNIFIED), "not told apart"),
    ],
)
def test_and_do_not_where_they_are_otherwise(
    field: dict[str, Measurement], paradigm: str, changes: dict[str, Any], key: tuple[str, str], verdict: str
) -> None:
    cell = _cells(field | {paradigm: replace(field[paradigm], **changes)})[key]
    assert cell.verdict == verdict, cell


def test_the_paragraph_and_both_tables_say_every_verdict(field: dict[str, Measurement]) -> None:
    cells = list(judged(field))
    told = paragraph(cells)
    assert "Of 27 cells" in told
    assert "Otherwise than it is said: best for of fusion" in told
    text, page = comparison_markdown(list(field.values())), comparison_page(list(field.values()), title="<compared>")
    assert told in text
    assert "&lt;compared&gt;" in page
    for cell in cells:
        assert cell.measured in text
    assert page.count("not measured") >= sum(cell.verdict == "not measured" for cell in cells)


def test_the_best_of_a_paradigm_stands_for_it_and_is_what_is_recommended(
    field: dict[str, Measurement], tmp_path: Path
) -> None:
    worse = replace(field[FUSION], name="worse", success=success_rate(1, 100))
    best = standing([worse, *field.values()])
    assert {name: one.name for name, one in best.items()} == {name: name for name in PARADIGMS}
    write_measured(tmp_path / "measured.json", best)
    row = recommend({"makes": ("reports",)}, tmp_path / "measured.json").measured
    assert row is not None
    assert row["run"] == FUSION
    assert "30" in row["success"]
    assert json.loads((tmp_path / "measured.json").read_text())["paradigms"].keys() == PARADIGMS.keys()
