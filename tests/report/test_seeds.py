"""The picture of several seeds: a band from the least to the most where all are, and each of them faintly."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from vla.report.charts import COLOURS
from vla.report.seeds import _draw, write_picture


def _run(folder: Path, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_nothing_logged_is_no_picture(tmp_path: Path) -> None:
    assert write_picture(tmp_path, [_run(tmp_path / "a", []), tmp_path / "missing"]) is None
    assert not (tmp_path / "seeds.svg").exists()


def test_there_is_a_panel_for_each_thing_that_was_measured(tmp_path: Path) -> None:
    runs = []
    for name, shift in (("a", 0.0), ("b", 0.5)):
        lines = [{"kind": "train", "step": s, "action_loss": 2 - s / 10 + shift} for s in range(1, 5)]
        lines.append({"kind": "validation", "step": 4, "action_loss": 1 + shift, "first_frame_x_error": 0.1 + shift})
        lines.append({"kind": "closed_loop", "step": 4, "success": 0.5, "episodes": 2})
        runs.append(_run(tmp_path / name, lines))
    picture = write_picture(tmp_path, runs)
    assert picture == tmp_path / "seeds.svg"
    text = picture.read_text()
    titles = [said for said in ElementTree.fromstring(text).itertext() if "," in said or "beside" in said]
    assert titles == [
        "action loss, training",
        "action loss, held out",
        "success beside the training",
        "first frame x error, held out",
    ]
    assert not [stand_in for stand_in in COLOURS.values() if stand_in in text]
    assert not re.search(r"var\(--", text)


def test_the_band_goes_from_the_least_to_the_most_where_all_curves_are() -> None:
    axes = Figure().add_subplot()
    steps = np.array([0.0, 10.0, 20.0])
    curves = [(steps, np.array([0.0, 0.0, 0.0])), (steps[1:], np.array([1.0, 3.0])), (steps, np.array([0.5, 2.0, 2.0]))]
    _draw(axes, "a title", curves)
    (band,) = [found for found in axes.collections if isinstance(found, PolyCollection)]
    (points,) = [path.vertices for path in band.get_paths()]
    assert points[:, 0].min() == 10.0
    assert points[:, 0].max() == 20.0
    at_the_end = np.asarray(points)[np.asarray(points)[:, 0] == 20.0][:, 1]
    assert (at_the_end.min(), at_the_end.max()) == (0.0, 3.0)
    *_, mean = axes.lines
    assert np.asarray(mean.get_ydata())[[0, -1]].tolist() == [1.0, (0.0 + 3.0 + 2.0) / 3]
