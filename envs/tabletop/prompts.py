"""How success is said of families of the tabletop, in the words of their captions."""

from vla.envs.prompts import Prompts
from vla.envs.tabletop.scene.mjcf import COLOURS
from vla.envs.tabletop.tasks.place import PLACE
from vla.envs.tabletop.tasks.put_in_bowl import PUT_IN_BOWL

_SIDES = ("left of", "right of", "in front of", "behind")


def _brought(templates: tuple[str, ...], place: str, word: str) -> Prompts:
    """A block that should come on or in a place: else it is held, beside it, or somewhere else."""
    beside = tuple(f"a {{block}} {side} a {{{place}}}" for side in _SIDES)
    return Prompts(
        instructions=templates,
        success=(f"a {{block}} {word} a {{{place}}}",),
        failure=("a {block} held", f"a {{block}} {word} a {{other}}", *beside),
        others=tuple(f"{colour} {place}" for colour in COLOURS),
    )


PROMPTS = {
    PLACE.name: _brought(PLACE.templates, "plate", "on"),
    PUT_IN_BOWL.name: _brought(PUT_IN_BOWL.templates, "bowl", "in"),
}
"""By task."""
