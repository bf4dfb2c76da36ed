"""``vla codes show``: what an image codec is, and how good it is on a dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.codes.fit import print_measured
from vla.cli.command import console, parse, show_config, write_result
from vla.core.config import to_dict
from vla.training.codes.settings import FramesConfig

_EXAMPLES = """  vla codes show codes/place
  vla codes show codes/place --data data/place --sheet sheet.png"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Say what a codec is: vla codes show CODES. With --data it is measured on the pictures of a dataset."""

    codes: Annotated[Path, tyro.conf.Positional]
    """Folder of the codec."""
    data: str | None = None
    """Path or URL of a dataset with pictures of the codec's size; those of --split, or of a tenth of its episodes."""
    frames: Annotated[FramesConfig, tyro.conf.arg(name="")] = field(default_factory=FramesConfig)
    sheet: Path | None = None
    """Write some of the pictures beside what the codec makes of them to this PNG."""
    json: Path | None = None
    """Write what was measured to this file."""


def main(argv: list[str]) -> int:
    """Read, and measure if asked to."""
    arguments = parse(Arguments, argv, verb="codes show", examples=_EXAMPLES)
    from vla.models.pictures.folder import load_image_codec, read_codec_document, read_image_codec

    spec, _ = read_image_codec(arguments.codes)
    codec = load_image_codec(arguments.codes)
    rows, columns = codec.grid
    show_config(f"image codec {arguments.codes}", to_dict(spec.config))
    height, width = spec.image_size
    console().print(f"pictures of {height} x {width} → {rows} x {columns} tokens of {codec.size:,}")
    found = read_codec_document(arguments.codes, "measured")
    if arguments.data is not None:
        from vla.core.files import write_atomic
        from vla.datasets.dataset import Dataset
        from vla.models.pictures.measures import measure
        from vla.models.pictures.sheet import contact_sheet
        from vla.training.codes.frames import read_frames

        pictures = read_frames(Dataset.open(arguments.data), arguments.frames, 0).held_out
        measured = measure(codec, pictures)
        print_measured(measured)
        found = measured.to_json()
        if arguments.sheet is not None:
            write_atomic(arguments.sheet, contact_sheet(codec, pictures))
    else:
        coded, mean = found["coded"], found["mean_image"]
        console().print(
            f"on pictures that it was not fitted to: {coded['whole']:.1f} dB, object pixels {coded['objects']:.1f} dB "
            f"(the mean picture {mean['whole']:.1f} and {mean['objects']:.1f})"
        )
    write_result(arguments.json, found)
    return 0
