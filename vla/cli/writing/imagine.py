"""``vla imagine``: what a checkpoint believes that it will see when it is done."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse

_EXAMPLES = """  vla imagine runs/modalities/checkpoint --out goal.png
  vla imagine runs/modalities/checkpoint --env tabletop/place --seed 500007 --out goal.png
  vla imagine runs/modalities/checkpoint "put the red block on the blue plate" --out goal.png"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draw the end of a scene as a checkpoint imagines it: vla imagine CHECKPOINT. Another INSTRUCTION, another end.

    Beside it stand the beginning and, where there is an expert, what that makes of it.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A checkpoint with a writer of pictures."""
    instruction: Annotated[str, tyro.conf.Positional] = ""
    """What is to be done; by default what the scene says."""
    env: str = "tabletop/place"
    """The scene's environment."""
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value."""
    seed: int = 500_000
    """Which scene."""
    steps: int = 0
    """Let the checkpoint drive for so many steps first."""
    out: Path = Path("goal.png")
    """The picture."""


def main(argv: list[str]) -> int:
    """Write the picture and say where."""
    arguments = parse(Arguments, argv, verb="imagine", examples=_EXAMPLES)
    from dataclasses import replace

    from vla.cli.writing.scene import captioned, open_scene
    from vla.core.files import write_atomic
    from vla.envs.recording import finish
    from vla.envs.registry import env_spec, make_expert

    scene = open_scene(arguments.checkpoint, arguments.env, arguments.set, seed=arguments.seed, steps=arguments.steps)
    said = arguments.instruction or scene.observation.instruction
    (picture,) = scene.policy.imagine([replace(scene.observation, instruction=said)])
    camera = scene.policy.camera
    pictures = [("now", scene.observation.images[camera]), ("imagined", picture)]
    if not arguments.instruction and env_spec(arguments.env).expert is not None:
        expert = make_expert(arguments.env, scene.env)
        pictures.append(("as the expert leaves it", finish(scene.env, expert)[0]["images"][camera]))
    write_atomic(arguments.out, captioned(f"{said}\n{arguments.env}, scene {arguments.seed}", pictures))
    console().print(f"{said} → {arguments.out}")
    return 0
