"""Recipes: YAML files that hold only what differs from the defaults of frozen dataclasses, loaded strictly."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vla.core.errors import ConfigError, UnknownNameError
from vla.core.lookup import lookup

T = TypeVar("T")


def load_recipe(cls: type[T], path: Path) -> T:
    """Build ``cls`` from the differences in a YAML file; unknown keys and wrong types name the key and the fix."""
    try:
        value = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path()
        known = ", ".join(sorted(p.name for p in folder.glob("*.yaml"))) or "none"
        raise ConfigError(f"recipe {path} does not exist; recipes in {folder}: {known}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from None
    return from_dict(cls, value or {}, where=str(path))


def from_dict(cls: type[T], value: Any, *, where: str, key: str = "") -> T:
    """Build the dataclass ``cls`` from nested dictionaries, strictly."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {key or 'the file'} must be a mapping of keys to values, got {value!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    built = {}
    for name, item in value.items():
        try:
            lookup("key", str(name), fields)
        except UnknownNameError as error:
            raise ConfigError(f"{where}: {key + ': ' if key else ''}{error}") from None
        built[name] = _convert(hints[name], item, where=where, key=f"{key}.{name}" if key else name)
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {key or cls.__name__}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain JSON values that `from_dict` reads back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def _convert(hint: Any, value: Any, *, where: str, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where=where, key=key)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where=where, key=key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {key} must be a list, got {value!r}")
        return tuple(_convert(args[0], v, where=where, key=f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: {key} must be a mapping, got {value!r}")
        if args[1] is Any:
            return value
        names = [_convert(args[0], name, where=where, key=f"a key of {key}") for name in value]
        return {name: _convert(args[1], value[name], where=where, key=f"{key}.{name}") for name in names}
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        note = "; YAML reads 1e-4 as a string, write 1.0e-4" if hint is float and isinstance(value, str) else ""
        raise ConfigError(f"{where}: {key} must be {hint.__name__}, got {value!r} ({type(value).__name__}){note}")
    return value
