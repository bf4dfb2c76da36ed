import base64
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.types import Episode
from vla.envs.disturbance import Disturbance
from vla.envs.recording import record_episode
from vla.envs.registry import env_spec, make_expert
from vla.report.episode import frames
from vla.report.episode.page import render_episode_page

VOID = {"meta", "img", "br"}
STEPS = 12
EVIL = '<script>alert("x")</script>&" \'把红色方块 </script><!--'


class Page(HTMLParser):
    """A strict reader: every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

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
        if self.open and data.strip():
            self.text.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.text if name == tag]

    def classes(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]

    @property
    def data(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.of("script")[0])
        return value


def numbers(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


def pixels(picture: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def contract() -> Contract:
    joints = tuple(Dimension(name=f"j{i}", unit="rad", low=-3.0, high=3.0) for i in range(3))
    return Contract(
        robot="arm",
        cameras=(Camera(name="front", height=24, width=32), Camera(name="wrist", height=24, width=32)),
        state=(*joints, Dimension(name="force", unit="N", low=-np.inf, high=np.inf)),
        action=(*joints, Dimension(name="grip", unit="1", low=0.0, high=1.0)),
        control_hz=10.0,
    )


@pytest.fixture
def episode(contract: Contract) -> Episode:
    rng = np.random.default_rng(0)
    action = rng.standard_normal((STEPS, 4)).astype(np.float32)
    executed = action.copy()
    executed[5, 1] += 0.5
    levels = (np.arange(STEPS) * 20).astype(np.uint8)[:, None, None, None]
    frame = np.broadcast_to(levels, (STEPS, 24, 32, 3))
    time_ns = np.arange(STEPS, dtype=np.int64) * 100_000_000
    return Episode(
        images={"front": frame, "wrist": 255 - frame},
        state=rng.standard_normal((STEPS, 4)).astype(np.float32),
        action=action,
        action_executed=executed,
        reward=(np.arange(STEPS) == 9).astype(np.float32),
        done=np.arange(STEPS) == STEPS - 1,
        valid=~np.isin(np.arange(STEPS), [0, 1, 6]),
        time_ns=time_ns,
        command_time_ns=time_ns,
        instruction="put it down",
        instruction_alternatives=("lay it down",),
        task="put",
        split="train",
        seed=3,
        success=None,
        provenance={"source": {"file": "a b.hdf5", "number": 7}, "operator": None},
    )


def changed(episode: Episode, **changes: Any) -> Episode:
    return Episode(**{**vars(episode), **changes})


def render(episode: Episode, contract: Contract, **changes: Any) -> Page:
    return Page(render_episode_page(episode, contract, **{"title": "set", "facts": {}, **changes}))


def test_every_camera_shows_the_frame_of_the_step(episode, contract):
    films = render(episode, contract).data["films"]
    assert [film["name"] for film in films] == ["front", "wrist"]
    for film in films:
        of_step = numbers(film["of_step"], "<i4")
        assert len(of_step) == STEPS
        for step in range(STEPS):
            shown = pixels(film["pictures"][of_step[step]]).astype(int)
            assert np.abs(shown - episode.images[film["name"]][step]).max() <= 3
        assert not numbers(film["age_ms"], "<f4").any()


def test_numbers_are_exact_and_share_a_panel_by_name_and_unit(episode, contract):
    page = render(episode, contract)
    panels = page.data["panels"]
    names = [a["title"] for a in page.classes("name")]
    assert names == ["j0", "j1", "j2", "force", "grip", "reward"]
    assert len(page.classes("panel")) == len(panels)
    kinds = [[line["kind"] for line in panel["lines"]] for panel in panels]
    both = ["state", "action"]
    assert kinds == [both, [*both, "executed"], both, ["state"], ["action"], ["other"]]
    for column, panel in enumerate(panels[:3]):
        for line in panel["lines"]:
            source = {"state": episode.state, "action": episode.action, "executed": episode.action_executed}
            np.testing.assert_array_equal(numbers(line["values"], "<f4"), source[line["kind"]][:, column])
    assert [(p["low"], p["high"]) for p in panels] == [(-3, 3)] * 3 + [(None, None), (0, 1), (None, None)]


def test_marks_say_what_happened_when(episode, contract):
    page = render(episode, contract)
    data = page.data
    assert data["invalid"] == [[0, 1], [6, 6]]
    assert data["rewards"] == [9]
    assert data["done"] == [11]
    assert data["breaks"] == []
    assert page.of("li")[-3:] == ["not to learn from: 3 steps", "reward > 0: step 9", "done: step 11"]


def test_time_gaps_are_marked_and_timing_is_plotted(episode, contract):
    late = episode.time_ns + 400_000_000 * (np.arange(STEPS) > 4)
    page = render(changed(episode, time_ns=late, command_time_ns=late + 5_000_000), contract)
    assert page.data["breaks"] == [5]
    assert "1 time gap, the longest 0.5 s" in page.of("li")
    np.testing.assert_allclose(numbers(page.data["time_s"], "<f8"), late / 1e9)
    interval, delay = page.data["panels"][-2:]
    assert numbers(interval["lines"][0]["values"], "<f4").tolist() == [100.0] * 5 + [500.0] + [100.0] * 6
    assert numbers(delay["lines"][0]["values"], "<f4").tolist() == [5.0] * STEPS


def test_a_camera_with_its_own_clock_says_how_old_its_frame_is(episode, contract):
    clock = np.array([-20_000_000, 510_000_000], np.int64)
    two = episode.images["front"][[0, 6]]
    own = changed(episode, images={"front": two, "wrist": episode.images["wrist"]}, image_time_ns={"front": clock})
    film = render(own, contract).data["films"][0]
    assert numbers(film["of_step"], "<i4").tolist() == [0] * 6 + [1] * 6
    np.testing.assert_allclose(numbers(film["age_ms"], "<f4")[[0, 5, 6]], [20, 520, 90])


def test_depth_has_a_legend_in_metres(episode, contract):
    depth = np.linspace(400, 1600, STEPS * 24 * 32).reshape(STEPS, 24, 32, 1).astype(np.uint16)
    cameras = (contract.cameras[0], Camera(name="depth", height=24, width=32, kind="depth"))
    with_depth = Contract(**{**vars(contract), "cameras": cameras})
    value = changed(episode, images={"front": episode.images["front"], "depth": depth})
    page = render(value, with_depth)
    film = page.data["films"][1]
    assert film["mime"] == "image/png"
    assert len(film["colours"]) == 255
    assert len(page.classes("depth")) == 1
    assert "{:.2f}".format(film["near_m"]) in page.of("span")
    assert "{:.2f} m".format(film["far_m"]) in page.of("span")


def test_thinning_is_said_on_the_page(episode, contract, monkeypatch):
    assert not render(episode, contract).classes("thinned")
    monkeypatch.setattr(frames, "MAX_FRAMES", 4)
    page = render(episode, contract)
    assert page.data["every"] == 3
    assert len(page.data["films"][0]["pictures"]) == 4
    assert any("show every 3rd step" in text for text in page.of("p"))
    assert len(numbers(page.data["panels"][0]["lines"][0]["values"], "<f4")) == STEPS


def test_text_is_escaped_everywhere(episode, contract):
    cameras = (Camera(name="front", height=24, width=32), Camera(name="wrist", height=24, width=32))
    dimensions = tuple(Dimension(name=f"{EVIL}{i}", unit=EVIL, low=0.0, high=1.0) for i in range(4))
    evil = Contract(robot=EVIL, cameras=cameras, state=dimensions, action=dimensions, control_hz=10.0)
    texts = {"instruction": EVIL, "instruction_alternatives": (EVIL,), "task": EVIL, "split": EVIL}
    value = changed(episode, **texts, provenance={EVIL: {EVIL: EVIL}, "list": [EVIL]})
    html = render_episode_page(value, evil, title=EVIL, facts={EVIL: EVIL}, findings=[EVIL])
    page = Page(html)
    assert "<script>alert" not in html
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert page.of("p")[0] == EVIL
    assert page.classes("name")[0]["title"] == f"{EVIL}0"


def test_nothing_is_requested_from_anywhere(episode, contract):
    html = render_episode_page(episode, contract, title="set", facts={"dataset": "set"})
    assert set(re.findall(r"\w+://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "@import" not in html
    assert "url(" not in html
    for tag, attributes in Page(html).tags:
        assert not {"src", "href", "poster", "action"} & attributes.keys(), tag
    assert "default-src 'none'" in html


@pytest.mark.parametrize(("success", "word"), [(None, "unknown"), (True, "success"), (False, "failure")])
def test_the_head_says_what_is_known(episode, contract, success, word):
    page = render(changed(episode, success=success), contract, facts={"uid": "5f3c"}, findings=["It drifts."])
    assert page.of("b") == [word, "12", "1.2", "10", "arm", "put", "train", "3"]
    assert {"lay it down", "It drifts."} <= set(page.of("li"))
    assert {"uid", "source.file", "source.number", "operator"} <= set(page.of("th"))
    assert {"5f3c", "a b.hdf5", "7", "–"} <= set(page.of("td"))


def test_one_step_and_no_cameras(episode, contract):
    blind = Contract(**{**vars(contract), "cameras": ()})
    arrays = {k: v[:1] for k, v in vars(episode).items() if isinstance(v, np.ndarray)}
    page = render(changed(episode, images={}, **arrays), blind)
    assert page.data["films"] == []
    assert page.data["end_s"] == pytest.approx(0.1)


def test_an_episode_of_another_robot_is_refused(episode, contract):
    other = Contract(**{**vars(contract), "state": contract.state[:2]})
    with pytest.raises(DatasetError, match="state: expected 2 dimensions, got 4"):
        render(episode, other)


def test_a_real_episode_with_its_signals():
    spec = env_spec("tabletop/place")
    env = spec.make({})
    try:
        disturbance = Disturbance(episode_share=1.0)
        episode = record_episode(
            env, make_expert("tabletop/place", env), task="tabletop/place", seed=1, disturbance=disturbance
        )
    finally:
        env.close()
    html = render_episode_page(episode, env.contract, title="place", facts={})
    page = Page(html)
    points = {(p["camera"], p["thing"]): p for p in page.data["points"]}
    assert set(points) == {(c, t) for c in ("front", "wrist") for t in ("block", "plate")}
    pointing = episode.signals["pointing"]
    column = [d.name for d in env.contract.signals["pointing"]].index("wrist.plate.column")
    np.testing.assert_array_equal(numbers(points["wrist", "plate"]["column"], "<f4"), pointing[:, column])
    assert "Signal grounding" in html
    assert "Signal pointing" in html
    for film in page.data["films"]:
        of_step = numbers(film["of_step"], "<i4")
        decoded = np.stack([pixels(p) for p in film["pictures"]]).astype(int)
        for step in (0, len(episode) // 2, len(episode) - 1):
            errors = np.abs(decoded - episode.images[film["name"]][step].astype(int)).mean(axis=(1, 2, 3))
            assert errors[of_step[step]] == errors.min()
            assert errors[of_step[step]] < 4
    assert len(html) - sum(len(p) for film in page.data["films"] for p in film["pictures"]) < 100_000
