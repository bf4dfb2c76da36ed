"""In which order readers stand in the sequence. Free of heavy imports."""

from collections.abc import Mapping

from vla.core.errors import ConfigError
from vla.models.readers.config import ReaderConfig


def in_order(readers: Mapping[str, ReaderConfig]) -> dict[str, ReaderConfig]:
    """The same, each behind those that it asks; else in the order in which they stand. `ConfigError` if one is missing.

    A recipe adds a reader at the end, and may not say where else.
    """
    placed: dict[str, ReaderConfig] = {}

    def place(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ConfigError(f"model.readers: {' asks '.join((*above, name))}: no reader can come before itself")
        for asked in readers[name].asked:
            if asked not in readers:
                raise ConfigError(
                    f"model.readers.{name} asks {asked!r}, and there is no such reader; there are {', '.join(readers)}"
                )
            place(asked, (*above, name))
        placed.setdefault(name, readers[name])

    for name in readers:
        place(name, ())
    return placed
