"""Recipes: YAML files that hold only what differs from the defaults of frozen dataclasses, loaded strictly.

A configuration that comes in kinds derives from `Kinded`; in a recipe, ``kind`` says which one::

    head: {kind: tokens, codec: {kind: bins, bins: 256}}

A mapping of such configurations is merged with its defaults: a key changes one, a new key adds one, and ``null``
removes one.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml

from vla.core.errors import ConfigError, UnknownNameError
from vla.core.lookup import lookup, similar

T = TypeVar("T")
RECIPES = Path(__file__).resolve().parents[1] / "configs"
"""The recipes that come with the package."""


@dataclass(frozen=True, kw_only=True)
class Kinded:
    """Base of configurations of which ``kind`` chooses one; the class of each interface names its table."""

    kind: str
    """Which one: a name of the table, of an entry point, or ``module:Name`` of a configuration class."""

    what: ClassVar[str] = "kind"
    """What an error calls it."""
    group: ClassVar[str] = ""
    """The entry point group in which packages offer their own."""

    @classmethod
    def table(cls) -> Mapping[str, type["Kinded"]]:
        """The classes of this project, by kind."""
        raise NotImplementedError


def require_at_least_one(config: object, *names: str, where: str) -> None:
    """Raise `ConfigError` for the first of these fields that is a number below 1; None is left to the defaults."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{where}{name}={value} must be at least 1")


_MOST_BYTES = 100_000
"""Of a recipe."""
_MOST_VALUES, _DEEPEST = 20_000, 30


class _Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice, the second time in line {key.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(problem=problem)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys of merge keys are copied, not shared: refuse what has grown absurd."""
        super().flatten_mapping(node)
        if len(node.value) > _MOST_VALUES:
            raise yaml.YAMLError("merge keys that give too many values")


def load_recipe(
    cls: type[T], path: str | Path, *, kinds: Mapping[str, str] | None = None, changes: Mapping[str, Any] | None = None
) -> T:
    """Build ``cls`` from the differences in a YAML file; unknown keys and wrong types name the key and the fix.

    ``path`` is a file, or the name of a recipe that comes with this package: see `find_recipe`.
    ``kinds`` are kinds that the command line asks for, by dotted key (``model.head.kind``). One that is not what the
    recipe says takes what the recipe says of the other kind with it. ``changes`` are nested as the file is, and win.
    """
    path = find_recipe(path)
    value = nested(read_yaml(path, what="recipe"), changes or {})
    for key, kind in (kinds or {}).items():
        _choose_kind(value, key.split("."), kind, default=cls())
    return from_dict(cls, value, where=str(path))


def read_yaml(path: Path, *, what: str) -> Any:
    """What a YAML file holds, strictly; ``what`` is what an error calls it."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{what} {path}: more than {_MOST_BYTES} bytes; a {what} holds only differences")
        value = yaml.load(data.decode(), _Strict)
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path()
        known = ", ".join(sorted(p.name for p in folder.glob("*.yaml"))) or "none"
        raise ConfigError(f"{what} {path} does not exist; {what}s in {folder}: {known}") from None
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {path} is not UTF-8 ({error}); is it the right file?") from None
    except RecursionError:
        raise ConfigError(f"{what} {path} is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{what} {path} is not valid YAML: {' '.join(str(error).split())[:300]}") from None
    _require_small(value, f"{what} {path}")
    return value or {}


def _require_small(value: Any, where: str) -> None:
    """Raise `ConfigError` if it holds absurdly much once its aliases are followed, or itself."""
    left, pending = _MOST_VALUES, [(value, 0)]
    while pending:
        item, depth = pending.pop()
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise ConfigError(
                f"{where}: more than {_MOST_VALUES} values, or nested deeper than {_DEEPEST}, aliases followed"
            )
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple | set) else ()
        pending += [(one, depth + 1) for one in inner]


def find_recipe(recipe: str | Path) -> Path:
    """A file as it is, or else the recipe of this name that comes with the package, in whatever folder one is."""
    path = Path(recipe)
    if path.is_file():
        return path
    ours = {file.stem: file for file in sorted(RECIPES.glob("*.yaml"))}
    name = str(recipe).removesuffix(".yaml")
    if name in ours:
        return ours[name]
    beside = [str(file) for file in sorted((path.parent if path.suffix else path).glob("*.yaml"))]
    close = similar(name, [*ours, *beside])
    hint = f"did you mean {close[0]}? " if close else ""
    what = "is a folder" if path.is_dir() else "does not exist"
    there = f"; recipes there: {', '.join(beside[:8])}" if beside else ""
    raise ConfigError(f"recipe {recipe} {what}: {hint}recipes that come with vla: {', '.join(ours)}{there}")


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs of settings, of an environment, a robot or a policy; values are YAML."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"setting {pair!r} must be key=value, as in blocks=3")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"setting {pair!r} is not valid YAML: {' '.join(str(error).split())}") from None
    return settings


def nested(value: Any, changes: Mapping[str, Any]) -> Any:
    """Nested mappings, key by key; anything else is replaced."""
    if not isinstance(value, dict):
        return value
    merged = dict(value)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = nested(old, change) if isinstance(old, dict) and isinstance(change, Mapping) else change
    return merged


def _choose_kind(value: Any, keys: list[str], kind: str, default: Any) -> None:
    """Write ``kind`` into nested mappings at ``keys``, the last of which is ``kind``.

    What is said there stays if it was of this kind, be it that it says so or that ``default``, the configuration of
    which ``value`` is the differences, is of it.
    """
    parent: Any = value
    said: str | None = kind
    for key in keys[:-1]:
        if not isinstance(value, dict):
            return
        default = default.get(key) if isinstance(default, Mapping) else getattr(default, key, None)
        parent, value = value, value.setdefault(key, {})
        implied = getattr(default, "kind", None)
        said = value.get("kind", implied) if isinstance(value, dict) else None
        if said != implied:  # of another kind's parts the default says nothing
            default = None
    if said != kind:
        parent[keys[-2]] = {"kind": kind}


def from_dict(cls: type[T], value: Any, *, where: str, key: str = "") -> T:
    """Build the dataclass ``cls`` from nested dictionaries, strictly."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {key or 'the file'} must be a mapping of keys to values, got {value!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    built = {}
    for name, item in value.items():
        try:
            field = lookup("key", str(name), fields)
        except UnknownNameError as error:
            raise ConfigError(f"{where}: {key + ': ' if key else ''}{error}") from None
        inner = f"{key}.{name}" if key else name
        built[name] = _convert(hints[name], item, where=where, key=inner, default=_default(field))
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {key or cls.__name__}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain JSON values that `from_dict` reads back."""
    return {f.name: _plain(getattr(config, f.name), _default(f)) for f in dataclasses.fields(config) if f.init}


def _plain(value: Any, default: Any = MISSING) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        removed = default.keys() - value.keys() if isinstance(default, Mapping) else ()
        return {k: _plain(v) for k, v in value.items()} | dict.fromkeys(sorted(removed))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _convert(hint: Any, value: Any, *, where: str, key: str, default: Any = MISSING) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, value, where=where, key=key, default=default)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: {key} must be one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        cls = typing.cast(type, hint)
        if issubclass(cls, Kinded):
            return _of_kind(cls, value, where=where, key=key, default=default)
        return from_dict(cls, value, where=where, key=key)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {key} must be a list, got {value!r}")
        return tuple(_convert(args[0], v, where=where, key=f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        return _mapping(args, value, where=where, key=key, default=default)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        note = "; YAML reads 1e-4 as a string, write 1.0e-4" if hint is float and isinstance(value, str) else ""
        raise ConfigError(f"{where}: {key} must be {hint.__name__}, got {value!r} ({type(value).__name__}){note}")
    return value


def _one_of(hints: tuple[Any, ...], value: Any, *, where: str, key: str, default: Any) -> Any:
    """The first member of a union that takes ``value``; the last one's complaint if none does."""
    if value is None and type(None) in hints:
        return None
    members = [hint for hint in hints if hint is not type(None)]
    for hint in members[:-1]:
        try:
            return _convert(hint, value, where=where, key=key, default=default)
        except ConfigError:
            continue
    return _convert(members[-1], value, where=where, key=key, default=default)


def _of_kind(base: type[Kinded], value: Any, *, where: str, key: str, default: Any) -> Any:
    """The configuration of the kind that ``value`` names, or of the default's; what is not said is the default's."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {key} must be a mapping of keys to values, got {value!r}")
    kind = value.get("kind", default.kind if isinstance(default, Kinded) else None)
    if not isinstance(kind, str):
        known = ", ".join(sorted(base.table()))
        raise ConfigError(f"{where}: {key} needs a kind: {known}")
    try:
        cls = lookup(base.what, kind, base.table(), group=base.group)
    except UnknownNameError as error:
        raise ConfigError(f"{where}: {key}: {error}") from None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{where}: {key}: kind {kind!r} is no {base.__name__}; name a class that derives from it")
    if isinstance(default, cls) and default.kind == kind:
        given = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
        changes = from_dict(cls, {"kind": kind} | value, where=where, key=key)
        given |= {name: getattr(changes, name) for name in value}
        return cls(**given)
    return from_dict(cls, {"kind": kind} | value, where=where, key=key)


def _mapping(args: tuple[Any, ...], value: Any, *, where: str, key: str, default: Any) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {key} must be a mapping, got {value!r}")
    if args[1] is Any:
        return value
    for name in value:
        _convert(args[0], name, where=where, key=f"a key of {key}")
    if not (isinstance(args[1], type) and issubclass(args[1], Kinded)):
        return {name: _convert(args[1], item, where=where, key=f"{key}.{name}") for name, item in value.items()}
    merged = dict(default) if isinstance(default, Mapping) else {}
    for name, item in value.items():
        if item is None:
            merged.pop(name, None)
        else:
            old = merged.get(name, MISSING)
            merged[name] = _convert(args[1], item, where=where, key=f"{key}.{name}", default=old)
    return merged
