"""Checkpoints from strangers: refused in one line, soon, within bounds; what is sound in them acts.

Documents are sealed anew after they were spoiled, as whoever forges one does.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import HOSTILE, HOW, ODD, paths_in, refuse_or_read, spoiled, within_bounds
from tests.tiny import TINY
from vla.core.config import from_dict
from vla.core.errors import CheckpointError
from vla.core.sealed import COMMIT, seal_folder
from vla.core.types import Observation
from vla.models.checkpoint import load_model
from vla.policies.learned import LearnedPolicy
from vla.training.engines import train
from vla.training.recipe import TrainConfig


@pytest.fixture(scope="module")
def checkpoint(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = {**TINY, "data": {"path": str(dataset), "validation": 0.2}}
    return train(from_dict(TrainConfig, recipe, where="a test"), tmp_path_factory.mktemp("hostile") / "run")


def forge(checkpoint: Path, copy: Path, name: str, text: str) -> None:
    """A copy with another document, whose seal is right."""
    shutil.copytree(checkpoint, copy)
    (copy / name).unlink()
    (copy / name).write_text(text)
    (copy / COMMIT).unlink()
    seal_folder(copy)


def act(checkpoint: Path) -> None:
    policy = LearnedPolicy(checkpoint, device="cpu")
    images = {camera.name: np.zeros(camera.shape, np.uint8) for camera in policy.contract.cameras}
    state = np.zeros(len(policy.contract.state), np.float32)
    (chunk,) = policy.act([Observation(images=images, state=state, instruction="go", time_ns=0)])
    assert chunk is not None
    assert np.isfinite(chunk.actions).all()


@pytest.mark.parametrize("name", ["contract.json", "preprocessor.json", "tokenizer.json", "provenance.json"])
@HOSTILE
@given(data=st.data())
def test_hostile_documents(checkpoint: Path, name: str, data: st.DataObject) -> None:
    value = json.loads((checkpoint / name).read_text())
    way = data.draw(st.sampled_from(sorted(paths_in(value), key=str)))
    changed = spoiled(value, way, data.draw(ODD), data.draw(HOW))
    copy = checkpoint.parent / "outside" / "copy"
    try:
        forge(checkpoint, copy, name, json.dumps(changed))
        with within_bounds(copy):
            refuse_or_read(lambda: act(copy))
    finally:
        shutil.rmtree(copy.parent)


@pytest.mark.parametrize(
    ("way", "size"),
    [
        (("trunk", "width"), 10**9),
        (("trunk", "layers"), 10**9),
        (("readers", "images", "channels"), 10**7),
        (("readers", "images", "tokens"), 10**9),
        (("head", "bins"), 10**9),
        (("horizon",), 10**9),
    ],
)
def test_absurd_sizes_take_no_memory(checkpoint: Path, tmp_path: Path, way: tuple[str, ...], size: int) -> None:
    value = json.loads((checkpoint / "contract.json").read_text())
    place = value["policy"]["model"]
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = size
    forge(checkpoint, tmp_path / "copy", "contract.json", json.dumps(value))
    with (
        within_bounds(tmp_path / "copy"),
        pytest.raises(CheckpointError, match=r"of a smaller one|no model can be|horizon is"),
    ):
        load_model(tmp_path / "copy")
