"""Named sets of scenes for measuring generalisation; which scenes a name means is fixed, and each seed picks one.

The same seed gives the same scene, goal and words in every split but where the split is about exactly that: so the
outcomes under ``distractors``, ``viewpoint``, ``lighting``, ``background`` and ``unseen-phrasing`` pair with those
under ``seen``.
"""

SPLITS: dict[str, str] = {
    "seen": "what demonstrations are collected from: the combinations and the phrasings that are not held out",
    "unseen-combination": "goals whose combination of words (colour, target, direction) is held out of seen",
    "unseen-phrasing": "the goals of seen in phrasings that are held out of it",
    "distractors": "the scenes of seen with things among them that no instruction names",
    "viewpoint": "the scenes of seen from a front camera that has been moved",
    "lighting": "the scenes of seen under another light",
    "background": "the scenes of seen on another table top, and things in other shades of their colours",
}
ALL = "all"
"""No split: every combination in every phrasing, nothing held out."""
HELD_OUT_PHRASINGS = 2
"""Each family's last templates."""


def combination_is_held_out(numbers: tuple[int, ...]) -> bool:
    """Whether a goal is one of ``unseen-combination``, from the place of each of its words in its vocabulary.

    One goal in four, spread like a Latin square: with two words or more, each word is still seen in other goals.
    """
    return sum(numbers) % 4 == 3
