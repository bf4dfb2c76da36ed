"""What all verbs share: parsing into a dataclass, showing the resolved configuration, progress, results as JSON."""

import contextlib
import inspect
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vla.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which Ray the engine ``ray`` uses: an option of each verb that has this engine."""

    address: str | None = None
    """Ray cluster to join: HOST:PORT of its head, ray://HOST:PORT or auto; by default what RAY_ADDRESS says, else none:
    a Ray of its own, as with ``local``."""


_FILE_WIDTH = 140


def parse(arguments: type[T], argv: Sequence[str], *, verb: str, examples: str, default: T | None = None) -> T:
    """Fill the dataclass ``arguments`` from the command line; its docstrings are the help."""
    import tyro

    if any(word.partition("=")[0].replace("_", "-") == "--api-key" for word in argv):  # whose error would show it
        raise ConfigError(
            "a key is never given on the command line, where others see it: write it into a file and name that with "
            "--api-key-file, or set VLA_API_KEY"
        )
    description = f"{inspect.cleandoc(arguments.__doc__ or '')}\n\nexamples:\n{examples}"
    extra: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            # A part that may be missing has the flags of what it is by default: none, if it is missing.
            config = (tyro.conf.AvoidSubcommands,)
            filled: T = tyro.cli(
                arguments, args=list(argv), prog=f"vla {verb}", description=description, config=config, **extra
            )
    except SystemExit as end:
        if not end.code:  # help
            raise
        raise ConfigError(f"{_in_a_line(said.getvalue())}; vla {verb} --help tells more") from None
    for value in vars(filled).values():
        if isinstance(value, Cluster) and value.address is not None:
            os.environ["RAY_ADDRESS"] = value.address
    return filled


def _in_a_line(box: str) -> str:
    """What tyro says in a box: the mistake, and the options that it takes for what was meant."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first is the title; where the terminal has no lines there is no frame
        text = line.strip("│╭╰╮╯ ")
        if text.strip("─-"):
            sections[-1].append(text)
        elif sections[-1]:
            sections.append([])
    mistake, *others = sections
    meant = [line.split()[0] for section in others if section and "meant" in section[0] for line in _flags(section)]
    hint = f"; did you mean {' or '.join(dict.fromkeys(meant))}?" if meant else ""
    return " ".join(mistake or ["the command line is not understood"]) + hint


def _flags(section: Sequence[str]) -> Iterator[str]:
    return (line for line in section[1:] if line.startswith("-"))


def show_config(title: str, config: Any) -> None:
    """Print the resolved configuration as YAML."""
    import yaml

    from vla.core.config import to_dict

    value = config if isinstance(config, dict) else to_dict(config)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    console().print(f"[bold]{title}[/bold]")
    console().print(text.rstrip(), markup=False, highlight=False, style="dim")


def console() -> Any:
    """The terminal; what goes to a file or a pipe is not folded to the width of one."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(file=sys.stdout, highlight=False, soft_wrap=not terminal, width=None if terminal else _FILE_WIDTH)


def progress(*columns: str) -> Any:
    """A progress bar with the named extra fields behind it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    extra = [TextColumn("{task.fields[" + name + "]}") for name in columns]
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *extra,
        console=console(),
        transient=False,
    )


def write_result(path: Path | None, value: Any) -> None:
    """Write a machine-readable result where ``--json`` says."""
    if path is not None:
        from vla.core.files import write_json

        write_json(path, value)
