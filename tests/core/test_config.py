"""Recipes are read strictly: every mistake names the file, the key and the fix."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from vla.core.config import Kinded, from_dict, load_recipe, to_dict
from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A nested configuration."""

    width: int = 8

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ConfigError(f"inner.width={self.width} must be even")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """One field of each kind that recipes may hold."""

    lr: float = 1e-3
    steps: int = 10
    name: str = "a"
    resume: bool = False
    kind: Literal["step", "joint"] = "step"
    path: Path = Path("data")
    limit: int | None = None
    rates: tuple[float, ...] = (0.9, 0.95)
    inner: Inner = field(default_factory=Inner)
    settings: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Inner, ...] = ()
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Required:
    """A configuration without defaults."""

    seed: int


def _read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(Outer, path)


def test_only_differences_are_needed(tmp_path: Path) -> None:
    assert _read(tmp_path, "# a comment alone\n") == Outer()
    text = "{lr: 1, kind: joint, path: x/y, limit: 3, rates: [1, 0.5], inner: {width: 4}, settings: {blocks: 1}}"
    expected = Outer(
        lr=1.0, kind="joint", path=Path("x/y"), limit=3, rates=(1.0, 0.5), inner=Inner(width=4), settings={"blocks": 1}
    )
    assert _read(tmp_path, text) == expected
    assert type(_read(tmp_path, "lr: 1").lr) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step: 3", "unknown key 'step': did you mean 'steps'"),
        ("inner: {wdth: 3}", "inner: unknown key 'wdth': did you mean 'width'"),
        ("lr: 1e-4", "lr must be float, got '1e-4' .str.; YAML reads 1e-4 as a string, write 1.0e-4"),
        ("steps: 1.5", "steps must be int, got 1.5"),
        ("steps: true", "steps must be int, got True"),
        ("resume: 1", "resume must be bool, got 1"),
        ("name: 3", "name must be str, got 3"),
        ("kind: steps", "kind must be one of step, joint, got 'steps'"),
        ("rates: 0.9", "rates must be a list, got 0.9"),
        ("rates: [0.9, x]", r"rates\[1\] must be float, got 'x'"),
        ("inner: 3", "inner must be a mapping of keys to values, got 3"),
        ("inner: {width: x}", "inner.width must be int, got 'x'"),
        ("inner: {width: 3}", "inner.width=3 must be even"),
        ("settings: [1]", "settings must be a mapping"),
        ("limit: x", "limit must be int, got 'x'"),
        ("parts: {width: 2}", "parts must be a list"),
        ("parts: [{width: 2}, 4]", r"parts\[1\] must be a mapping of keys to values, got 4"),
        ("parts: [{}, {wdth: 2}]", r"parts\[1\]: unknown key 'wdth': did you mean 'width'"),
        ("parts: [{width: 3}]", "inner.width=3 must be even"),
        ("names: {a: 3}", "names.a must be str, got 3"),
        ("names: {1: b}", "a key of names must be str, got 1"),
        ("[1, 2]", "the file must be a mapping"),
        ("lr: [", "is not valid YAML"),
    ],
)
def test_mistakes_name_the_key_and_the_fix(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _read(tmp_path, text)


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: steps must be int"):
        _read(tmp_path, "steps: x")


def test_missing_recipe_lists_its_neighbours(tmp_path: Path) -> None:
    _read(tmp_path, "lr: 1.0")
    with pytest.raises(ConfigError, match=r"none.yaml does not exist: .*vla: demo, .*; recipes there: .*recipe.yaml"):
        load_recipe(Outer, tmp_path / "none.yaml")


def test_missing_required_key() -> None:
    with pytest.raises(ConfigError, match="seed"):
        from_dict(Required, {}, where="here")


def test_what_to_dict_writes_reads_back() -> None:
    config = Outer(
        path=Path("a/b"),
        rates=(0.1,),
        inner=Inner(width=2),
        settings={"colours": ["red"]},
        parts=(Inner(width=4), Inner()),
        names={"a": "b"},
    )
    assert from_dict(Outer, to_dict(config), where="here") == config


# -- configurations that come in kinds -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Codec(Kinded):
    """The interface."""

    what: ClassVar[str] = "kind of codec"
    group: ClassVar[str] = "vla.test_codecs"

    weight: float = 1.0

    @classmethod
    def table(cls) -> Mapping[str, type["Codec"]]:
        return {"bins": BinsCodec, "tokens": TokensCodec, "bare": BareCodec}


@dataclass(frozen=True, kw_only=True)
class BinsCodec(Codec):
    """A kind with settings of its own."""

    kind: str = "bins"
    bins: int = 64
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class TokensCodec(Codec):
    """A kind inside of which there is another."""

    kind: str = "tokens"
    size: int = 512
    codec: Codec = field(default_factory=lambda: BinsCodec(bins=8))


@dataclass(frozen=True, kw_only=True)
class BareCodec(Codec):
    """A kind that must be given a setting."""

    kind: str = "bare"
    width: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """One configuration of a kind, and several by name."""

    codec: Codec = field(default_factory=lambda: BinsCodec(bins=32))
    other: Codec | None = None
    parts: dict[str, Codec] = field(
        default_factory=lambda: {"first": BinsCodec(bins=16), "second": TokensCodec(), "third": BinsCodec()}
    )


def _model(**value: Any) -> Model:
    return from_dict(Model, value, where="here")


def _with_second(codec: Codec) -> Model:
    return Model(parts={**Model().parts, "second": codec})


def test_nothing_said_is_the_default() -> None:
    assert _model() == Model()


def test_a_kind_is_chosen() -> None:
    assert _model(codec={"kind": "tokens", "size": 9}).codec == TokensCodec(size=9)
    assert _model(codec={"kind": "bare", "width": 3}).codec == BareCodec(width=3)
    nested = {"kind": "tokens", "codec": {"kind": "bare", "width": 2}}
    assert _model(codec=nested).codec == TokensCodec(codec=BareCodec(width=2))


def test_without_a_kind_the_default_is_changed_in_part() -> None:
    assert _model(codec={"weight": 0.5}).codec == BinsCodec(bins=32, weight=0.5)
    assert _model(codec={"inner": {"width": 4}}).codec == BinsCodec(bins=32, inner=Inner(width=4))
    assert _model(codec={}).codec == BinsCodec(bins=32)
    assert _model(codec={"kind": "bins", "weight": 0.5}).codec == BinsCodec(bins=32, weight=0.5)


def test_another_kind_begins_from_its_own_defaults() -> None:
    assert _model(codec={"kind": "tokens"}).codec == TokensCodec()
    assert _model(parts={"second": {"kind": "bins"}}).parts["second"] == BinsCodec()


def test_an_optional_kind() -> None:
    assert _model(other=None).other is None
    assert _model(other={"kind": "bins", "bins": 3}).other == BinsCodec(bins=3)
    with pytest.raises(ConfigError, match="here: other needs a kind: bare, bins, tokens"):
        _model(other={"bins": 3})


def test_mappings_are_merged_with_their_defaults() -> None:
    default = Model().parts
    assert _model(parts={}).parts == default
    assert _model(parts={"first": {"weight": 2.0}}).parts == default | {"first": BinsCodec(bins=16, weight=2.0)}
    added = _model(parts={"fourth": {"kind": "bins", "bins": 5}}).parts
    assert added == default | {"fourth": BinsCodec(bins=5)}
    assert list(added) == ["first", "second", "third", "fourth"]
    assert _model(parts={"second": None, "none": None}).parts == {k: v for k, v in default.items() if k != "second"}
    assert _model(parts={"first": None, "second": None, "third": None}).parts == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"codec": {"kind": "bin"}},
            "here: codec: unknown kind of codec 'bin': did you mean 'bins'.*known: bare, bins",
        ),
        ({"codec": {"kind": 3}}, "here: codec needs a kind: bare, bins, tokens"),
        ({"codec": 3}, "here: codec must be a mapping of keys to values, got 3"),
        ({"codec": {"bns": 3}}, "here: codec: unknown key 'bns': did you mean 'bins'"),
        ({"codec": {"kind": "tokens", "bins": 3}}, "here: codec: unknown key 'bins'"),
        ({"codec": {"bins": "x"}}, "here: codec.bins must be int, got 'x'"),
        ({"codec": {"inner": {"width": 3}}}, "inner.width=3 must be even"),
        ({"codec": {"kind": "bare"}}, "here: codec: .*width"),
        ({"parts": [3]}, "here: parts must be a mapping"),
        ({"parts": {"new": {"bins": 3}}}, "here: parts.new needs a kind: bare, bins, tokens"),
        ({"parts": {"first": {"bns": 3}}}, "here: parts.first: unknown key 'bns'"),
        ({"parts": {"second": {"codec": {"bns": 3}}}}, "here: parts.second.codec: unknown key 'bns'"),
        ({"parts": {3: {"kind": "bins"}}}, "here: a key of parts must be str, got 3"),
    ],
)
def test_mistakes_in_kinds_name_the_key_and_the_fix(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Model, value, where="here")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of somebody else: a kind of theirs, and a class that is none."""
    (tmp_path / "their_own_codecs.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import Any\n"
        "from vla.core.config import Kinded\n"
        f"from {__name__} import Codec\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Theirs(Codec):\n"
        '    kind: str = "their_own_codecs:Theirs"\n'
        "    depth: int = 1\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Another(Kinded):\n"
        '    kind: str = "another"\n'
    )
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Model.__module__])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_own_codecs", raising=False)
    return "their_own_codecs"


def test_a_class_of_ones_own(own_module: str) -> None:
    kind = f"{own_module}:Theirs"
    config = _model(codec={"kind": kind, "depth": 3}, parts={"mine": {"kind": kind}})
    assert type(config.codec).__name__ == "Theirs"
    assert to_dict(config.codec) == {"kind": kind, "weight": 1.0, "depth": 3}
    assert from_dict(Model, to_dict(config), where="here") == config
    with pytest.raises(ConfigError, match="here: codec: unknown key 'dpth': did you mean 'depth'"):
        _model(codec={"kind": kind, "dpth": 3})


def test_a_wrong_class_is_refused(own_module: str) -> None:
    for name in (f"{own_module}:Another", f"{own_module}:dataclass", "json:dumps"):
        with pytest.raises(ConfigError, match=f"here: codec: kind '{name}' is no Codec; name a class that derives"):
            _model(codec={"kind": name})
    for name in (f"{own_module}:Nothing", "no_such_module:Codec"):
        with pytest.raises(ConfigError, match=f"here: codec: kind of codec '{name}' cannot be imported"):
            _model(codec={"kind": name})


@pytest.mark.parametrize(
    "config",
    [
        Model(),
        Model(codec=TokensCodec(codec=BareCodec(width=7)), other=BinsCodec()),
        Model(parts={}),
        Model(parts={"second": TokensCodec(size=3), "new": BareCodec(width=2)}),
        Model(codec=replace(BinsCodec(), weight=0.0)),
    ],
)
def test_kinds_read_back(config: Model) -> None:
    assert from_dict(Model, to_dict(config), where="here") == config


def test_what_was_removed_stays_removed() -> None:
    assert to_dict(Model(parts={"first": BinsCodec()}))["parts"].items() >= {"second": None, "third": None}.items()


@pytest.mark.parametrize(
    ("recipe", "kinds", "expected"),
    [
        ("{}", {"codec.kind": "tokens"}, Model(codec=TokensCodec())),
        ("codec: {bins: 3}", {"codec.kind": "tokens"}, Model(codec=TokensCodec())),
        ("codec: {kind: tokens, size: 3}", {"codec.kind": "tokens"}, Model(codec=TokensCodec(size=3))),
        ("codec: {weight: 3.0}", {"codec.kind": "bins"}, Model(codec=BinsCodec(bins=32, weight=3.0))),
        ("parts: {second: {size: 3}}", {"parts.second.kind": "tokens"}, _with_second(TokensCodec(size=3))),
        ("parts: {second: {size: 3}}", {"parts.second.kind": "bins"}, _with_second(BinsCodec())),
        (
            "codec: {kind: tokens, size: 3, codec: {kind: bare, width: 3}}",
            {"codec.codec.kind": "bins"},
            Model(codec=TokensCodec(size=3)),
        ),
    ],
)
def test_kinds_of_the_command_line(tmp_path: Path, recipe: str, kinds: dict[str, str], expected: Model) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    assert load_recipe(Model, path, kinds=kinds) == expected


def _bomb(first: str, more: str) -> str:
    """Each line holds the one before it nine times."""
    lines = [more.format(name=y, items=",".join([f"*{x}"] * 9)) for x, y in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join([first, *lines, ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]", "nested deeper"),
        (_bomb("a: &a [0]", "{name}: &{name} [{items}]"), "values"),
        (_bomb("a: &a {x: 1}", "{name}: &{name} {{<<: [{items}]}}"), "values"),
        ("[" * 5000, "nested"),
        ("x: " + "9" * 5000, "not valid YAML"),
        ("x: " + "a" * 200_000, "bytes"),
        ("x: \x00", "not valid YAML"),
    ],
)
def test_recipes_that_grow_absurd_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        load_recipe(_Bomb, tmp_path / "bomb.yaml")
    assert "\n" not in str(refused.value)


@dataclass(frozen=True, kw_only=True)
class _Bomb:
    x: int = 0
