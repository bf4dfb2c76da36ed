import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import av
import numpy as np
import pytest
from vla.report.page import Clip, render_report

from vla.core.video import encode_mp4
from vla.envs.registry import env_spec
from vla.evaluation.baselines import ExpertPolicy
from vla.evaluation.run import evaluate
from vla.evaluation.settings import EvaluationConfig
from vla.evaluation.video import film_strip, replay_frames

VOID = {"meta", "img", "br"}
HEADINGS = ["Success", "Training", "Episodes", "Where it works and where it fails", "Time", "Origin", "Reproduce"]


class Page(HTMLParser):
    """A strict reader: every tag is closed in order, and identifiers are unique."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(html)
        self.close()
        assert self.open == []
        identifiers = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(identifiers) == len(set(identifiers))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def made_up_clip(**values: Any) -> Clip:
    frames = np.full((3, 32, 64, 3), 90, np.uint8)
    base = {"condition": "policy", "seed": 1, "instruction": "put the red block on the blue plate", "success": True}
    return Clip(**{**base, "mp4": encode_mp4(frames, 10), "strip": film_strip(frames, 2), **values})


def test_a_full_report_has_all_parts_in_order(facts):
    page = Page(render_report(facts, [made_up_clip()]))
    assert page.text["h2"] == HEADINGS
    assert page.text["h1"] == ["tabletop/place"]
    assert len([svg for svg in page.all("svg") if svg.get("class") == "whisker"]) == 6
    labels = [svg["aria-label"] for svg in page.all("svg") if svg.get("class") != "whisker"]
    assert [str(label).split()[0] for label in labels] == ["Loss", "Grounding", "Samples", "Distribution"]


def test_nothing_is_requested_from_anywhere(facts):
    html = render_report(facts, [made_up_clip()])
    assert "://" not in html
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    for tag, attributes in Page(html).tags:
        for name in ("src", "href", "poster", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, name)
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    ("part", "heading"),
    [("rows", "Success"), ("training", "Training"), ("phases", "Time")],
)
def test_a_part_that_is_missing_is_left_out(facts, part, heading):
    whole = Page(render_report(facts, [made_up_clip()])).text["h2"]
    del facts[part]
    assert Page(render_report(facts, [made_up_clip()])).text["h2"] == [h for h in whole if h != heading]


def test_only_the_headline_is_required(minimal_facts):
    page = Page(render_report(minimal_facts, []))
    assert "h2" not in page.text
    assert any("87\u202f%" in text for text in page.text["strong"])
    assert not page.all("svg")


def test_training_without_validation_or_grounding(facts):
    facts["training"] = {"curves": [{"step": s, "action_loss": 1 / s, "samples_per_s": None} for s in range(1, 5)]}
    assert Page(render_report(facts, [])).text["figcaption"][0] == "Loss"
    facts["training"] = {"steps": 10, "curves": []}
    assert "Training" not in Page(render_report(facts, [])).text["h2"]


def test_text_is_escaped(facts):
    evil = '<script>alert("x")</script>&"'
    facts["title"] = evil
    facts["rows"][0]["note"] = evil
    facts["rows"][1]["name"] = evil
    facts["instructions"] = [{"instruction": evil, "success": facts["success"]}]
    facts["phases"][0]["name"] = evil
    facts["provenance"]["command"] = evil
    facts["config"][evil] = evil
    facts["episodes"][evil] = facts["episodes"].pop("random")
    html = render_report(facts, [made_up_clip(instruction=evil, condition=evil)])
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    assert len(Page(html).all("script")) == 1


def test_successes_come_first_then_the_order_of_the_rows(facts):
    clips = [
        made_up_clip(seed=4, success=False),
        made_up_clip(seed=9, condition="random"),
        made_up_clip(seed=3, success=False),
        made_up_clip(seed=1),
    ]
    metas = re.findall(r"seed (\d+) · (\w+)", render_report(facts, clips))
    assert metas == [("1", "policy"), ("9", "random"), ("3", "policy"), ("4", "policy")]


def test_a_clip_says_how_its_episode_ended(facts):
    html = render_report(facts, [made_up_clip(seed=3, success=False), made_up_clip(seed=77, success=False)])
    assert re.search(r'<b class="bad">grasped, not placed</b> · 80 steps · seed 3', html)
    assert re.search(r'<b class="bad">failure</b> · seed 77', html)


def test_goals_are_a_grid_and_other_instructions_a_list(facts):
    page = Page(render_report(facts, []))
    assert len([t for t in page.all("td") if "--rate" in str(t.get("style"))]) == 3
    assert len([t for t in page.all("td") if t.get("class") == "absent"]) == 1
    facts["instructions"].append({"instruction": "open the drawer", "success": facts["success"]})
    html = render_report(facts, [])
    assert "Success by instruction" in html
    assert "open the drawer" in html


def test_reproduce_has_the_commit_and_the_command(facts):
    html = render_report(facts, [])
    assert "<pre>git checkout 0123abc\nvla run place --seed 7\n</pre>" in html
    assert "changes that this commit does not hold" in html
    facts["provenance"]["git"] = None
    html = render_report(facts, [])
    assert "<pre>vla run place --seed 7\n</pre>" in html
    assert "changes that this commit" not in html


def test_provenance_and_configuration_are_flat_lists(facts):
    html = render_report(facts, [])
    for name, value in (("versions.mujoco", "3.3.0"), ("env.colours", "red, green"), ("train.resume", "–")):
        assert f'<th scope="row">{name}</th><td>{value}</td>' in html


def test_a_chance_line_only_where_chance_has_a_meaning(facts):
    assert 'class="chance"' in render_report(facts, [])
    assert 'class="chance"' not in render_report({**facts, "chance": None}, [])


def test_a_real_evaluation_from_episode_to_page(minimal_facts):
    config = EvaluationConfig(episodes=1, execute=1, workers=1, batch=1)
    (result,) = evaluate(config, lambda envs: ExpertPolicy("tabletop/place", envs))
    env = env_spec("tabletop/place").make({})
    try:
        frames = replay_frames(env, result)
    finally:
        env.close()
    clip = Clip(
        condition="expert",
        seed=result.seed,
        instruction=result.instruction,
        success=result.success,
        mp4=encode_mp4(frames, 10),
        strip=film_strip(frames),
    )
    page = Page(render_report({**minimal_facts, "episodes": {"expert": [result.to_json()]}}, [clip]))
    (video,) = page.all("video")
    kind, _, data = str(video["src"]).partition(",")
    assert kind == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert sum(1 for _ in container.decode(video=0)) == result.steps + 1
