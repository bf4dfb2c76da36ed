"""The command answers at once: help loads nothing heavy, and a mistyped verb gets a suggestion."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from vla.cli.main import VERBS

HEAVY = {"torch", "ray", "mujoco", "zarr", "transformers", "gymnasium", "tokenizers", "matplotlib"}
_PROBE = """
import contextlib, io, json, sys
from vla.cli.main import main
answers = {}
for verb in [None, *json.loads(sys.argv[1])]:
    sys.argv = ["vla", *([verb] if verb else []), "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            code = main()
        except SystemExit as end:
            code = end.code or 0
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    answers[verb or ""] = {"code": code, "said": said.getvalue(), "loaded": loaded}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, dict]:
    """What each ``--help`` said, and the modules loaded after it."""
    command = [sys.executable, "-c", _PROBE, json.dumps(list(VERBS))]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_has_examples_and_loads_nothing_heavy(answers: dict[str, dict], verb: str) -> None:
    answer = answers[verb]
    assert answer["code"] == 0
    assert "examples:" in answer["said"]
    assert f"vla {verb}".strip() in answer["said"]
    assert not HEAVY & set(answer["loaded"])


def test_help_names_every_verb(answers: dict[str, dict]) -> None:
    assert all(verb in answers[""]["said"] for verb in VERBS)


def test_an_unknown_verb_gets_a_suggestion(call: Callable) -> None:
    answer = call("evl")
    assert answer.code == 2
    assert "did you mean 'eval'?" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_no_verb_shows_the_help_and_fails(call: Callable) -> None:
    answer = call()
    assert answer.code == 2
    assert answer.out.startswith("usage: vla")


def test_the_version(call: Callable) -> None:
    answer = call("--version")
    assert answer.code == 0
    assert answer.out.startswith("vla 0.")


def test_the_environments_are_listed(call: Callable, tmp_path) -> None:
    answer = call("envs", "--json", tmp_path / "envs.json")
    assert answer.code == 0
    assert "tabletop/place" in answer.out
    assert json.loads((tmp_path / "envs.json").read_text())["environments"][0]["name"] == "tabletop/place"


@pytest.mark.parametrize("arguments", ["--help", "envs", "eval --help"])
def test_a_closed_pipe_leaves_no_traceback(arguments: str) -> None:
    command = f"{sys.executable} -u -m vla.cli.main {arguments} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=100)
    assert done.stdout
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
