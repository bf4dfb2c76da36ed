"""Recipes are read strictly: every mistake names the file, the key and the fix."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from vla.core.config import from_dict, load_recipe, to_dict
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
    with pytest.raises(ConfigError, match=r"none.yaml does not exist; recipes in .*: recipe.yaml"):
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
