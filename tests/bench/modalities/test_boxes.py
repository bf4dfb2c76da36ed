"""What is counted of boxes that are said."""

from vla.bench.modalities.boxes import Met, meet


def test_answers_beside_what_is_right() -> None:
    right = ["ten ten to nineteen nineteen"] * 5
    said = [
        "ten ten to nineteen nineteen",
        "ten ten to nineteen fourteen",
        "fifteen ten to twentyfour nineteen",
        "forty forty to fifty fifty",
        "the red block",
    ]
    whole, half, beside, elsewhere, nothing = meet(said, right)
    assert (whole, elsewhere, nothing) == (Met(overlap=1.0, centred=True), Met(), Met())
    assert (half.overlap, half.found, half.centred) == (0.5, True, True)
    assert (beside.overlap, beside.found, beside.centred) == (50 / 150, False, True)
