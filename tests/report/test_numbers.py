import pytest

from vla.evaluation.statistics import Difference, SuccessRate
from vla.report.numbers import (
    GAP,
    count,
    duration,
    interval,
    measurement,
    p_value,
    percent,
    points,
    points_interval,
)


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0"), (1.0, "100"), (0.874, "87"), (0.999, "99.9"), (0.9999, "99.9"), (0.0004, "0.1")]
)
def test_only_nothing_and_everything_are_round(rate, text):
    assert percent(rate) == f"{text}{GAP}%"


def test_interval_names_the_unit_once():
    rate = SuccessRate(rate=0.86, successes=86, episodes=100, low=0.79, high=0.92)
    assert interval(rate) == f"79–92{GAP}%"


def test_differences_and_p_values():
    assert [points(x) for x in (0.123, -0.5, 0.001, -0.001)] == ["+12", "−50", "0", "0"]
    assert points_interval(Difference(difference=0.0, low=-0.14, high=0.3)) == "−14 to +30"
    assert [p_value(x) for x in (0.5, 0.0312, 1e-9)] == ["0.5", "0.031", "< 0.0001"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("distance_m", 0.0123, "12.3 mm"), ("tilt_rad", 0.5, "0.5 rad"), ("held", 0.25, "0.25"), ("held", None, "–")],
)
def test_metrics_are_in_the_unit_that_their_name_says(name, value, text):
    assert measurement(name, value).replace(GAP, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.26, "4.3 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (131.2, "2 min 11 s"),
        (3600, "1 h 00 min"),
        (9e3, "2 h 30 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds).replace(GAP, " ") == text


@pytest.mark.parametrize(("number", "text"), [(12, "12"), (63_210, "63,210"), (1_934_336, "1.93 M"), (4.5e9, "4.5 B")])
def test_counts(number, text):
    assert count(number).replace(GAP, " ") == text
