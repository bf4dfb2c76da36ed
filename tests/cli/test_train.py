"""``vla train`` on a mixture, and with a part of another kind."""

from collections.abc import Callable
from pathlib import Path

import yaml

from vla.models.checkpoint import read_blueprint

_SMALL = {
    "engine": "inline",
    "workers": 1,
    "batch": 4,
    "steps": 2,
    "log_steps": 1,
    "precision": "float32",
    "model": {"trunk": {"width": 32, "layers": 1, "heads": 2}, "readers": {"text": {"heads": 2}}},
}


def test_a_mixture_and_another_head(call: Callable, dataset: Path, tmp_path: Path) -> None:
    mixture = {"slots": ["front", "wrist"], "image_size": [16, 16], "entries": [{"path": str(dataset)}]}
    recipe = tmp_path / "mixture.yaml"
    recipe.write_text(yaml.safe_dump({**_SMALL, "data": {"mixture": mixture}}))
    answer = call("train", recipe, "--out", tmp_path / "run", "--model.head.kind", "tokens", "--seed", "3")
    assert answer.code == 0, answer.err
    blueprint = read_blueprint(tmp_path / "run" / "checkpoint")
    assert blueprint.preprocessor.image_size == (16, 16)
    assert blueprint.contract.policy is not None
    assert blueprint.contract.policy.model["head"]["kind"] == "tokens"


def test_help_and_mistyped_flags_know_every_key_of_a_recipe(call: Callable, dataset: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump({**_SMALL, "data": {"path": str(dataset)}}))
    answer = call("train", recipe, "--help")
    assert answer.code == 0
    assert "--model.head.bins" in answer.out
    assert "could not create" not in (answer.out + answer.err).lower()
