"""OpenVLA's ids, against the same written with numpy's digitize, and the two things that fail silently."""

import json
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.models.codecs.chunks import everything, smooth
from vla.core.errors import ConfigError, ContractError
from vla.models.codecs.config import OpenVlaConfig
from vla.models.codecs.openvla import OpenVla


def _build(chunks: Tensor, **changes: Any) -> OpenVla:
    config = OpenVlaConfig(**changes)
    return cast(OpenVla, config.build(config.fit(chunks)))


def _published(chunks: Tensor, fitted: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of Llama's vocabulary, and the actions that they are read as."""
    low, high = np.float64(np.float32(fitted["low"])), np.float64(np.float32(fitted["high"]))
    edges = np.linspace(-1, 1, 256)
    scaled = np.clip(2 * (chunks.double().numpy() - low) / (high - low) - 1, -1, 1)
    tokens = 32000 - np.digitize(scaled, edges)
    centres = (edges[:-1] + edges[1:]) / 2
    read = centres[np.clip(32000 - tokens - 1, 0, len(centres) - 1)]
    return tokens, (read + 1) / 2 * (high - low) + low


@given(seed=st.integers(0, 999), size=st.sampled_from([0.5, 1.0, 2.0]))
def test_ids_and_actions_are_the_published_ones(seed: int, size: float) -> None:
    config = OpenVlaConfig()
    fitted = config.fit(smooth(300))
    codec = cast(OpenVla, config.build(fitted))
    chunks = size * smooth(5, seed)
    ids, _ = codec.encode(chunks, everything(chunks))
    tokens, actions = _published(chunks, fitted)
    assert np.array_equal(codec.foreign(ids).numpy(), tokens.reshape(5, -1))
    np.testing.assert_allclose(codec.decode(ids), actions, atol=1e-6)


def test_the_ends_of_the_range() -> None:
    codec = OpenVla(torch.tensor([-1.0]), torch.tensor([1.0]), horizon=4, vocabulary=32000)
    chunks = torch.tensor([-9.0, 0.0, 0.9999, 9.0]).view(1, 4, 1)
    ids, _ = codec.encode(chunks, everything(chunks))
    assert codec.foreign(ids).tolist() == [[31999, 31872, 31745, 31744]]
    assert codec.decode(ids)[0, 2] == codec.decode(ids)[0, 3]  # 256 edges have 255 centres
    assert codec.decode(ids).abs().max() <= 1 - 1 / 255 + 1e-6


@given(seed=st.integers(0, 999))
def test_the_mapping_goes_both_ways(seed: int) -> None:
    codec = _build(smooth(50))
    ids = torch.randint(0, 256, (3, codec.length), generator=torch.Generator().manual_seed(seed))
    foreign = codec.foreign(ids)
    assert foreign.min() > 31743  # where OpenVLA says that actions begin
    assert torch.equal(codec.own(foreign), ids)


@pytest.mark.parametrize("word", [31743, 32000, 32063])  # the last is in the padding of the table
def test_words_that_are_no_actions_are_refused(word: int) -> None:
    with pytest.raises(ContractError, match=rf"ids 31800 to {word} .*31744 to 31999|ids {word} to 31800"):
        _build(smooth(50)).own(torch.tensor([31800, word]))


def test_the_gripper_is_not_scaled_by_quantiles() -> None:
    """Of ±1 it is 0 and 1, so closed is the middle of the range; with the others it would be the end."""
    chunks = smooth(300)
    chunks[:, :, 2] = chunks[:, :, 2].sign()
    closed = torch.full((1, 8, 3), -1.0)
    tokens = {}
    for grippers in ((-1,), ()):
        codec = _build(chunks, grippers=grippers)
        ids, _ = codec.encode(closed, everything(closed))
        tokens[grippers] = codec.foreign(ids)[0, 2].item()
        torch.testing.assert_close(codec.decode(ids)[..., 2], closed[..., 2], atol=0.01, rtol=0)
    assert tokens == {(-1,): 32000 - 128, (): 31999}


def test_quantiles_are_those_of_each_joint() -> None:
    fitted = OpenVlaConfig(grippers=()).fit(smooth(300))
    flat = smooth(300).reshape(-1, 3).numpy()
    np.testing.assert_allclose(fitted["low"], np.quantile(flat, 0.01, axis=0), atol=1e-5)
    np.testing.assert_allclose(fitted["high"], np.quantile(flat, 0.99, axis=0), atol=1e-5)


def test_json_is_exact() -> None:
    fitted = OpenVlaConfig(vocabulary=4000).fit(smooth(100))
    codec = OpenVlaConfig().build(json.loads(json.dumps(fitted)))
    assert codec.to_json() == fitted
    assert fitted["vocabulary"] == 4000


def test_a_joint_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codec\.grippers: joint 3 of 3"):
        OpenVlaConfig(grippers=(3,)).fit(smooth(50))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"high": [1.0]}, r"'high' .* shape \(3\), got shape \(1,\)"),
        ({"high": [-9.0, -9.0, -9.0]}, "low < high"),
        ({"vocabulary": 100}, "'vocabulary' .* from 256 to .* got 100"),
    ],
)
def test_a_damaged_contract_is_refused(damage: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        OpenVlaConfig().build({**OpenVlaConfig().fit(smooth(50)), **damage})
