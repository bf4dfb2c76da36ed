"""The fifty tasks of Meta-World: how hard each is held to be, and how it is said.

Meta-World has no language. The groups are those by which SmolVLA (arXiv 2506.01844) and others report it, taken from
the multi-task comparison of Seo et al., "Masked World Models for Visual Control", arXiv 2206.14244; the words are ours.
"""

from dataclasses import dataclass
from typing import Literal

Group = Literal["easy", "medium", "hard", "very hard"]
GROUPS: dict[Group, int] = {"easy": 28, "medium": 11, "hard": 6, "very hard": 5}
"""The groups, and how many tasks each has."""


@dataclass(frozen=True)
class MetaworldTask:
    """One task in words."""

    group: Group
    sentences: tuple[str, ...]
    """What an evaluation says, then paraphrases: all of them are the words of this task alone."""


def _task(group: Group, *sentences: str) -> MetaworldTask:
    return MetaworldTask(group, sentences)


TASKS: dict[str, MetaworldTask] = {
    "assembly": _task(
        "hard",
        "lift the ring by its handle and slip it over the peg",
        "put the ring on the peg",
        "thread the ring onto the upright peg",
    ),
    "basketball": _task(
        "medium",
        "drop the basketball through the hoop",
        "put the ball in the basket",
        "carry the basketball to the hoop and let it fall in",
    ),
    "bin-picking": _task(
        "medium",
        "move the block from the red bin into the blue bin",
        "carry the block from the red bin to the blue one",
        "transfer the block to the blue bin",
    ),
    "box-close": _task(
        "medium",
        "put the lid on the box",
        "close the box with its lid",
        "pick up the cover and set it on the open box",
    ),
    "button-press": _task(
        "easy",
        "push the button in",
        "press the button on the front of the box",
        "push the red button forwards",
    ),
    "button-press-topdown": _task(
        "easy",
        "press the button down from above",
        "push the button on top of the box down",
        "come down on the red button and press it",
    ),
    "button-press-topdown-wall": _task(
        "easy",
        "reach over the wall and press the button down from above",
        "press the button on top of the box behind the wall",
        "get past the wall and push the button down",
    ),
    "button-press-wall": _task(
        "easy",
        "reach over the wall and push the button in",
        "press the button on the front of the box behind the wall",
        "get past the wall and push the button forwards",
    ),
    "coffee-button": _task(
        "easy",
        "push the button of the coffee machine",
        "start the coffee machine",
        "press the coffee machine's button",
    ),
    "coffee-pull": _task(
        "medium",
        "pull the mug away from the coffee machine",
        "take the mug from under the coffee machine to the goal",
        "drag the coffee mug out to the marked spot",
    ),
    "coffee-push": _task(
        "medium",
        "push the mug under the coffee machine",
        "put the mug where the coffee comes out",
        "slide the coffee mug to the machine",
    ),
    "dial-turn": _task(
        "easy",
        "turn the dial",
        "rotate the knob of the dial",
        "give the dial half a turn",
    ),
    "disassemble": _task(
        "very hard",
        "lift the ring off the peg",
        "take the ring from the peg by its handle",
        "pull the ring up until it is free of the peg",
    ),
    "door-close": _task(
        "easy",
        "close the door",
        "push the door shut",
        "swing the open door back until it is closed",
    ),
    "door-lock": _task(
        "easy",
        "lock the door",
        "turn the knob of the door down to lock it",
        "rotate the latch until the door is locked",
    ),
    "door-open": _task(
        "easy",
        "open the door",
        "pull the door open by its handle",
        "swing the closed door open",
    ),
    "door-unlock": _task(
        "easy",
        "unlock the door",
        "turn the knob of the door sideways to unlock it",
        "rotate the latch until the door is unlocked",
    ),
    "drawer-close": _task(
        "easy",
        "close the drawer",
        "push the drawer in",
        "shut the open drawer",
    ),
    "drawer-open": _task(
        "easy",
        "open the drawer",
        "pull the drawer out by its handle",
        "slide the closed drawer open",
    ),
    "faucet-close": _task(
        "easy",
        "turn the faucet off",
        "close the faucet",
        "rotate the tap's handle to the closed side",
    ),
    "faucet-open": _task(
        "easy",
        "turn the faucet on",
        "open the faucet",
        "rotate the tap's handle to the open side",
    ),
    "hammer": _task(
        "medium",
        "drive the nail in with the hammer",
        "pick up the hammer and hit the nail",
        "hammer the nail into the box",
    ),
    "hand-insert": _task(
        "hard",
        "put the gripper into the hole",
        "lower the hand into the opening of the table",
        "reach down into the hole",
    ),
    "handle-press": _task(
        "easy",
        "press the handle down",
        "push down on the handle in front of you",
        "lower the handle by pressing on it",
    ),
    "handle-press-side": _task(
        "easy",
        "press the handle at the side down",
        "push down on the handle that faces sideways",
        "lower the sideways handle by pressing on it",
    ),
    "handle-pull": _task(
        "easy",
        "pull the handle up",
        "lift the handle in front of you",
        "raise the handle from below",
    ),
    "handle-pull-side": _task(
        "easy",
        "pull the handle at the side up",
        "lift the handle that faces sideways",
        "raise the sideways handle from below",
    ),
    "lever-pull": _task(
        "easy",
        "pull the lever up",
        "swing the lever up a quarter of a turn",
        "raise the lever until it stands upright",
    ),
    "peg-insert-side": _task(
        "medium",
        "push the peg into the hole in the side of the box",
        "pick up the peg and insert it sideways",
        "plug the peg into the box",
    ),
    "peg-unplug-side": _task(
        "easy",
        "pull the peg out of the box",
        "unplug the peg sideways",
        "draw the peg out of its hole",
    ),
    "pick-out-of-hole": _task(
        "hard",
        "take the puck out of the hole to the goal",
        "lift the puck from the hole to the marked point",
        "raise the puck out of its hole to the goal",
    ),
    "pick-place": _task(
        "hard",
        "pick up the puck and bring it to the goal",
        "grasp the puck and hold it at the marked point",
        "lift the puck to the goal",
    ),
    "pick-place-wall": _task(
        "very hard",
        "lift the puck over the wall and bring it to the goal",
        "pick up the puck and take it past the wall",
        "carry the puck to the goal behind the wall",
    ),
    "plate-slide": _task(
        "easy",
        "slide the plate into the cabinet in front of it",
        "push the plate forwards into the cabinet",
        "shove the plate straight into the rack",
    ),
    "plate-slide-back": _task(
        "easy",
        "slide the plate back out of the cabinet",
        "drag the plate towards you out of the cabinet",
        "pull the plate straight out of the rack",
    ),
    "plate-slide-back-side": _task(
        "easy",
        "slide the plate sideways out of the cabinet",
        "drag the plate to the side until it leaves the cabinet",
        "pull the plate out of the cabinet beside it",
    ),
    "plate-slide-side": _task(
        "easy",
        "slide the plate sideways into the cabinet",
        "push the plate to the side until it is in the cabinet",
        "shove the plate into the cabinet beside it",
    ),
    "push": _task(
        "hard",
        "push the puck to the goal",
        "slide the puck forwards over the table to the marked spot",
        "shove the puck onto the target",
    ),
    "push-back": _task(
        "hard",
        "pull the puck back to the goal",
        "drag the puck towards you to the marked spot",
        "slide the puck backwards onto the target",
    ),
    "push-wall": _task(
        "medium",
        "push the puck around the wall to the goal",
        "slide the puck past the wall to the marked spot",
        "shove the puck onto the target behind the wall",
    ),
    "reach": _task(
        "easy",
        "move the hand to the goal",
        "reach the marked point",
        "bring the gripper to the target",
    ),
    "reach-wall": _task(
        "easy",
        "move the hand over the wall to the goal",
        "reach the marked point behind the wall",
        "bring the gripper past the wall to the target",
    ),
    "shelf-place": _task(
        "very hard",
        "put the block on the shelf",
        "pick up the block and set it down on the shelf",
        "place the block into the shelf at the goal",
    ),
    "soccer": _task(
        "medium",
        "push the soccer ball into the net",
        "score a goal with the ball",
        "roll the soccer ball into the goal",
    ),
    "stick-pull": _task(
        "very hard",
        "pull the thermos to the goal with the stick",
        "pick up the stick and drag the thermos with it",
        "use the stick to pull the thermos",
    ),
    "stick-push": _task(
        "very hard",
        "push the thermos to the goal with the stick",
        "pick up the stick and shove the thermos with it",
        "use the stick to push the thermos",
    ),
    "sweep": _task(
        "medium",
        "sweep the block off the table",
        "push the block over the edge of the table",
        "clear the block from the table to the side",
    ),
    "sweep-into": _task(
        "medium",
        "sweep the block into the hole",
        "push the block over the table until it falls into the hole",
        "slide the block to the hole in the table",
    ),
    "window-close": _task(
        "easy",
        "close the window",
        "slide the window shut by its handle",
        "push the open window closed",
    ),
    "window-open": _task(
        "easy",
        "open the window",
        "slide the window open by its handle",
        "push the closed window open",
    ),
}
