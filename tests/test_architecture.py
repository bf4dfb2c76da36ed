"""Who may import whom, read from the sources; each rule is also shown to fail on a small synthetic file."""

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALL = {
    *("core", "sound", "models", "datasets", "envs", "policies", "deploy"),
    *("evaluation", "collection", "training", "search", "report", "bench", "paradigms", "cli"),
}
MAY_IMPORT = {
    "core": set(),
    "sound": {"core"},
    "models": {"core", "sound"},
    "datasets": {"core"},
    "envs": {"core"},
    "policies": {"core", "models"},
    "deploy": {"core", "policies", "models", "envs", "datasets"},
    "evaluation": {"core", "envs", "sound"},
    "collection": {"core", "datasets", "envs"},
    "search": {"core", "datasets"},
    "training": ALL - {"deploy", "search", "report", "bench", "paradigms", "cli"},
    "report": {"core", "envs", "evaluation", "training", "datasets", "search"},
    "bench": ALL - {"cli"},
    "paradigms": ALL - {"deploy", "cli"},
    "cli": ALL,
}
EXCEPTIONS = {
    "vla.policies.table": {"evaluation", "deploy"},  # the registry: whatever acts has a name there
    "vla.evaluation.evaluate": {"policies"},  # takes policies by these names
}
"""What single files may import besides, inside functions only."""
CLIENT_MAY_IMPORT = {"numpy", "msgpack", "websockets", "vla.deploy.wire", "vla.core.errors"}
UNSAFE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
REGISTRIES = {
    "vla.envs.registry",
    "vla.envs.tabletop.table",
    "vla.envs.robosuite.table",
    "vla.datasets.formats.table",
    "vla.bench.table",
    "vla.models.config",
    "vla.models.kinds.baselines",
    "vla.models.kinds.language",
    "vla.models.kinds.table",
    "vla.models.kinds.two_tower",
    "vla.models.kinds.unified",
    "vla.policies.table",
}
"""Modules that put names to things: the only ones that import from folders whose modules import from theirs."""
MOST_LINES, MOST_MODULES = 350, 16
HEAVY = {"torch", "ray", "mujoco", "zarr", "transformers", "gymnasium", "matplotlib"}


@dataclass(frozen=True)
class Source:
    """One file of ours: its dotted name and its syntax tree."""

    name: str
    tree: ast.Module
    lines: int = 0

    @property
    def part(self) -> str:
        """The folder under ``vla``."""
        return self.name.split(".")[1]

    @cached_property
    def imports(self) -> "Sequence[Import]":
        """All of it, in functions too."""
        return tuple(_imports(self.tree))


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the file imports it."""

    module: str
    line: int
    at_once: bool
    names: tuple[str, ...] = ()
    """What is taken from it: names, or modules of a package."""

    def within(self, *packages: str) -> bool:
        """Whether it is one of ``packages`` or inside one."""
        return any(self.module == p or self.module.startswith(p + ".") for p in packages)


def _imports(node: ast.AST, at_once: bool = True) -> Iterator[Import]:
    """Every import below ``node``, those inside functions too; ``from vla import x`` counts as ``vla.x``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            names = tuple(alias.name for alias in child.names)
            modules = [f"vla.{name}" for name in names] if module == "vla" else [module]
            yield from (Import(found, child.lineno, at_once, names) for found in modules)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from _imports(child, at_once and not inside and not typing_only)


def _layers(source: Source) -> Iterator[str]:
    allowed = MAY_IMPORT[source.part] | {source.part}
    for found in source.imports:
        if found.module.startswith("."):
            yield f"line {found.line}: imports are absolute, got {found.module}"
        elif found.within("vla") and found.module.split(".")[1] not in allowed:
            if not found.at_once and found.module.split(".")[1] in EXCEPTIONS.get(source.name, set()):
                continue
            yield f"line {found.line}: {source.part} must not import {found.module}"


def _client(source: Source) -> Iterator[str]:
    if source.name != "vla.deploy.client":
        return
    for found in source.imports:
        if not found.within(*CLIENT_MAY_IMPORT, *sys.stdlib_module_names):
            yield f"line {found.line}: the client runs on robots and must not import {found.module}"


def _unsafe(source: Source) -> Iterator[str]:
    for found in source.imports:
        if found.within(*UNSAFE):
            yield f"line {found.line}: {found.module} runs code from data"


def _printing(source: Source) -> Iterator[str]:
    if source.part == "cli":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"line {node.lineno}: only the command line prints"


def _heavy(source: Source) -> Iterator[str]:
    if source.part != "cli":
        return
    for found in source.imports:
        if found.at_once and found.within(*HEAVY):
            yield f"line {found.line}: import {found.module} inside the command, so that --help is instant"


def _long(source: Source) -> Iterator[str]:
    if source.lines > MOST_LINES:
        yield f"{source.lines} lines, more than {MOST_LINES}: it holds more than one idea"


Rule = Callable[[Source], Iterator[str]]
RULES: dict[str, Rule] = {
    "layers": _layers,
    "client": _client,
    "unsafe": _unsafe,
    "printing": _printing,
    "heavy": _heavy,
    "long": _long,
}


def _edges(sources: Sequence[Source], *, at_once: bool) -> dict[str, set[str]]:
    """For each module, those of ``sources`` that it imports; with ``at_once``, only when it is imported itself."""
    known = {source.name for source in sources}

    def needs(source: Source) -> set[str]:
        found = [item for item in source.imports if item.at_once or not at_once]
        return {name for item in found for name in (item.module, *(f"{item.module}.{n}" for n in item.names))} & known

    return {source.name: needs(source) for source in sources}


def _cycles(sources: Sequence[Source]) -> Iterator[str]:
    """Modules that cannot be imported without each other."""
    waiting = _edges(sources, at_once=True)
    while free := {name for name, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
    if waiting:
        yield f"import cycle among {', '.join(sorted(waiting))}"


def _pairs(sources: Sequence[Source]) -> Iterator[str]:
    """Folders, a folder and one inside it among them, that import from each other."""
    towards: dict[tuple[str, str], list[str]] = {}
    for name, needs in _edges(sources, at_once=False).items():
        for needed in needs if name not in REGISTRIES else ():
            pair = name.rpartition(".")[0], needed.rpartition(".")[0]
            towards.setdefault(pair, []).append(f"{name} → {needed}")
    for (here, there), imports in sorted(towards.items()):
        if here < there and (there, here) in towards:
            yield f"{here} and {there} need each other: {imports[0]}, and {towards[there, here][0]}"


def _crowds(sources: Sequence[Source]) -> Iterator[str]:
    """Folders in which nothing is found at a glance."""
    for folder, count in Counter(source.name.rpartition(".")[0] for source in sources).items():
        if count > MOST_MODULES:
            yield f"{folder} has {count} modules, more than {MOST_MODULES}: group those that belong together"


WHOLE_RULES: dict[str, Callable[[Sequence[Source]], Iterator[str]]] = {
    "cycles": _cycles,
    "pairs": _pairs,
    "crowds": _crowds,
}
"""Rules about all files together."""


@cache
def _sources() -> Sequence[Source]:
    """Every Python file of the package; the linked folders are entered by name, since rglob follows no links."""
    files = [(folder, file) for folder in (ROOT / "vla").iterdir() if folder.is_dir() for file in folder.rglob("*.py")]
    texts = [(".".join(file.relative_to(ROOT).with_suffix("").parts), file.read_text()) for _, file in sorted(files)]
    return [Source(name, ast.parse(text, name), lines=text.count("\n")) for name, text in texts]


@pytest.mark.parametrize("rule", RULES)
def test_the_sources_keep_the_rule(rule: str) -> None:
    broken = [f"{source.name}: {text}" for source in _sources() for text in RULES[rule](source)]
    assert broken == []


@pytest.mark.parametrize("rule", WHOLE_RULES)
def test_the_whole_keeps_the_rule(rule: str) -> None:
    assert list(WHOLE_RULES[rule](_sources())) == []


def test_exceptions_are_needed() -> None:
    """A registry that is gone leaves the list above."""
    assert {source.name for source in _sources()} >= REGISTRIES


def test_every_folder_is_looked_at() -> None:
    parts = {source.part for source in _sources()}
    assert parts <= set(MAY_IMPORT)
    assert {"core", "models", "datasets", "envs", "policies", "deploy", "training"} <= parts


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        ("layers", "vla.core.x", "import vla.models.bins"),
        ("layers", "vla.core.x", "def f():\n    from vla.envs.registry import env_spec"),
        ("layers", "vla.models.x", "from vla.datasets.dataset import Dataset"),
        ("layers", "vla.datasets.x", "from vla import models"),
        ("layers", "vla.envs.x", "from vla.policies.learned import LearnedPolicy"),
        ("layers", "vla.policies.x", "class A:\n    def f(self):\n        import vla.envs.registry"),
        ("layers", "vla.policies.table", "from vla.evaluation.baselines import ExpertPolicy"),
        ("layers", "vla.sound.x", "from vla.models.trunk.inputs import Sound"),
        ("layers", "vla.policies.x", "def f():\n    from vla.evaluation.baselines import ExpertPolicy"),
        ("layers", "vla.policies.table", "def f():\n    import vla.training.loop"),
        ("layers", "vla.policies.x", "from vla.datasets.dataset import Dataset"),
        ("layers", "vla.deploy.x", "from vla.training.loop import train"),
        ("layers", "vla.training.x", "from vla.deploy.serving.server import serve"),
        ("layers", "vla.training.x", "import vla.cli.main"),
        ("layers", "vla.report.x", "from vla.models.bins import BinCodec"),
        ("layers", "vla.envs.x", "from .registry import env_spec"),
        ("client", "vla.deploy.client", "import torch"),
        ("client", "vla.deploy.client", "def f():\n    from vla.core.types import Observation"),
        ("unsafe", "vla.training.x", "import pickle"),
        ("unsafe", "vla.deploy.x", "def f():\n    from cloudpickle import loads"),
        ("printing", "vla.envs.x", "def f():\n    print('hello')"),
        ("heavy", "vla.cli.x", "import torch.nn as nn"),
        ("heavy", "vla.cli.x", "try:\n    from ray import train\nexcept ImportError:\n    pass"),
    ],
)
def test_rules_can_fail(rule: str, name: str, text: str) -> None:
    assert list(RULES[rule](Source(name, ast.parse(text)))) != []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vla.core.x", "import json\nimport numpy as np\nfrom vla.core.errors import VlaError"),
        ("vla.cli.x", "def f():\n    import torch\n    print(torch.__version__)"),
        ("vla.cli.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("vla.policies.table", "def f():\n    from vla.evaluation.baselines import ExpertPolicy"),
        ("vla.deploy.client", "import os\nimport websockets.sync.client\nfrom vla.deploy.wire import pack"),
    ],
)
def test_rules_can_be_kept(name: str, text: str) -> None:
    assert [line for rule in RULES.values() for line in rule(Source(name, ast.parse(text)))] == []


def _many(**texts: str) -> list[Source]:
    """Modules by name, ``__`` for a dot."""
    return [Source("vla." + name.replace("__", "."), ast.parse(text)) for name, text in texts.items()]


@pytest.mark.parametrize(
    ("rule", "sources"),
    [
        ("cycles", _many(core__a="import vla.core.b", core__b="from vla.core.a import f")),
        ("cycles", _many(a__x="import vla.b.y", b__y="import vla.c.z", c__z="import vla.a.x", d__w="import vla.a.x")),
        ("cycles", _many(core__a="from vla.core import b", core__b="from vla.core.a import f")),
        ("pairs", _many(a__x="import vla.a.b.y", a__b__y="from vla.a.z import f", a__z="")),
        ("pairs", _many(a__x="def f():\n    import vla.b.y", b__y="", b__z="import vla.a.w", a__w="")),
        ("pairs", _many(envs__open_loop="import vla.envs.fetch.table", envs__fetch__table="import vla.envs.open_loop")),
        ("crowds", _many(**{f"a__m{number}": "" for number in range(MOST_MODULES + 1)})),
    ],
)
def test_rules_about_the_whole_can_fail(rule: str, sources: list[Source]) -> None:
    assert list(WHOLE_RULES[rule](sources)) != []


def test_a_file_can_be_too_long() -> None:
    assert list(_long(Source("vla.core.x", ast.parse(""), lines=MOST_LINES))) == []
    assert list(_long(Source("vla.core.x", ast.parse(""), lines=MOST_LINES + 1))) != []


@pytest.mark.parametrize(
    "sources",
    [
        _many(core__a="def f():\n    import vla.core.b", core__b="import vla.core.a"),
        _many(envs__registry="import vla.envs.fetch.table", envs__fetch__table="import vla.envs.spec", envs__spec=""),
        _many(**{f"a__m{number}": "" for number in range(MOST_MODULES)}, a__b__c=""),
    ],
)
def test_rules_about_the_whole_can_be_kept(sources: list[Source]) -> None:
    assert [line for rule in WHOLE_RULES.values() for line in rule(sources)] == []
