"""Each id belongs to exactly one range."""

from hypothesis import given
from hypothesis import strategies as st

from vla.models.vocabulary import SPECIALS, Vocabulary

COUNT = st.integers(1, 20)


@given(text=COUNT, grounding=COUNT, grounding_bins=COUNT, action=COUNT, action_bins=COUNT)
def test_ranges_are_disjoint_and_complete(
    text: int, grounding: int, grounding_bins: int, action: int, action_bins: int
) -> None:
    vocabulary = Vocabulary(
        text=text,
        grounding_dims=grounding,
        grounding_bins=grounding_bins,
        action_dims=action,
        action_bins=action_bins,
    )
    ids = [*range(text), *(vocabulary.special(name) for name in SPECIALS)]
    ids += range(vocabulary.grounding.start, vocabulary.grounding.stop)
    for joint in range(action):
        ids += range(vocabulary.joint(joint).start, vocabulary.joint(joint).stop)
    assert ids == list(range(len(vocabulary)))
    assert vocabulary.action == slice(vocabulary.joint(0).start, vocabulary.joint(action - 1).stop)
    assert vocabulary.grounding.stop - vocabulary.grounding.start == grounding * grounding_bins
