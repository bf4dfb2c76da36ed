import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from vla.report.charts import COLOURS, Series, length_chart, line_chart, series

POINTS = [{"step": s, "loss": 1 / s, "gap": None if s % 2 else float("nan")} for s in range(1, 101)]


def test_series_skip_what_is_missing_or_not_finite():
    assert series(POINTS, "gap", label="gap", colour="ink") is None
    assert series(POINTS, "absent", label="absent", colour="ink") is None
    points = [*POINTS[:2], {"step": 3, "loss": float("inf")}, {"step": 4}]
    curve = series(points, "loss", label="loss", colour="ink")
    assert curve is not None
    assert curve.x.tolist() == [1, 2]
    assert curve.y.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("log", [True, False])
def test_a_chart_is_well_formed_and_takes_its_colours_from_the_page(log):
    svg = line_chart("loss", [series(POINTS, "loss", label="a & b", colour="accent"), None], description="<&>", log=log)
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "<&>"
    assert "var(--accent)" in svg
    assert not any(stand_in in svg for stand_in in COLOURS.values())
    assert "training step" in "".join(root.itertext())


def test_no_curve_is_no_chart():
    assert line_chart("loss", [None, None], description="nothing") is None
    assert length_chart("lengths", [], [], description="nothing") is None


def test_one_point_and_values_that_have_no_logarithm():
    for y in ([0.0], [0.0, 1.0], [-1.0, -2.0]):
        curve = Series(label="odd", x=np.arange(len(y), dtype=np.float64), y=np.array(y), colour="ink", dots=True)
        assert line_chart("odd", [curve], description="odd", log=True)
        assert line_chart("odd", [curve], description="odd")


def test_identifiers_of_different_charts_differ():
    curve = series(POINTS, "loss", label="loss", colour="accent")
    charts = [line_chart(name, [curve], description=name) for name in ("one", "two")]
    identifiers = [
        {element.attrib["id"] for element in ElementTree.fromstring(str(chart)).iter() if "id" in element.attrib}
        for chart in charts
    ]
    assert all(identifiers)
    assert not identifiers[0] & identifiers[1]


def test_the_same_values_give_the_same_chart():
    curve = series(POINTS, "loss", label="loss", colour="accent")
    assert line_chart("one", [curve], description="x") == line_chart("one", [curve], description="x")


@pytest.mark.parametrize(("succeeded", "failed"), [([20, 30, 31], [80, 80]), ([5], []), ([], [80]), ([0], [])])
def test_lengths_of_successes_and_failures(succeeded, failed):
    assert ElementTree.fromstring(str(length_chart("lengths", succeeded, failed, description="lengths")))


@pytest.mark.parametrize("span", [(0.9, 1.1), (1.2, 1.9), (0.02, 0.3), (3e-4, 40.0), (2.0, 2e9)])
def test_a_log_axis_has_numbers_enough_to_read_it(span: tuple[float, float]) -> None:
    curve = Series(label="loss", x=np.array([5000.0, 6000.0]), y=np.array(span), colour="accent")
    svg = line_chart("log", [curve], description="loss", log=True)
    assert svg is not None
    texts = [(element.text or "").strip() for element in ElementTree.fromstring(svg).iter()]
    numbers = [float(text) for text in texts if re.fullmatch(r"[\d.e+-]+", text)]  # steps are 5k and such
    assert sum(0.9 * span[0] <= number <= 1.1 * span[1] for number in numbers) >= 3
