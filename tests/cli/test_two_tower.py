"""``vla bench retrieval`` and ``vla data relabel --success-by``, from demonstrations with captions on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vla import collect
from vla.core.config import from_dict
from vla.datasets.dataset import Dataset
from vla.datasets.edit import relabel
from vla.training.engines import train
from vla.training.recipe import TrainConfig

RECIPE: dict[str, Any] = {
    "model": {
        "kind": "two-tower",
        "embedding": 16,
        "pictures": {"width": 16, "channels": 8, "tokens": 4, "layers": 1, "heads": 2},
        "sentences": {"width": 16, "layers": 1, "heads": 2},
        "hidden": 16,
        "layers": 1,
    },
    "engine": "inline",
    "workers": 1,
    "device": "cpu",
    "precision": "float32",
    "batch": 8,
    "steps": 2,
    "log_steps": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("described") / "data"
    settings = {"image_size": 32}
    collect(root, env="tabletop/place", settings=settings, episodes=10, captions=3, parts=3, workers=1)
    return root


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    strata = {"scenes": 0.4, "parts": 0.2}
    recipe = RECIPE | {"data": {"path": str(data), "validation": 0.4, "strata": strata}}
    return train(from_dict(TrainConfig, recipe, where="a test"), tmp_path_factory.mktemp("towers") / "run")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled") / "data"
    collect(root, env="tabletop/place", settings={"image_size": 32}, episodes=10, seed=700, workers=1)
    uids = Dataset.open(root).episodes.uids
    relabel(Dataset.open(root), {uid.decode(): {"success": False} for uid in uids[::2]}, "for a test")
    return root


def test_what_is_found_is_measured_on_what_was_held_out(
    call: Callable[..., Any], checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    answer = call("bench", "retrieval", checkpoint, data, "--probes", "4", "--json", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names[0].startswith("sentence to picture, not the first of 4 (")
    assert {name.split(", ")[0] for name in names} >= {"whole scenes", "what is beside what"}
    assert all(0 <= row["value"] <= 100 for row in rows)
    probed = [name for name in names if name.startswith("probe of ")]
    assert [name.split(", ")[0] for name in probed] == [f"probe of {kind}" for kind in ("binding", "side", "number")]
    assert all(name.endswith(" of 4)") for name in probed)
    assert [row["bar"] for row in rows if row["name"].startswith("probe of ")] == [10.0, None, None]
    answer = call("bench", "retrieval", checkpoint)
    assert (answer.code, "which of both?" in answer.err) == (2, True)


def test_without_captions_nothing_is_looked_for(call: Callable[..., Any], checkpoint: Path, labelled: Path) -> None:
    answer = call("bench", "retrieval", checkpoint, labelled)
    assert answer.code == 2
    assert "expected two captions or more of scenes" in answer.err


def test_episodes_are_labelled_where_the_checkpoint_is_sure(
    call: Callable[..., Any], checkpoint: Path, data: Path, labelled: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    shutil.copytree(data, logs)
    by = ("--success-by", checkpoint, "--calibrate", labelled)
    answer = call("data", "relabel", logs, *by, "--sure", "0.5", "--json", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    assert "AUROC" in answer.out
    kept = json.loads((tmp_path / "r.json").read_text())
    dataset = Dataset.open(logs)
    assert dataset.manifest.number == kept["manifest"]
    probable = kept["probability"]
    assert probable.keys() == {uid.decode() for uid in dataset.episodes.uids}
    assert all(record.success == (probable[record.uid] > 0.5) for record in dataset.episodes)
    assert kept["trust"]["auroc"]["successes"] == 3  # of five, half of which calibrated
    surest = max(max(p, 1 - p) for p in probable.values())
    answer = call("data", "relabel", logs, *by, "--sure", str(min(0.999999, surest + 1e-6)))
    assert answer.code == 2
    assert "the checkpoint was sure" in answer.err
    assert Dataset.open(logs).manifest.number == kept["manifest"]


def test_a_run_that_only_embeds_says_how_it_goes(call: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    model = RECIPE["model"] | {"action": 0.0}
    strata = {"scenes": 0.5}
    values = RECIPE | {"model": model, "data": {"path": str(data), "strata": strata}, "evaluators": ["held_out"]}
    recipe.write_text(yaml.safe_dump(values))
    answer = call("train", recipe, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "step 2  loss " in answer.out
    assert call("info", tmp_path / "run" / "checkpoint").code == 0
    env = ("--env", "tabletop/place", "--set", "image_size=32", "--episodes", "1")
    acted = call("eval", tmp_path / "run" / "checkpoint", *env)
    assert acted.code == 2
    assert "embeds, and does not act: it was trained with model.action=0" in acted.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "how sure may the checkpoint be?"),
        (("--calibrate", "DATA"), "all are successes"),
        (("--calibrate", "LABELLED", "--sure", "1.0"), "--sure 1.0 must be at least 0.5 and below 1"),
        (("--calibrate", "LABELLED", "--prompts", "ONE"), "failure has no sentence"),
        (("--calibrate", "LABELLED", "--prompts", "WORDS"), "was never told the words mug"),
        (("--calibrate", "LABELLED", "--set", "success=true"), "give one of --set"),
        (("--calibrate", "LABELLED", "--success", "False"), "no episode was chosen"),
    ],
)
def test_mistakes_are_one_line(
    call: Callable[..., Any], checkpoint: Path, data: Path, labelled: Path, tmp_path: Path, arguments: Any, words: str
) -> None:
    prompts = {"instructions": ["{what}"], "success": ["a red block on a blue plate"], "failure": []}
    forms = ["put the {a} on the {b}", "place the {a} on the {b}", "move the {a} to the {b}"]
    forms += ["set the {a} down on the {b}", "on the {b}, put the {a}"]
    (tmp_path / "one.json").write_text(json.dumps(prompts))
    (tmp_path / "words.json").write_text(
        json.dumps({"instructions": forms, "success": ["a mug"], "failure": ["a red"]})
    )
    places = {"DATA": data, "LABELLED": labelled, "ONE": tmp_path / "one.json", "WORDS": tmp_path / "words.json"}
    answer = call("data", "relabel", data, "--success-by", checkpoint, *(places.get(a, a) for a in arguments))
    assert answer.code == 2
    assert words in answer.err
    assert np.all(Dataset.open(data).episodes.success == 1)
