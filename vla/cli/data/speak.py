"""``vla data speak``: the instructions of datasets said aloud, by several voices."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, progress, write_result
from vla.core.errors import ConfigError
from vla.sound.voices import TRAINING

_EXAMPLES = """  vla data speak data/place --out data/place-spoken
  vla data speak data/monday data/tuesday --out data/spoken --voices en-us en-us+linda en-gb-scotland --takes 2
  vla data speak --sentences "put the mug away" "stop" --out data/spoken"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Let each voice say each distinct instruction of the datasets, as far as the speech bank lacks it.

    Rate and pitch differ a little from sound to sound, as the seed says. One voice speaks in no bank: vla eval with
    --speech en-us-nyc+f1 tells whether a policy understands somebody it has never heard.
    """

    datasets: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Paths or URLs."""
    out: Path
    """Folder of the speech bank: a new one, or one to go on with."""
    sentences: tuple[str, ...] = ()
    """Also, or only, these."""
    voices: tuple[str, ...] = TRAINING
    """Who speaks."""
    takes: int = 1
    """Times that each voice says each sentence."""
    seed: int = 0
    json: Path | None = None
    """Write what is in the bank to this file."""


def main(argv: list[str]) -> int:
    """Speak what is missing, and say what there is."""
    arguments = parse(Arguments, argv, verb="data speak", examples=_EXAMPLES)
    if not (arguments.datasets or arguments.sentences):
        raise ConfigError("speak: what? name a dataset, or give --sentences")
    if arguments.takes < 1:
        raise ConfigError(f"speak: takes={arguments.takes} must be at least 1")
    import numpy as np

    from vla.core.machine.packages import require_package
    from vla.datasets.dataset import Dataset
    from vla.sound.bank import speak
    from vla.sound.synthesis import has_words

    require_package("espeakng_loader", "speech")
    sentences = {*arguments.sentences}
    for path in arguments.datasets:
        texts, codes = Dataset.open(path).episodes.column("instruction")
        sentences |= {texts[code] for code in np.unique(codes) if has_words(texts[code])}
    with progress() as bar:
        task = bar.add_task("speaking", total=None)
        bank = speak(
            arguments.out,
            sorted(sentences),
            arguments.voices,
            takes=arguments.takes,
            seed=arguments.seed,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    voices = {sound.voice for sound in bank.sounds}
    console().print(
        f"{arguments.out}: {len(bank.sounds):,} sounds of {len(bank.by_text):,} sentences by {len(voices)} voices",
        markup=False,
    )
    said_by = {text: [sound.voice for sound in sounds] for text, sounds in bank.by_text.items()}
    write_result(arguments.json, {"sounds": len(bank.sounds), "seed": bank.seed, "voices": said_by})
    return 0
