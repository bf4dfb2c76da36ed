"""States: what is loaded is what was saved, and a torn one is never chosen."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vla.core.config import to_dict
from vla.core.contract import Contract
from vla.core.errors import CheckpointError, ContractError, VlaError
from vla.core.policy_spec import DatasetVersion, PolicySpec
from vla.models.model import Model
from vla.models.trunk.attention import Transformer
from vla.models.trunk.config import TransformerConfig
from vla.training.optimiser import build_optimisers
from vla.training.recipe import OptimiserConfig, TrainConfig
from vla.training.state import Position, claim_data, claim_run, load_state, save_state

MakeRecipe = Callable[..., TrainConfig]


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


def test_torn_states_are_not_chosen(tmp_path: Path) -> None:
    _, _, position = _save(tmp_path)
    good = tmp_path / "states" / f"{position.step:08d}"
    shutil.copytree(good, good.with_name(".tmp-00000009-1"))
    shutil.copytree(good, good.with_name("00000008"))
    (good.with_name("00000008") / "state.json").unlink()
    model = _Model()
    optimisers = build_optimisers(model, OptimiserConfig())
    assert load_state(tmp_path, model, _average(model), optimisers) == position


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    _save(tmp_path)
    path = tmp_path / "states" / "00000003" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    model = _Model()
    with pytest.raises(CheckpointError, match=r"state\.safetensors is truncated"):
        load_state(tmp_path, model, _average(model), build_optimisers(model, OptimiserConfig()))


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


def test_a_run_that_has_states_belongs_to_its_recipe(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    claim_run(tmp_path, to_dict(make_recipe()))
    _save(tmp_path)
    claim_run(tmp_path, to_dict(make_recipe()))
    with pytest.raises(CheckpointError, match=r"optimiser\.lr: 0\.002 there, 0\.5 here.*--out"):
        claim_run(tmp_path, to_dict(make_recipe(optimiser={"lr": 0.5})))


def test_a_run_that_saved_nothing_may_change_its_recipe(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    claim_run(tmp_path, to_dict(make_recipe()))
    claim_run(tmp_path, to_dict(make_recipe(batch=2)))
    _save(tmp_path)
    with pytest.raises(CheckpointError, match="batch: 2 there, 8 here"):
        claim_run(tmp_path, to_dict(make_recipe()))


def test_data_is_claimed_by_one_worker_and_checked_by_all(tmp_path: Path) -> None:
    mine, other = (
        Contract(
            robot="arm", cameras=(), state=(), action=(), control_hz=10.0,
            policy=PolicySpec(
                kind="unified", horizon=8, execute=4, relative_to=(), robots=("arm",), statistics=(digest,),
                datasets=(DatasetVersion(path="d", manifest=1),), preprocessor=digest, tokenizer="t", model={},
            ),
        )
        for digest in ("aa", "bb")
    )  # fmt: skip
    claim_data(tmp_path, mine, write=False)
    assert not (tmp_path / "contract.json").exists()
    claim_data(tmp_path, other, write=True)
    claim_data(tmp_path, mine, write=True)  # nothing has been trained on the other
    _save(tmp_path)
    for write in (True, False):
        claim_data(tmp_path, mine, write=write)
        with pytest.raises(ContractError, match=r"statistics of the training data: aa there, bb here.*restore"):
            claim_data(tmp_path, other, write=write)
