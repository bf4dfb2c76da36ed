"""``vla ask``: questions to a checkpoint about what it sees."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result

_EXAMPLES = """  vla ask runs/modalities/checkpoint "what is left of the red block"
  vla ask runs/modalities/checkpoint "what do you hold" --env tabletop/place --seed 500007 --steps 20
  vla ask runs/modalities/checkpoint "where is the red block?" --out found.png
  vla ask runs/modalities/checkpoint --env tabletop/sort --out asked.png"""
_MOST = 12


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Ask a checkpoint that was trained to answer, about a scene: vla ask CHECKPOINT QUESTION ….

    Without a question it is asked a dozen that the scene knows the answers to.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A checkpoint with a writer of text."""
    question: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """What is asked; several are asked one by one."""
    env: str = "tabletop/place"
    """The scene's environment."""
    set: tuple[str, ...] = ()
    """Settings of the environment as key=value."""
    seed: int = 500_000
    """Which scene."""
    steps: int = 0
    """Let the checkpoint drive for so many steps first."""
    out: Path | None = None
    """Also draw the scene with questions and answers into this PNG, and in it the boxes that are answered."""
    json: Path | None = None
    """Write questions, answers, and what would be right where the scene knows it, to this file."""


def main(argv: list[str]) -> int:
    """Print what is answered, and whether that is so where the scene knows."""
    arguments = parse(Arguments, argv, verb="ask", examples=_EXAMPLES)
    from rich.table import Table

    from vla.cli.writing.scene import captioned, framed, open_scene
    from vla.core.errors import ConfigError
    from vla.core.files import write_atomic
    from vla.core.media.boxes import read_box
    from vla.envs.spec import Questioned

    scene = open_scene(arguments.checkpoint, arguments.env, arguments.set, seed=arguments.seed, steps=arguments.steps)
    known = scene.env.questions() if isinstance(scene.env, Questioned) else ()
    truth = {question.text: question.answer for question in known}
    if isinstance(scene.env, Questioned) and scene.success:
        deed = scene.env.deed()
        truth[deed.text] = deed.answer
    asked = (
        tuple(question.rstrip(" ?") for question in arguments.question)
        or tuple(truth)[:: max(1, len(truth) // _MOST)][:_MOST]
    )
    if not asked:
        raise ConfigError(f"ask: {arguments.env} knows no questions; say one")
    said = scene.policy.ask([scene.observation] * len(asked), asked)
    table = Table("question", "answer", "right", box=None, padding=(0, 2, 0, 0))
    for question, answer in zip(asked, said, strict=True):
        table.add_row(question, answer, _judged(answer, truth.get(question, "")))
    console().print(f"[dim]{scene.observation.instruction or arguments.env}, scene {arguments.seed}[/dim]")
    console().print(table)
    rows = [
        {"question": question, "answer": answer, "right": truth.get(question)}
        for question, answer in zip(asked, said, strict=True)
    ]
    if arguments.out is not None:
        lines = "\n".join(f"{row['question']}?  {row['answer']}" for row in rows[:_MOST])
        boxes = [box for answer in said[:_MOST] if (box := read_box(answer)) is not None]
        picture = framed(scene.env.render(), boxes)
        write_atomic(arguments.out, captioned(f"{arguments.env}, scene {arguments.seed}", [(lines, picture)]))
    write_result(arguments.json, {"env": arguments.env, "seed": arguments.seed, "answers": rows})
    return 0


def _judged(answer: str, right: str) -> str:
    """What would be right, and whether it was said; of a box, how much of both is shared."""
    from vla.core.media.boxes import overlap, read_box

    said, true = read_box(answer), read_box(right)
    if said is not None and true is not None:
        return f"{right}, intersection over union {overlap(said, true):.2f}"
    return right if right != answer else f"{right} ✓"
