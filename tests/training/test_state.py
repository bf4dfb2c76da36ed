"""States: what is loaded is what was saved, and a torn one is never chosen."""

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vla.core.errors import CheckpointError, VlaError
from vla.core.sealed import COMMIT
from vla.models.model import Model
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.training.optimiser import build_optimisers
from vla.training.recipe import OptimiserConfig
from vla.training.state import Position, load_state, save_state, settle_states


class _Model(Model):
    """A table for AdamW and matrices for Muon."""

    loss = predict = None  # type: ignore[assignment]

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(5, 8)
        self.trunk = Transformer(TransformerConfig(width=8, layers=1, heads=2))

    def step(self, optimisers: list[torch.optim.Optimizer], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimiser in optimisers:
            optimiser.step()


def _average(model: nn.Module) -> dict[str, Tensor]:
    return {k: 2 * v for k, v in model.state_dict().items()}


def _save(run: Path, step: int = 3) -> tuple[_Model, list[torch.optim.Optimizer], Position]:
    model = _Model()
    optimisers = build_optimisers(model, OptimiserConfig())
    for seed in range(step):
        model.step(optimisers, seed)
    position = Position(step=step, consumed=8 * step, seconds=1.25 * step)
    save_state(run, position, model, _average(model), optimisers)
    return model, optimisers, position


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model, optimisers, position = _save(tmp_path)
    other = _Model(seed=1)
    others, average = build_optimisers(other, OptimiserConfig()), _average(other)
    assert load_state(tmp_path, other, average, others) == position
    assert all(torch.equal(average[k], 2 * v) for k, v in model.state_dict().items())
    for mine, theirs in zip(optimisers, others, strict=True):
        a, b = mine.state_dict()["state"], theirs.state_dict()["state"]
        assert a.keys() == b.keys()
        for index in a:
            assert a[index].keys() == b[index].keys()
            assert all(torch.equal(a[index][key], b[index][key]) for key in a[index])
    model.step(optimisers, seed=99)
    other.step(others, seed=99)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_fresh_run_begins_at_zero(tmp_path: Path) -> None:
    model = _Model()
    assert load_state(tmp_path, model, _average(model), []) == Position()


def _load(run: Path) -> Position:
    model = _Model()
    return load_state(run, model, _average(model), build_optimisers(model, OptimiserConfig()))


def _flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "states").iterdir())


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", COMMIT])
def test_no_flipped_bit_is_resumed_from(tmp_path: Path, name: str) -> None:
    _save(tmp_path)
    path = tmp_path / "states" / "00000003" / name
    for bit in np.random.default_rng(0).choice(8 * path.stat().st_size, 20, replace=False).tolist():
        _flip(path, bit)
        with pytest.raises(CheckpointError, match=rf"{name}.* cannot be resumed from|{name}.*copy"):
            _load(tmp_path)
        _flip(path, bit)
    assert _load(tmp_path).step == 3


def test_a_damaged_state_is_set_aside_for_the_one_before(tmp_path: Path) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
    path = tmp_path / "states" / "00000002" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    told: list[str] = []
    settle_states(tmp_path, told.append)
    (line,) = told
    assert re.search(
        r"00000002: state\.safetensors has \d+ bytes, expected \d+; .*set aside as damaged-.* 00000001$", line
    )
    assert "\n" not in line
    assert _load(tmp_path).step == 1
    assert [name.split("-")[:2] for name in _names(tmp_path)] == [["00000001"], ["damaged", "00000002"]]
    _save(tmp_path, 2)
    settle_states(tmp_path, told.append)
    assert (len(told), _load(tmp_path).step) == (1, 2)


def test_where_no_state_is_whole_nothing_is_touched(tmp_path: Path) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
        (tmp_path / "states" / f"{step:08d}" / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"no state of .* is whole: .*00000002: state\.json is missing.*--init"):
        settle_states(tmp_path, pytest.fail)
    assert _names(tmp_path) == ["00000001", "00000002"]


def test_states_of_an_earlier_version_are_told_apart(tmp_path: Path) -> None:
    _save(tmp_path)
    (tmp_path / "states" / "00000003" / COMMIT).unlink()
    with pytest.raises(CheckpointError, match=r"00000003 has no seal: vla 2\.0 or older wrote it"):
        settle_states(tmp_path, pytest.fail)


def test_what_a_crash_left_is_swept_and_never_in_the_way(tmp_path: Path) -> None:
    """The number of a process repeats in a container: no name is made of it."""
    _, _, position = _save(tmp_path)
    states = tmp_path / "states"
    for name in (".unfinished-00000004-0badcafe", f".tmp-00000004-{os.getpid()}"):
        shutil.copytree(states / "00000003", states / name)
    shutil.copytree(states / "00000003", tmp_path / ".unfinished-checkpoint-0badcafe")
    (tmp_path / ".metrics.jsonl.x7f3").write_text("half a li")
    assert _load(tmp_path) == position
    _save(tmp_path, 4)
    settle_states(tmp_path, pytest.fail)
    assert _names(tmp_path) == ["00000003", "00000004"]
    assert [path.name for path in tmp_path.iterdir()] == ["states"]


def test_a_full_disk_leaves_the_last_state_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, position = _save(tmp_path)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for function in (os.fsync, os.rename):
        with monkeypatch.context() as patch:
            patch.setattr(os, function.__name__, full)
            with pytest.raises(OSError, match="No space"):
                _save(tmp_path, 4)
        assert _names(tmp_path) == ["00000003"]
    assert _load(tmp_path) == position


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _save(tmp_path, step)
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["00000002", "00000003"]


def test_saving_a_step_again_keeps_what_is_there(tmp_path: Path) -> None:
    _save(tmp_path)
    before = (tmp_path / "states" / "00000003" / "state.safetensors").stat().st_mtime_ns
    _save(tmp_path)
    assert (tmp_path / "states" / "00000003" / "state.safetensors").stat().st_mtime_ns == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = _Model()
    average = _average(model)
    average["table.weight"][0, 0] = float("nan")
    with pytest.raises(VlaError, match="diverged at step 5"):
        save_state(tmp_path, Position(step=5), model, average, build_optimisers(model, OptimiserConfig()))
    assert not (tmp_path / "states").exists()
