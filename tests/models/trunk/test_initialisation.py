"""Every parameter begins by exactly one rule, the one that the table says, and whoever has none is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from vla.models import unified
from vla.models.heads.bins import BinsHead
from vla.models.heads.config import HEADS, HeadConfig
from vla.models.model import Model
from vla.models.trunk import initialisation
from vla.models.trunk.block import Block
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.initialisation import INITIAL, Constant, Normal, account, initialise

MakeModel = Callable[..., Model]
EVERY: list[HeadConfig] = [config() for config in HEADS.values()]  # type: ignore[call-arg]
MODERN: dict[str, Any] = {"rope": 1e4, "gated": True, "qk_norm": True, "kv_heads": 1}


@pytest.mark.parametrize("settings", [{}, MODERN, MODERN | {"norm_offset": True}], ids=["plain", "modern", "offset"])
@pytest.mark.parametrize("head", EVERY, ids=HEADS.keys())
def test_every_parameter_begins_as_the_table_says(
    head: HeadConfig, settings: dict[str, Any], make_model: MakeModel
) -> None:
    """Deviations are measured, over all parts of a class."""
    model = make_model(head=head, committed=2, trunk=TransformerConfig(width=48, layers=2, heads=3, **settings))
    found: dict[tuple[str, str], list[torch.Tensor]] = {}
    for part in model.modules():
        for pattern, rule in INITIAL.get(type(part).__name__, {}).items():
            names = [name for name, _ in part.named_parameters() if initialisation.fnmatchcase(name, pattern)]
            for name in names:
                value = part.get_parameter(name).detach()
                counts = {None: 1, "inputs": value.shape[-1], "additions": 2 if value.shape[0] == 24 else 4}
                scale = counts[rule.by] ** 0.5 if isinstance(rule, Normal) else 1.0
                found.setdefault((type(part).__name__, pattern), []).append(value.flatten() * scale)
    for (name, pattern), values in found.items():
        rule = INITIAL[name][pattern]
        all_of_it = torch.cat(values)
        if isinstance(rule, Constant):
            # The text reader's norms do not follow the trunk's convention.
            allowed = {rule.value} if rule.value is not None else {1.0, 0.0} if settings.get("norm_offset") else {1.0}
            assert set(all_of_it.tolist()) <= allowed, (name, pattern)
        elif pattern not in ("out.weight", "down.weight"):  # of layers whose depths differ: below
            assert all_of_it.std().item() == pytest.approx(rule.std, rel=6 / len(all_of_it) ** 0.5), (name, pattern)
    assert {"TokenTable", "Norm", "Block", "ImageTokenizer", type(model.head).__name__, "CommittedReader"} <= {
        name for name, _ in found
    }


def test_every_row_is_of_a_class_that_exists() -> None:
    sources = [path.read_text() for path in Path(unified.__file__).parent.rglob("*.py")]
    assert [name for name in INITIAL if not any(f"class {name}(" in source for source in sources)] == []


@pytest.mark.parametrize("layers", [1, 8])
def test_what_is_added_to_the_stream_shrinks_with_depth(layers: int) -> None:
    block = Block(TransformerConfig(width=64, layers=layers))
    for weight in (block.out.weight, block.down.weight):
        assert weight.std().item() == pytest.approx(0.02 / (2 * layers) ** 0.5, rel=0.1)


class _Own(nn.Module):
    """A part of another package, with a parameter of its own beside a layer of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = nn.Linear(3, 3), nn.Parameter(torch.full((2,), 7.0))


class _Ruled(_Own):
    initial: ClassVar[Any] = {"own": Normal(0.5), "layer.bias": Constant(2.0)}


def test_a_part_of_a_package_begins_as_it_was_built(make_model: MakeModel) -> None:
    model = make_model()
    model.example = _Own()
    account(model)


def test_a_part_of_a_package_may_have_rules() -> None:
    torch.manual_seed(0)
    part = _Ruled()
    initialise(part)
    assert part.layer.bias.tolist() == [2.0] * 3
    assert part.own.abs().max() < 3
    account(nn.Sequential(part))


def test_a_parameter_without_a_rule_is_named(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    model.head.forgotten = nn.Parameter(torch.zeros(3))
    with pytest.raises(AssertionError, match=r"no rule says how .* begin: head\.forgotten; add their class to INITIAL"):
        account(model)
    monkeypatch.setattr(BinsHead, "__init__", _with_a_parameter_more(BinsHead.__init__))
    with pytest.raises(AssertionError, match=r"head\.forgotten"):
        make_model()


def _with_a_parameter_more(init: Callable[..., None]) -> Callable[..., None]:
    def built(self: nn.Module, *args: Any) -> None:
        init(self, *args)
        self.forgotten = nn.Parameter(torch.zeros(3))

    return built


def test_two_rules_for_one_parameter_are_named(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        initialisation, "INITIAL", {**INITIAL, "BinsHead": {**INITIAL["BinsHead"], "step*": Constant()}}
    )
    with pytest.raises(
        AssertionError, match=r"several rules .*head.step_position \(BinsHead step_position, BinsHead st"
    ):
        make_model()


def test_a_rule_that_names_nothing_is_noticed(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initialisation, "INITIAL", {**INITIAL, "StateReader": {"postion": Normal(0.02)}})
    with pytest.raises(AssertionError, match="StateReader has no parameter 'postion'"):
        make_model()


def test_the_table_is_read_aloud() -> None:
    """The page to read first says what is applied, row by row."""
    text = unified.__doc__ or ""
    for name, rules in INITIAL.items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        for pattern, rule in rules.items():
            assert pattern in line
            assert str(rule) in line


def test_numbers_are_those_of_before(make_model: MakeModel) -> None:
    """From one seed the weights of every version so far: checkpoints say nothing of a seed, results do."""
    weights = make_model().state_dict()
    before = {
        "readers.images.cameras.1.look.weight": 29.525904135836754,
        "trunk.blocks.1.down.weight": 9.301393414953282,
        "table.weight": 90.70841536226317,
    }
    for name, total in before.items():
        assert weights[name].double().abs().sum().item() == pytest.approx(total, rel=1e-6), name
