"""A policy with settings goes by one name at every verb: they stand behind it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.policies.pi0 import write_contract, write_pi0
from vla.cli.serve import _named
from vla.core.provenance import folder_digest
from vla.deploy.serving.server import DEFAULT

_SCENES = ("--env", "tabletop/place", "--set", "image_size=16", "max_steps=4")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers.models.pi0", reason="π0 is transformers'")
    folder = tmp_path_factory.mktemp("settings")
    return f"hf-pi0,folder={write_pi0(folder / 'pi0')},contract={write_contract(folder / 'pi0.yaml')}"


def test_it_is_evaluated_against_another_and_the_result_knows_its_files(
    call: Callable, name: str, tmp_path: Path
) -> None:
    out, few = tmp_path / "out", ("--episodes", "1", "--workers", "1", "--batch", "1")
    answer = call("eval", name, "--against", "random", *few, *_SCENES, "--out", out)
    assert answer.code == 0, answer.err
    result = json.loads((out / "result.json").read_text())
    folder, file = (Path(setting.partition("=")[2]) for setting in name.split(",")[1:])
    expected = {"name": name, "digest": f"{folder_digest(folder)} {folder_digest(file)}"}
    assert result["a"]["policy"] == expected
    assert "Loading weights" not in answer.err
    page = tmp_path / "table.md"
    assert call("report", out, "--markdown", page).code == 0
    assert "hf-pi0,folder=pi0,contract=pi0.yaml" in page.read_text()
    file.write_text(file.read_text() + "# another\n")
    again = call("eval", name, "--against", "random", *few, *_SCENES, "--out", out)
    assert again.code == 2, "what was evaluated with another contract file is no part of this evaluation"


def test_it_drives_a_robot(call: Callable, name: str, tmp_path: Path) -> None:
    where = ("--env", "tabletop/place", "--set", "image_size=16", "max_steps=40")
    answer = call("run", "--policy", name, *where, "--json", tmp_path / "run.json")
    assert answer.code == 0, answer.err
    (episode,) = json.loads((tmp_path / "run.json").read_text())["episodes"]
    drive = episode["drive"]
    assert (drive["steps"], drive["failures"]) == (40, 0)
    assert 0 < drive["inferences"] <= 20  # two steps of each chunk are executed


def test_a_server_tells_a_name_of_a_client_from_a_setting() -> None:
    assert _named(["hf-pi0,folder=a,contract=b"]) == {DEFAULT: "hf-pi0,folder=a,contract=b"}
    assert _named(["pi=hf-pi0,folder=a", "new=runs/new"]) == {"pi": "hf-pi0,folder=a", "new": "runs/new"}
