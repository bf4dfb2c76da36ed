"""The unified transformer: every layout with every decoding, cached and uncached, padded and not."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vla.core.errors import ConfigError
from vla.models.attention import attention_mask
from vla.models.config import TransformerConfig, UnifiedConfig
from vla.models.text import InstructionTokenizer
from vla.models.unified import UnifiedTransformer

KINDS = [{"layout": a, "decoding": b} for a, b in product(("step", "joint"), ("parallel", "autoregressive"))]
MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., dict[str, Tensor]]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))


def _scaled(model: UnifiedTransformer, scale: float) -> UnifiedTransformer:
    """Weights far from their small initial values, so that every token matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=scale)
    return model


def _training_logits(model: UnifiedTransformer, batch: dict[str, Tensor], ids: Tensor) -> Tensor:
    """What training computes at the action positions when ``ids`` are the labels: one pass, no cache."""
    x, block, valid, _ = model._prefix(batch, torch.zeros(len(ids), dtype=torch.bool))
    x = torch.cat([x, model._action_inputs(ids)], dim=1)
    block = torch.cat([block, model._action_blocks(block)], dim=1)
    valid = F.pad(valid, (0, model.action_tokens), value=True)
    hidden, _ = model.trunk(x, attention_mask(block, valid))
    return model._action_logits(hidden[:, -model.action_tokens :])


def _decode(model: UnifiedTransformer, batch: dict[str, Tensor]) -> Tensor:
    prefix = model.read(batch)
    parallel = model.config.decoding == "parallel"
    return (model._decode_parallel if parallel else model._decode_autoregressive)(prefix)


@every_kind
def test_overfits_one_batch(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(**kind), make_batch(size=4)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss, metrics = model.loss(batch)
        loss.backward()
        optimiser.step()
        losses.append(metrics["action_loss"].item())
    assert losses[-1] < 0.75 * losses[0]
    assert {"action_loss", "grounding_loss", "grounding_error_m", "pointing_loss"} == set(metrics)


@every_kind
def test_every_weight_learns(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = _scaled(make_model(**kind, state_dropout=0.5), 0.2)
    torch.manual_seed(0)
    model.loss(make_batch(size=16))[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().any()] == []


@every_kind
@pytest.mark.parametrize("scale", [0.02, 0.3, 3.0])
def test_any_weights_write_a_valid_chunk(
    kind: dict[str, str], scale: float, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = _scaled(make_model(**kind), scale), make_batch()
    actions, grounding = model.act(batch)
    offsets = model.actions.offsets(batch["state"], actions)
    assert actions.shape == (7, 3, 4)
    assert (offsets >= torch.from_numpy(model.actions.codec.low) - 1e-5).all()
    assert (offsets <= torch.from_numpy(model.actions.codec.high) + 1e-5).all()
    assert (grounding.abs() <= 1).all()


@every_kind
def test_decoding_equals_training(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(**kind), 0.2), make_batch()
    with torch.no_grad():
        decoded = _decode(model, batch)
        taught = _training_logits(model, batch, decoded.argmax(dim=-1))
    torch.testing.assert_close(decoded, taught, atol=1e-4, rtol=1e-4)
    expected = model.actions.actions(batch["state"], model.actions.codec.decode(taught))
    torch.testing.assert_close(model.act(batch)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["step", "joint"])
def test_autoregressive_logits_never_see_their_own_label(
    layout: str, make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model, batch = _scaled(make_model(layout=layout, decoding="autoregressive"), 0.2), make_batch(size=1)
    ids = torch.zeros(1, 3, 4, dtype=torch.long)
    with torch.no_grad():
        before = _training_logits(model, batch, ids).flatten(1, 2)
        for changed in range(12):
            other = ids.flatten(1).clone()
            other[0, changed] = 5
            after = _training_logits(model, batch, other.view(1, 3, 4)).flatten(1, 2)
            same = changed + 1 if layout == "joint" else (changed // 4 + 1) * 4  # a step's joints are read at once
            assert torch.equal(before[:, :same], after[:, :same])
            if same < 12:
                assert not torch.equal(before, after)


@every_kind
def test_padding_is_invisible(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(**kind), 0.2), make_batch()
    other = batch | {"text": torch.where(batch["text_valid"], batch["text"], 17)}
    assert not torch.equal(other["text"], batch["text"])
    with torch.no_grad():
        torch.testing.assert_close(_decode(model, other), _decode(model, batch), atol=1e-5, rtol=1e-5)


@every_kind
def test_samples_of_a_batch_are_independent(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(**kind), 0.2), make_batch()
    with torch.no_grad():
        together = _decode(model, batch)
        alone = torch.cat([_decode(model, {k: v[i : i + 1] for k, v in batch.items()}) for i in range(7)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("key", ["images", "state", "text"])
def test_every_input_is_read(key: str, make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch, other = _scaled(make_model(), 0.2), make_batch(), make_batch(seed=1)
    batch["text_valid"][:] = True
    with torch.no_grad():
        before, after = _decode(model, batch), _decode(model, batch | {key: other[key]})
    assert ((before - after).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_dropped_state_is_not_seen(make_model: MakeModel, make_batch: MakeBatch) -> None:
    batch = make_batch()
    other = batch | {"state": batch["state"] + 0.5}
    absolute = (None,) * 4  # labels that do not depend on the state, so that only the input can
    dropped, kept = (_scaled(make_model(relative_to=absolute, state_dropout=p), 0.2) for p in (1.0, 0.0))
    with torch.no_grad():
        assert torch.equal(dropped.loss(batch)[0], dropped.loss(other)[0])
        assert not torch.equal(kept.loss(batch)[0], kept.loss(other)[0])


def test_acting_never_drops_the_state(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(state_dropout=1.0), 0.2), make_batch()
    with torch.no_grad():
        assert torch.equal(_decode(model, batch), _decode(model, batch))
        assert not torch.equal(_decode(model, batch), _decode(model, batch | {"state": batch["state"] + 0.5}))


def test_steps_beyond_the_episode_teach_nothing(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = make_model(), make_batch()
    batch["action_valid"][:, 1:] = False
    actions = batch["actions"].clone()
    actions[:, 1:] += 0.3
    with torch.no_grad():
        assert torch.equal(model.loss(batch)[0], model.loss(batch | {"actions": actions})[0])
        batch["action_valid"][:] = False
        assert torch.isfinite(model.loss(batch)[0])


def test_a_blank_instruction_is_finite(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(), 0.2), make_batch(size=1)
    tokenizer = InstructionTokenizer.train(["put the red block on the blue plate"])
    ids, valid = map(torch.from_numpy, tokenizer.encode([""], 6))
    assert not valid.any()
    loss, _ = model.loss(batch | {"text": ids, "text_valid": valid})
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.act(batch | {"text": ids, "text_valid": valid})[0]).all()


def test_grounding_does_not_look_at_actions(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(decoding="autoregressive"), 0.2), make_batch()
    with torch.no_grad():
        first, second = (
            model.loss(batch | {"actions": actions})[1]["grounding_loss"]
            for actions in (batch["actions"], -batch["actions"])
        )
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


@pytest.mark.gpu
@every_kind
def test_gpu_equals_cpu(kind: dict[str, str], make_model: MakeModel, make_batch: MakeBatch) -> None:
    model, batch = _scaled(make_model(**kind), 0.2), make_batch()
    with torch.no_grad():
        here = _decode(model, batch)
        there = _decode(model.cuda(), {k: v.cuda() for k, v in batch.items()})
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)


def test_impossible_sizes() -> None:
    with pytest.raises(ConfigError, match=r"width=10 must be a multiple of model.trunk.heads=4"):
        UnifiedConfig(trunk=TransformerConfig(width=10))
    for name, value in (("horizon", 0), ("text_tokens", 0), ("action_bins", 1), ("grounding_bins", 1)):
        with pytest.raises(ConfigError, match=name):
            replace(UnifiedConfig(), **{name: value})


def test_layouts_have_the_tokens_they_say(make_model: MakeModel) -> None:
    tokens = [make_model(layout=layout).action_tokens for layout in ("step", "joint")]
    np.testing.assert_array_equal(tokens, [3, 12])
