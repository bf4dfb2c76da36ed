"""Each id belongs to exactly one range, and a range reads and writes nothing outside of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.core.errors import ContractError, UnknownNameError
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

SIZES = st.dictionaries(st.text("abcd", min_size=1, max_size=4), st.integers(1, 20), max_size=6)


@given(sizes=SIZES)
def test_ranges_are_disjoint_and_complete(sizes: dict[str, int]) -> None:
    vocabulary = Vocabulary(sizes)
    ids = [i for name in sizes for i in vocabulary.range(name)]
    assert ids == list(range(len(vocabulary)))
    assert {name: len(vocabulary.range(name)) for name in sizes} == sizes
    assert all(name in vocabulary for name in sizes)
    assert "else" not in vocabulary


def test_an_unknown_range_is_answered_with_the_list() -> None:
    with pytest.raises(UnknownNameError, match="unknown range of the vocabulary 'actoin': did you mean 'action'"):
        Vocabulary({"text": 3, "action": 4}).range("actoin")


@given(sizes=SIZES.filter(bool), seed=st.integers(0, 99))
def test_a_range_touches_no_row_but_its_own(sizes: dict[str, int], seed: int) -> None:
    torch.manual_seed(seed)
    table = TokenTable(Vocabulary(sizes), 5)
    for name, size in sizes.items():
        table.weight.grad = None
        ids, hidden = torch.randint(0, size, (3, 2)), torch.randn(4, 5)
        logits = table.logits(name, hidden)
        assert logits.shape == (4, size)
        torch.testing.assert_close(logits, hidden @ table.rows(name).T)
        assert torch.equal(table.embed(name, ids), table.rows(name)[ids])
        (logits.sum() + table.embed(name, ids).sum()).backward()
        touched = table.weight.grad
        assert touched is not None
        own = table.vocabulary.range(name)
        assert touched.abs().sum(dim=1).nonzero()[:, 0].tolist() == list(own)


def test_the_head_is_tied_to_the_table() -> None:
    assert [name for name, _ in TokenTable(Vocabulary({"text": 3}), 5).named_parameters()] == ["weight"]


def test_every_special_has_a_row_of_its_own() -> None:
    table = TokenTable(Vocabulary({"text": 3, "special": len(SPECIALS)}), 5)
    rows = torch.stack([table.special(name) for name in SPECIALS])
    assert torch.equal(rows, table.rows("special"))


def test_ids_out_of_a_range_are_refused_with_the_name_and_both_values() -> None:
    table = TokenTable(Vocabulary({"text": 3, "action": 4}), 5)
    for ids in ([0, 4], [-1, 2]):
        said = rf"range 'action' of the vocabulary: expected 0 to 3, got {min(ids)} to {max(ids)}"
        with pytest.raises(ContractError, match=said):
            table.embed("action", torch.tensor(ids))
