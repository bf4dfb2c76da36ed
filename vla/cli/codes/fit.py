"""``vla codes fit``: an image codec of a dataset's pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.models.pictures.config import PRESETS, ImageCodecConfig, PatchCodesConfig, QuantiserConfig, VqConfig
from vla.training.codes.settings import FramesConfig

if TYPE_CHECKING:
    from vla.models.pictures.measures import Measured

_EXAMPLES = """  vla codes fit data/place codes/place
  vla codes fit data/place codes/fine --side 4 --codes 1024
  vla codes fit data/place codes/learned --kind vq --minutes 10
  vla codes fit data/place codes/vectors --kind vq --quantiser.kind nearest --minutes 10
  vla codes fit data/place codes/robot --preset robot --minutes 10"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Fit a codec to the pictures of a dataset: vla codes fit DATA OUT [--kind patches|vq] [--preset NAME].

    Some episodes are held out, and what is printed is of their pictures: PSNR of whole pictures and of object pixels,
    which differ from the median picture of their camera by more than 24 levels in some channel, beside the mean
    picture. OUT/sheet.png shows some of them.
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path or URL."""
    out: Annotated[Path, tyro.conf.Positional]
    """A new folder."""
    codec: Annotated[ImageCodecConfig, tyro.conf.arg(name="")] = field(default_factory=PatchCodesConfig)
    frames: Annotated[FramesConfig, tyro.conf.arg(name="")] = field(default_factory=FramesConfig)
    preset: str | None = None
    """A learned codec by name, instead of --kind: paper (512 px), seed (256 px), robot (64 to 128 px)."""
    manifest: int | None = None
    """Version of the dataset; the latest by default."""
    threads: int = 1
    """Of the processor, for what is learned."""
    json: Path | None = None
    """Write what was measured to this file."""


def main(argv: list[str]) -> int:
    """Fit with a progress bar, and print how good it is."""
    arguments = parse(_asking_for(_default(argv)), argv, verb="codes fit", examples=_EXAMPLES)
    import torch

    from vla.datasets.dataset import Dataset
    from vla.training.codes.fit import fit_image_codec

    torch.set_num_threads(arguments.threads)
    dataset = Dataset.open(arguments.dataset, arguments.manifest)
    if arguments.preset is not None:
        for camera in dataset.contract.cameras:
            if camera.name in arguments.frames.cameras or not arguments.frames.cameras:
                PRESETS[arguments.preset].require((camera.shape[0], camera.shape[1]))
    with progress("text") as bar:
        task = bar.add_task(f"fit {arguments.codec.kind}", total=100, text="")

        def on_progress(fraction: float, text: str) -> None:
            bar.update(task, completed=round(100 * fraction), text=text)

        measured = fit_image_codec(dataset, arguments.out, arguments.codec, arguments.frames, progress=on_progress)
        bar.update(task, completed=100)
    print_measured(measured)
    console().print(f"codec: {arguments.out}, some pictures: {arguments.out / 'sheet.png'}")
    write_result(arguments.json, measured.to_json())
    return 0


def print_measured(measured: "Measured") -> None:
    """A table of ratios, and in a line how many codes do it."""
    from rich.table import Table

    table = Table("PSNR, dB", box=None, padding=(0, 2, 0, 0))
    for title in ("whole picture", "object pixels"):
        table.add_column(title, justify="right")
    rows = {"coded": measured.coded, "mean picture": measured.mean_image}
    rows |= {f"coded, {name}": found for name, found in measured.cameras.items()}
    for name, found in rows.items():
        table.add_row(name, *("–" if value != value else f"{value:.1f}" for value in (found.whole, found.objects)))
    console().print(table)
    console().print(
        f"{measured.pictures:,} pictures, {measured.object_share:.0%} of their pixels of objects; {measured.tokens} "
        f"tokens a picture, {measured.used:,} of {measured.codes:,} codes used, perplexity {measured.perplexity:.0f}"
    )


def _asking_for(codec: ImageCodecConfig) -> type[Arguments]:
    """`Arguments` of which the codec is by default this one, while the dataset and the folder have no default."""
    own = ("codec", Annotated[ImageCodecConfig, tyro.conf.arg(name="")], field(default_factory=lambda: codec))
    made = make_dataclass("Arguments", [own], bases=(Arguments,), frozen=True, kw_only=True)
    made.__doc__ = Arguments.__doc__
    return made


def _default(argv: Sequence[str]) -> ImageCodecConfig:
    """The codec of the kind or the preset that is asked for: it decides which flags there are."""
    kind, quantiser, named = (_value(argv, flag) for flag in ("--kind", "--quantiser.kind", "--preset"))
    if named is not None:
        if kind not in (None, "vq"):
            raise ConfigError(f"--preset {named} is a learned codec, and --kind {kind} is none; give one of them")
        return lookup("preset", named, PRESETS).config
    own, group = ImageCodecConfig.table(), ImageCodecConfig.group
    codec = lookup(ImageCodecConfig.what, kind or "patches", own, group=group)
    if quantiser is not None and codec is VqConfig:
        known = QuantiserConfig.table()
        found = lookup(QuantiserConfig.what, quantiser, known, group=QuantiserConfig.group)
        return VqConfig(quantiser=found(kind=quantiser))
    return codec(kind=kind or "patches")


def _value(argv: Sequence[str], name: str) -> str | None:
    """What stands behind a flag."""
    for i, word in enumerate(argv):
        flag, given, value = word.partition("=")
        if flag == name and (given or i + 1 < len(argv)):
            return value if given else argv[i + 1]
    return None
