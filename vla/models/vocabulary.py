"""One vocabulary for everything that is read or written, one table, one tied head.

    [ text | specials | grounding: a range of bins for each coordinate | action: a range of bins for each joint ]

Decoding slices the table to the ids that the grammar allows at a position: the bins of *that* joint, and no others.
"""

from dataclasses import dataclass

SPECIALS = ("pad", "begin", "query", "no_state")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Where each kind of token lives in the table."""

    text: int
    """Number of text tokens."""
    grounding_dims: int
    grounding_bins: int
    action_dims: int
    action_bins: int

    def special(self, name: str) -> int:
        """Id of a special token."""
        return self.text + SPECIALS.index(name)

    @property
    def grounding(self) -> slice:
        """Ids of all coordinates' bins, coordinate-major."""
        start = self.text + len(SPECIALS)
        return slice(start, start + self.grounding_dims * self.grounding_bins)

    @property
    def action(self) -> slice:
        """Ids of all joints' bins, joint-major."""
        start = self.grounding.stop
        return slice(start, start + self.action_dims * self.action_bins)

    def joint(self, index: int) -> slice:
        """Ids of the bins of joint ``index``: all that the grammar allows where that joint is due."""
        start = self.action.start + index * self.action_bins
        return slice(start, start + self.action_bins)

    def __len__(self) -> int:
        """Rows of the table."""
        return int(self.action.stop)
