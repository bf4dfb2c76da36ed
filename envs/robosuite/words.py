"""What is said: for each task several wordings of one goal, and how long an episode may be. Free of heavy imports."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Words:
    """How one task is described to people and to policies."""

    summary: str
    phrases: tuple[str, ...]
    max_steps: int
    """Steps at 20 Hz until an episode is truncated: at least twice what the expert needs."""


def _pick_place(thing: str) -> Words:
    return Words(
        summary=f"move the {thing} to its own part of the other bin",
        phrases=(
            f"put the {thing} in its bin",
            f"pick up the {thing} and place it in its bin",
            f"move the {thing} over to its bin",
            f"place the {thing} where it belongs in the bin",
            f"take the {thing} and drop it in its own bin",
        ),
        max_steps=300,
    )


def _nut(kind: str, peg: str) -> Words:
    return Words(
        summary=f"put the {kind} nut over the {peg} peg",
        phrases=(
            f"put the {kind} nut on the {peg} peg",
            f"place the {kind} nut over the {peg} peg",
            f"pick up the {kind} nut and slide it onto the {peg} peg",
            f"fit the {kind} nut around the {peg} peg",
            f"on the {peg} peg, put the {kind} nut",
        ),
        max_steps=300,
    )


WORDS: dict[str, Words] = {
    "lift": Words(
        summary="lift the cube off the table",
        phrases=(
            "pick up the red cube",
            "lift the red cube",
            "raise the red cube off the table",
            "grasp the red cube and lift it",
            "take the red cube off the table",
        ),
        max_steps=100,
    ),
    "stack": Words(
        summary="put the red cube on the green one",
        phrases=(
            "stack the red cube on the green cube",
            "put the red cube on the green cube",
            "place the red cube on top of the green one",
            "pick up the red cube and set it on the green cube",
            "on the green cube, stack the red one",
        ),
        max_steps=200,
    ),
    "pick-place-milk": _pick_place("milk"),
    "pick-place-bread": _pick_place("bread"),
    "pick-place-cereal": _pick_place("cereal"),
    "pick-place-can": _pick_place("can"),
    "nut-assembly-square": _nut("square", "square"),
    "nut-assembly-round": _nut("round", "round"),
    "door": Words(
        summary="turn the handle and pull the door open",
        phrases=(
            "open the door",
            "turn the handle and open the door",
            "pull the door open",
            "push the handle down and pull the door open",
            "open the wooden door by its handle",
        ),
        max_steps=300,
    ),
}
