"""Results of every kind on one page: complete, well-formed, and without a request to anywhere."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from vla.core.media.video import encode_mp4
from vla.evaluation.trials import Condition
from vla.report.evaluation.clips import Clip
from vla.report.evaluation.facts import Loaded
from vla.report.evaluation.page import render_evaluations
from vla.report.evaluation.training import Training
from vla.report.evaluation.video import film_strip

_RIGHT, _BLANK = Condition(env="tabletop/place"), Condition(env="tabletop/place", language="blank")


class _Strict(HTMLParser):
    """Every tag is closed in order, every identifier is used once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert self.open == []
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "h2":
            self.headings.append("")
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "h2" in self.open:
            self.headings[-1] += data


@pytest.fixture
def demo(make_evaluation: Callable[..., Any]) -> list[Loaded]:
    """A policy in one task and its yardsticks."""
    main = make_evaluation("runs/demo/checkpoint", 0.8, conditions=[_RIGHT, _BLANK])
    others = [make_evaluation(name, rate, conditions=[_RIGHT]) for name, rate in (("expert", 1.0), ("random", 0.0))]
    return [Loaded(name=f"runs/{i}", result=result) for i, result in enumerate([main, *others])]


def _training() -> Training:
    train = [
        {"kind": "train", "step": s, "action_loss": 1 / s, "aim_error": 0.1 / s, "samples_per_s": 900.0}
        for s in range(1, 50)
    ]
    held_out = [{"kind": "validation", "step": s, "action_loss": 2 / s, "first_error": 0.2} for s in (10, 40)]
    return Training(steps=49, samples=490, seconds=12.0, parameters=1_934_336, lines=[*train, *held_out])


def _clip(result: Any, row: int, seed: int, **changes: Any) -> Clip:
    frames = np.full((3, 32, 64, 3), 90, np.uint8)
    episode = replace(result.rows[row].episodes[seed], **changes)
    return Clip(
        condition=result.rows[row].condition,
        episode=episode,
        mp4=encode_mp4(frames, 10),
        strip=film_strip(frames, 2),
        poster=film_strip(frames, 1),
    )


def test_a_page_has_all_parts_in_order_and_is_well_formed(results: list[Loaded]) -> None:
    page = _Strict(render_evaluations(results))
    assert page.headings == [
        "What to know first", "Success", "A new against B old", "Does it listen?", "What it withstands",
        "Where it works and where it fails", "Measured", "Origin",
    ]  # fmt: skip


def test_a_demo_shows_curves_and_videos_too(demo: list[Loaded]) -> None:
    html = render_evaluations(demo, training=_training(), clips=[_clip(demo[0].result, 0, 0)])
    page = _Strict(html)
    assert page.headings == [
        "Success", "Does it listen?", "Training", "Episodes", "Where it works and where it fails", "Measured", "Origin",
    ]  # fmt: skip
    labels = [str(a["aria-label"]) for tag, a in page.tags if tag == "svg" and "whisker" not in str(a.get("class"))]
    assert [label.split()[0] for label in labels] == ["Loss", "Error", "Samples", "Distribution"]
    (video,) = [str(a["src"]) for tag, a in page.tags if tag == "video"]
    assert video.startswith("data:video/mp4;base64,")
    assert "1.93\u202fM" in html
    assert "the scripted demonstrator" in html
    assert 'class="chance"' in html


def test_nothing_is_requested_and_everything_is_escaped(demo: list[Loaded], results: list[Loaded]) -> None:
    clip = _clip(demo[0].result, 0, 0, instruction='<script>alert("x")</script>')
    for html in (
        render_evaluations(results, title="a <b>"),
        render_evaluations(demo, title="a <b>", training=_training(), clips=[clip]),
    ):
        assert "://" not in html
        assert not re.search(r"url\((?!#)|@import|<script>alert", html)
        assert html.count("<script") == int("clips" in html and "<video" in html)
        assert "default-src 'none'" in html
        assert not re.search("<there>|<gone>|<held>", html)
        assert "a &lt;b&gt;" in html
        for tag, attributes in _Strict(html).tags:
            for name in ("src", "href", "poster", "data", "action"):
                value = attributes.get(name)
                assert value is None or value.startswith(("data:", "#")), (tag, name)


def test_a_part_without_facts_is_left_out(make_told: Callable[..., Any]) -> None:
    page = _Strict(render_evaluations([Loaded(name="x", result=make_told(right=50))]))
    assert page.headings == ["Success", "Where it works and where it fails", "Origin"]


def test_training_that_was_not_looked_at_has_fewer_charts(demo: list[Loaded]) -> None:
    lines = [{"kind": "train", "step": s, "action_loss": 1 / s, "samples_per_s": None} for s in range(1, 5)]
    html = render_evaluations(demo, training=replace(_training(), lines=lines))
    assert ">Loss <" in html
    assert "Throughput" not in html


def test_how_hard_each_loss_pulled_is_a_chart_where_it_was_measured(demo: list[Loaded]) -> None:
    pulls = {"gradient_norm/action": 2.0, "gradient_norm/grounding": 30.0}
    lines = [{"kind": "train", "step": s, "action_loss": 1 / s, **(pulls if s % 2 else {})} for s in range(1, 6)]
    html = render_evaluations(demo, training=replace(_training(), lines=lines))
    labels = [str(attributes["aria-label"]) for tag, attributes in _Strict(html).tags if tag == "svg"]
    assert "Gradient norm of each loss by step" in labels
    assert ">grounding</text>" in html


def test_crashes_and_clipped_commands_are_told_first(results: list[Loaded]) -> None:
    html = render_evaluations(results)
    assert "new: 5 episodes crashed in the simulator and do not count" in html
    assert "outside the limits of the contract" in html
    assert "nothing else to say" in html


def test_successes_come_first_and_a_clip_says_how_its_episode_ended(demo: list[Loaded]) -> None:
    result = demo[0].result
    clips = [
        _clip(result, 0, 4, success=False, best_progress=0.7),
        _clip(result, 0, 9, success=True),
        _clip(result, 1, 3, success=False, failure="nan", instruction=""),
    ]
    html = render_evaluations(demo, clips=clips)
    assert re.findall(r"seed (\d+) · ([\w ]+)<", html) == [
        ("9", "right instruction"), ("4", "right instruction"), ("3", "blank instruction"),
    ]  # fmt: skip
    assert '<b class="bad">more than half way</b> · 20 steps' in html
    assert '<b class="bad">the policy broke down</b>' in html
    assert "(no instruction)" in html


@pytest.mark.parametrize("sequential", [True, False])
def test_a_comparison_alone_opens_with_its_verdict(make_comparison: Callable[..., Any], sequential: bool) -> None:
    html = render_evaluations([Loaded(name="c", result=make_comparison(sequential=sequential))])
    assert ("Evidence by scene" in html) == sequential
    verdict = re.search(r'class="verdict">([^<]*)', html)
    assert verdict
    assert "better" in verdict[1]


def test_origin_has_the_commit_and_the_command(demo: list[Loaded]) -> None:
    html = render_evaluations(demo)
    assert "<pre>git checkout 0123\nvla eval x\n</pre>" in html
    assert "changes that this commit does not hold" in html
    assert '<th scope="row">provenance.versions.mujoco</th><td>3.3.0</td>' in html
