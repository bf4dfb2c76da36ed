"""Unknown names are answered with a list and a guess."""

import pytest

from vla.core.errors import UnknownNameError
from vla.core.lookup import lookup

TABLE = {"tabletop/place": 1, "metaworld/reach": 2}


def test_known_name() -> None:
    assert lookup("environment", "metaworld/reach", TABLE) == 2


def test_near_miss_is_guessed() -> None:
    with pytest.raises(UnknownNameError) as caught:
        lookup("environment", "tabletop/plate", TABLE)
    assert str(caught.value) == (
        "unknown environment 'tabletop/plate': did you mean 'tabletop/place'? known: metaworld/reach, tabletop/place"
    )


def test_far_miss_gets_the_list_alone() -> None:
    with pytest.raises(UnknownNameError, match="unknown environment 'zzz': known: metaworld/reach, tabletop/place"):
        lookup("environment", "zzz", TABLE)
