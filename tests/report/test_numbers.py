import pytest

from vla.report.numbers import GAP, count, duration, interval, percent


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0"), (1.0, "100"), (0.874, "87"), (0.999, "99.9"), (0.9999, "99.9"), (0.0004, "0.1")]
)
def test_only_nothing_and_everything_are_round(rate, text):
    assert percent(rate) == f"{text}{GAP}%"


def test_interval_names_the_unit_once():
    assert interval({"low": 0.79, "high": 0.92}) == f"79–92{GAP}%"


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
