"""What a drive remembers of its times: typical ones, and no more memory the longer it goes on."""

import tracemalloc

import numpy as np

from vla.deploy.control.drive import KEPT, QUANTILES, Recent


def test_nothing_yet_is_none() -> None:
    assert Recent().last is None
    assert Recent().typical() == (None, None)


def test_the_median_is_of_the_last_ones_and_the_most_of_all() -> None:
    recent = Recent()
    for value in (9.0, 1.0, 2.0):
        recent.append(value)
    assert (recent.last, recent.typical()) == (2.0, (2.0, 9.0))
    for value in np.arange(KEPT):
        recent.append(value / KEPT)
    assert recent.last == (KEPT - 1) / KEPT
    assert recent.typical() == (np.median(np.arange(KEPT) / KEPT), 9.0)


def test_a_drive_that_goes_on_takes_no_more_memory() -> None:
    recent = Recent()
    tracemalloc.start()
    try:
        for value in range(3 * KEPT):
            recent.append(float(value))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2000


def test_a_report_holds_all_times_of_a_few_and_quantiles_of_many() -> None:
    """With their tail: what a simulation draws from is what was measured."""
    recent = Recent()
    assert recent.spread() == ()
    for value in (3.0, 1.0, 2.0):
        recent.append(value)
    assert recent.spread() == (1.0, 2.0, 3.0)
    for value in np.arange(3 * QUANTILES):
        recent.append(float(value))
    spread = recent.spread()
    assert (len(spread), spread[0], spread[-1]) == (QUANTILES, 0.0, 3 * QUANTILES - 1)
    assert list(spread) == sorted(spread)
