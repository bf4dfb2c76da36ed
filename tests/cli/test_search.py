"""``vla search`` with a real model of two towers, and what it says when it cannot."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.towers import write_described, write_towers
from vla import search_dataset
from vla.datasets.dataset import Dataset
from vla.datasets.selection import Selection

Call = Callable


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_described(tmp_path_factory.mktemp("described") / "place")


@pytest.fixture(scope="module")
def towers(described: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_towers(tmp_path_factory.mktemp("towers"), described)


def test_words_find_frames_and_the_sheet_opens_them(call: Call, described: Path, towers: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "hits.html", tmp_path / "hits.json"
    arguments = ["search", described, "red block on blue plate", "--checkpoint", towers, "--index", tmp_path / "index"]
    answer = call(*arguments, "--hits", 3, "--html", out, "--json", said)
    assert answer.code == 0, answer.err
    assert "3 of" in answer.out
    found = json.loads(said.read_text())
    assert found["query"] == "red block on blue plate"
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert {hit["camera"] for hit in found["hits"]} == {"front"}  # of which the sentences speak
    assert len(list((tmp_path / "hits-episodes").glob("*.html"))) == 3
    assert out.read_text().count("#step=") == 3
    again = call(*arguments, "--hits", 3, "--json", said)
    assert "embed" not in again.out
    assert [hit["uid"] for hit in json.loads(said.read_text())["hits"]] == [hit["uid"] for hit in found["hits"]]


def test_a_frame_and_its_file_find_the_frame(call: Call, described: Path, towers: Path, tmp_path: Path) -> None:
    said = tmp_path / "hits.json"
    base = ["search", described, "--checkpoint", towers, "--index", tmp_path / "index", "--json", said, "--hits", 1]
    assert call(*base, "--frame", "2:5", "--by", "frame").code == 0
    (hit,) = json.loads(said.read_text())["hits"]
    assert hit["score"] > 0.999
    opened = Dataset.open(described)
    frame = opened.frame("front", int(opened.episode_starts[2]) + 5)
    Image.fromarray(frame).save(tmp_path / "photo.png")
    assert call(*base, "--image", tmp_path / "photo.png", "--by", "frame").code == 0
    assert json.loads(said.read_text())["hits"] == [hit]
    (found,) = search_dataset(described, frame, towers, index=tmp_path / "index", hits=1, by="frame")
    assert found.facts() == hit
    best = search_dataset(described, frame, towers, index=tmp_path / "index", select=Selection(success=True))
    assert {one.episode for one in best} == set(np.flatnonzero(opened.episodes.success == 1).tolist())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["red"], r"which model\? give --checkpoint"),
        ([], r"what is looked for\?.*got nothing"),
        (["red", "--image", "a.png"], "got query and image"),
        (["red", "--checkpoint", "nowhere"], "nowhere"),
        (["red", "--checkpoint", "TOWERS", "--tasks", "tabletop/plase"], "unknown task.*did you mean"),
        (["red", "--checkpoint", "TOWERS", "--robots", "panda"], "unknown robot.*did you mean"),
        (["red", "--checkpoint", "TOWERS", "--no-update", "--index", "none"], "there is no index"),
        (["red", "--checkpoint", "ACTS"], "expected a model of kind two-tower"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], why: str, call: Call, described: Path, towers: Path, trained: Path, tmp_path: Path
) -> None:
    places = {"TOWERS": towers, "ACTS": trained, "none": tmp_path / "none"}
    index = [] if "--index" in words else ["--index", tmp_path / "index"]
    answer = call("search", described, *(places.get(word, word) for word in words), *index)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert re.search(why, answer.err), answer.err


def test_the_bench_takes_the_checkpoint(call: Call, described: Path, towers: Path, tmp_path: Path) -> None:
    said = tmp_path / "bench.json"
    sizes = ["--sizes", "1000", "--queries", "20", "--out", tmp_path / "bench"]
    answer = call("bench", "search", described, "--checkpoint", towers, *sizes, "--json", said)
    assert answer.code == 0, answer.err
    names = [row["name"] for row in json.loads(said.read_text())["rows"]]
    assert any("words: missed" in name for name in names)
