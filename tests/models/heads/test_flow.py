"""The flow head against the published π0 of transformers, piece by piece and from keys and values to a chunk."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from vla.models.heads import flow
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, L1HeadConfig
from vla.models.heads.flow import FlowHead, draw_times, euler, path, time_features
from vla.models.trunk.inputs import Batch, Inputs
from vla.models.trunk.sequence import Prefix, read
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]


def _scaled(model: UnifiedTransformer, scale: float = 0.2) -> UnifiedTransformer:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=scale)
    return model.eval()


def _read(model: UnifiedTransformer, inputs: Inputs) -> Prefix:
    return read(model.trunk, model._read_inputs(inputs)[0])[1]


class _Pi0:
    """transformers' model, whose blocks are our expert's, behind keys and values of our trunk.

    What is under test is everything else: the state's token, the embedding of time and actions, who sees whom, the
    loss, and the sampler. That blocks are blocks is for the trunk's tests to show.
    """

    def __init__(self, head: FlowHead, horizon: int, state: int, action: int) -> None:
        pi0 = pytest.importorskip("transformers.models.pi0", reason="comparing with π0 needs transformers")
        width = head.readout.in_features
        gemma: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3}
        gemma |= {"intermediate_size": 8, "head_dim": 8, "vocab_size": 9}
        config = pi0.PI0Config(
            vlm_config={
                "model_type": "paligemma",
                "text_config": {"model_type": "gemma", "hidden_size": 8, **gemma},
                "vision_config": {
                    **{"model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 8},
                    **{"num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 4, "patch_size": 4},
                },
                "projection_dim": 8,
                "image_token_id": 8,
            },
            dit_config={"model_type": "gemma", "hidden_size": width, **gemma},
            **{"chunk_size": horizon, "max_state_dim": state, "max_action_dim": action},
        )
        self.model = pi0.PI0ForConditionalGeneration(config).eval()
        embed = self.model.embed_action_time
        assert head.state is not None
        for ours, theirs in (
            (head.embed, embed.action_in_proj),
            (head.state, embed.state_proj),
            (head.mix_in, embed.action_time_mlp_in),
            (head.mix_out, embed.action_time_mlp_out),
            (head.readout, self.model.action_out_proj),
        ):
            theirs.load_state_dict(ours.state_dict())
        self.model.model.dit = _Expert(head.expert)

    def __call__(self, prefix: Prefix, inputs: Inputs, **values: Tensor) -> Any:
        return self.model(state=inputs.state[:, -1], past_key_values=_cache(prefix), **values)

    def sample(self, prefix: Prefix, inputs: Inputs, noise: Tensor) -> Tensor:
        """Its sampler, of which the reading of images and words is replaced by what has been read."""
        b = len(inputs)
        self.model.model.vlm = _Read(prefix)
        self.model.model.embed_prefix = lambda *_: torch.zeros(b, 1, 8)
        zeros = torch.zeros(b, 1)
        sampled: Tensor = self.model.sample_actions(
            state=inputs.state[:, -1], input_ids=zeros.long(), pixel_values=zeros, noise=noise
        )
        return sampled


class _Expert(nn.Module):
    def __init__(self, expert: Any) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor, past_key_values: Any, **_: Any) -> Any:
        held = [(layer.keys, layer.values) for layer in past_key_values.layers]
        hidden, grown = self.expert(inputs_embeds, attention_mask[:, 0], held)
        for i, (keys, values) in enumerate(grown):  # as its own blocks do, and its sampler undoes
            length = inputs_embeds.shape[1]
            past_key_values.update(keys[:, :, -length:], values[:, :, -length:], i)
        return SimpleNamespace(last_hidden_state=hidden, past_key_values=past_key_values, hidden_states=None, attentions=None)


class _Read(nn.Module):
    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(past_key_values=_cache(self.prefix))


def _cache(prefix: Prefix) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for i, (keys, values) in enumerate(prefix.cache):
        cache.update(keys, values, i)
    return cache


@pytest.fixture
def model(make_model: MakeModel) -> UnifiedTransformer:
    """As π0 is: a state in front of the actions, and one noised chunk for each sample."""
    model = _scaled(make_model(head=FlowHeadConfig(state=True, passes=1)))
    with torch.no_grad():
        cast(FlowHead, model.head).step_position.zero_()  # π0 knows the step by rotary positions alone
    return model


@pytest.fixture
def batch(make_batch: MakeBatch, change: Change) -> Batch:
    """Without padding: transformers takes all that its cache holds for real."""
    batch = make_batch()
    return change(batch, text_valid=torch.ones_like(batch.inputs.text_valid))
