"""What all verbs share: parsing into a dataclass, showing the resolved configuration, progress, results as JSON."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_FILE_WIDTH = 140


def parse(arguments: type[T], argv: Sequence[str], *, verb: str, examples: str, default: T | None = None) -> T:
    """Fill the dataclass ``arguments`` from the command line; its docstrings are the help."""
    import tyro

    description = f"{inspect.cleandoc(arguments.__doc__ or '')}\n\nexamples:\n{examples}"
    extra: dict[str, Any] = {} if default is None else {"default": default}
    filled: T = tyro.cli(arguments, args=list(argv), prog=f"vla {verb}", description=description, **extra)
    return filled


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


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs of environment settings; values are YAML."""
    import yaml

    from vla.core.errors import ConfigError

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"setting {pair!r} must be key=value, as in blocks=3")
        settings[key] = yaml.safe_load(value)
    return settings
