"""Results of every kind on one page and in tables: complete, well-formed, and without a request to anywhere."""

import re
from dataclasses import asdict
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from vla.evaluation.language_gap import language_gaps
from vla.evaluation.robustness import robustness_curves

from vla.evaluation.comparison import compare_rows
from vla.evaluation.result import overall, summarise
from vla.evaluation.sequential import SequentialTest
from vla.evaluation.trials import Condition, EpisodeResult
from vla.report.evaluation.facts import Loaded, policy_name
from vla.report.evaluation.page import p_value, render_evaluations, signed_points
from vla.report.evaluation.tables import evaluation_tables

_CONDITIONS = [
    Condition(env="tabletop/place"),
    Condition(env="tabletop/place", language="blank"),
    Condition(env="tabletop/place", language="wrong"),
    Condition(env="tabletop/place", perturbation={"image_noise": 5.0}),
    Condition(env="tabletop/lift", split="distractors"),
]


def _evaluation(name: str, rate: float, *, crash: bool = False) -> dict[str, Any]:
    rng = np.random.default_rng(len(name))
    rows = []
    for condition in _CONDITIONS:
        episodes = [
            EpisodeResult(
                seed=seed,
                instruction="go <there>",
                goal=f"goal {seed % 3}",
                success=bool(rng.random() < rate),
                progress=0.5,
                steps=20,
                clipped=int(crash),
                latencies_ms=(3.0, 5.0),
                crash="step 37: FatalError: <gone>" if crash and seed == 4 else None,
            )
            for seed in range(30)
        ]
        rows.append({**asdict(condition), **summarise(episodes)})
    return {
        "kind": "evaluation",
        "policy": {"name": name},
        "success": overall([rows[0], rows[4]]),
        "rows": rows,
        "language": language_gaps(rows),
        "robustness": robustness_curves(rows),
        "refused": ["tabletop/lift: nothing else to say"] if crash else [],
        "environments": {"tabletop/place": {"renderer": "egl: llvmpipe", "contract": "abc"}},
        "config": {"settings": {}, "seed": 0},
        "provenance": {
            "command": "vla eval x", "git": "0123+dirty", "seed": 0,
            "versions": {"mujoco": "3.3.0"}, "hardware": {"cpu": "a | b"},
        },
    }  # fmt: skip


def _comparison(*, sequential: bool) -> dict[str, Any]:
    a, b = _evaluation("runs/new/checkpoint", 0.9, crash=True), _evaluation("runs/old/checkpoint", 0.3)
    test = SequentialTest(scenes=30)
    while not test.over:
        test.add(True, False)
    rows = compare_rows(a["rows"], b["rows"])
    return {"kind": "comparison", "a": a, "b": b, "rows": rows, "sequential": test.to_json() if sequential else None}


@pytest.fixture(scope="module")
def results() -> list[Loaded]:
    values = [_comparison(sequential=True), _evaluation("random", 0.1)]
    return [Loaded(name=f"runs/{i}", value=value) for i, value in enumerate(values)]


class _Strict(HTMLParser):
    """Every tag is closed in order, every identifier is used once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag == "h2":
            self.headings.append("")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [str(value) for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "h2" in self.open:
            self.headings[-1] += data


def test_a_page_has_all_parts_in_order_and_is_well_formed(results: list[Loaded]) -> None:
    page = _Strict(render_evaluations(results))
    assert page.headings == [
        "What to know first", "Success", "A new against B old", "Does it listen?", "What it withstands", "By goal",
        "Origin",
    ]  # fmt: skip


def test_nothing_is_requested_and_everything_is_escaped(results: list[Loaded]) -> None:
    html = render_evaluations(results, title="a <b>")
    assert "://" not in html
    assert not re.search(r"url\((?!#)|@import|<script", html)
    assert "default-src 'none'" in html
    assert "<there>" not in html
    assert "<gone>" not in html
    assert "a &lt;b&gt;" in html


def test_a_part_without_facts_is_left_out() -> None:
    value = _evaluation("random", 0.5)
    value |= {"language": [], "robustness": [], "rows": value["rows"][:1]}
    page = _Strict(render_evaluations([Loaded(name="x", value=value)]))
    assert page.headings == ["Success", "By goal", "Origin"]


def test_crashes_and_clipped_commands_are_told_first(results: list[Loaded]) -> None:
    html = render_evaluations(results)
    assert "new: 5 episodes crashed in the simulator and do not count" in html
    assert "outside the limits of the contract" in html
    assert "nothing else to say" in html


def test_a_policy_that_is_given_twice_is_shown_once() -> None:
    value = _comparison(sequential=False)
    both = [Loaded(name="c", value=value), Loaded(name="a", value=value["a"])]
    assert evaluation_tables(both) == evaluation_tables(both[:1])


def test_every_row_of_a_table_has_every_column(results: list[Loaded]) -> None:
    text = evaluation_tables(results)
    tables = [block for block in text.split("\n\n") for block in [block.strip()] if block.startswith("|")]
    assert len(tables) >= 3
    for table in tables:
        lines = [re.sub(r"\\\|", "", line) for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
    assert "new is better than old: decided after 7 of at most 30 scenes" in text


@pytest.mark.parametrize("sequential", [True, False])
def test_a_comparison_alone_opens_with_its_verdict(sequential: bool) -> None:
    html = render_evaluations([Loaded(name="c", value=_comparison(sequential=sequential))])
    assert ("Evidence by scene" in html) == sequential
    verdict = re.search(r'class="verdict">([^<]*)', html)
    assert verdict
    assert "better" in verdict[1]


@pytest.mark.parametrize(
    ("name", "short"),
    [("runs/place/checkpoint", "place"), ("expert", "expert"), ("ws://h:1", "ws://h:1"), ("runs/x/ema", "ema")],
)
def test_policies_have_short_names(name: str, short: str) -> None:
    assert policy_name({"policy": {"name": name}}) == short


def test_numbers_as_people_read_them() -> None:
    assert [signed_points(x) for x in (0.123, -0.5, 0.001, -0.001)] == ["+12", "−50", "0", "0"]
    assert [p_value(x) for x in (0.5, 0.0312, 1e-9)] == ["0.5", "0.031", "< 0.0001"]
