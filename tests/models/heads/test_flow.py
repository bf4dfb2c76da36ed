"""The flow head against the published π0 of transformers, piece by piece and from keys and values to a chunk."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.heads import flow
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, L1HeadConfig
from vla.models.heads.flow import FlowHead, draw_times, euler, path, time_features
from vla.models.trunk.cache import GrowingCache
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
        hidden, _ = self.expert(inputs_embeds, attention_mask[:, 0], _Held(past_key_values))
        nothing = {"hidden_states": None, "attentions": None}
        return SimpleNamespace(last_hidden_state=hidden, past_key_values=past_key_values, **nothing)


class _Held(GrowingCache):
    """Keys and values that transformers keeps, as its own blocks put them there."""

    def __init__(self, cache: Any) -> None:
        super().__init__()
        self._theirs = cache

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        kept: tuple[Tensor, Tensor] = self._theirs.update(keys, values, layer)
        return kept


class _Read(nn.Module):
    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(past_key_values=_cache(self.prefix))


def _cache(prefix: Prefix) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    assert isinstance(prefix.cache, GrowingCache)
    for layer, (keys, values) in prefix.cache._layers.items():
        cache.update(keys, values, layer)
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


def _against_pi0(model: UnifiedTransformer, batch: Batch) -> dict[str, float]:
    """How far apart the two are, at one draw of noise and times."""
    head, inputs, targets = cast(FlowHead, model.head), batch.inputs, batch.targets
    prefix = _read(model, inputs)
    theirs = _Pi0(head, *targets.actions.shape[1:2], inputs.state.shape[-1], targets.actions.shape[-1])
    torch.manual_seed(3)
    noise, times = torch.randn_like(targets.actions), draw_times(len(batch), torch.device("cpu"))
    torch.manual_seed(3)  # the head draws the same
    loss, _ = head.loss(model.trunk, prefix, inputs, targets, model.table)
    answer = theirs(prefix, inputs, noise=noise, timestep=times, actions=targets.actions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "seeded_normal", lambda *_: noise)
        chunk = head.sample(model.trunk, prefix, inputs, model.table)
    x = flow.path(targets.actions, noise, times)[0]
    velocity = head._velocity(head._behind(prefix, inputs), flow.undecided(inputs, 3), x, times)
    return {
        "velocity": float((velocity - answer.logits).abs().max()),
        "loss": float((loss - answer.loss).abs()),
        "chunk": float((chunk - theirs.sample(prefix, inputs, noise)).abs().max()),
    }


@torch.no_grad()
def test_velocity_loss_and_chunk_are_those_of_pi0(model: UnifiedTransformer, batch: Batch) -> None:
    assert max(_against_pi0(model, batch).values()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "mutant", "where"),
    [
        ("path", lambda a, n, t: (path(a, n, t)[0], a - n), {"loss"}),  # the velocity of the other direction
        ("path", lambda a, n, t: (path(a, n, 1 - t)[0], n - a), {"velocity", "loss"}),  # noise at time 0
        ("time_features", lambda t, e: time_features(t, e).flip(-1), {"velocity", "loss", "chunk"}),
        ("time_features", lambda t, e: time_features(t, e).roll(e // 2, -1), {"velocity", "loss", "chunk"}),
        ("euler", lambda field, x, steps: euler(lambda y, t: -field(y, t), x, steps), {"chunk"}),
        ("euler", lambda field, x, steps: euler(lambda y, t: field(y, 1 - t), x, steps), {"chunk"}),
        ("undecided", lambda inputs, h: torch.arange(h).expand(len(inputs), h) > 0, {"velocity", "loss", "chunk"}),
    ],
    ids=["u", "t", "periods", "cosines first", "away", "backwards", "a step is not seen"],
)
def test_the_comparison_notices(
    name: str, mutant: Any, where: set[str], model: UnifiedTransformer, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, name, mutant)
    found = _against_pi0(model, batch)
    assert {part for part, distance in found.items() if distance > 1e-3} >= where


def test_times_are_those_of_pi0() -> None:
    """0.999 Beta(1.5, 1) + 0.001, by its distribution function; near noise twice as often as near actions."""
    torch.manual_seed(0)
    times = draw_times(20_000, torch.device("cpu"))
    assert times.min() >= 0.001
    assert times.max() <= 1
    share = torch.arange(1, 20_001) / 20_000
    expected = ((times.sort().values - 0.001) / 0.999) ** 1.5
    assert (expected - share).abs().max() < 0.02
    reference = 0.999 * torch.distributions.Beta(1.5, 1.0).sample((20_000,)) + 0.001
    assert (times.mean() - reference.mean()).abs() < 0.01  # 0.6; with the parameters the other way round 0.4


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_field_of_one_chunk_leads_to_it(steps: int) -> None:
    """Of a single datum the velocity is known: (x - a) / t, wherever the noise began."""
    noise, chunk = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    landed = euler(lambda x, t: (x - chunk) / t[:, None, None], noise, steps)
    torch.testing.assert_close(landed, chunk, atol=1e-5, rtol=1e-5)


def _fitted(model: UnifiedTransformer, batch: Batch, steps: int) -> Prefix:
    """The head trained behind what has been read, which stays as it is."""
    prefix = _read(model, batch.inputs).detached()
    optimiser = torch.optim.Adam(model.head.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        model.head.loss(model.trunk, prefix, batch.inputs, batch.targets, model.table.requires_grad_(False))[
            0
        ].backward()
        optimiser.step()
    return prefix


@pytest.mark.parametrize(
    ("head", "steps"), [(FlowHeadConfig(width=32, passes=16, steps=5), 250), (L1HeadConfig(), 60)], ids=["flow", "l1"]
)
def test_of_two_ways_flow_takes_either_and_regression_one(
    head: HeadConfig, steps: int, make_model: MakeModel, make_batch: MakeBatch, change: Change
) -> None:
    """One observation, after which demonstrators went left or right."""
    torch.manual_seed(0)
    model, batch = make_model(head=head), make_batch(size=1)
    batch = Batch(inputs=_repeated(batch.inputs, 8), targets=_repeated(batch.targets, 8))
    ways = torch.tensor([-0.7, 0.7] * 4)[:, None, None].expand(8, 3, 4)
    prefix = _fitted(model, change(batch, actions=ways), steps)
    many = _repeated(batch.inputs, 4)
    many = type(many)(**{**vars(many), "seeds": torch.arange(32)})
    with torch.no_grad():
        chunks = model.head.sample(model.trunk, prefix.repeated(4), many, model.table)
    mean = chunks.mean(dim=(1, 2))  # of each of 32 chunks
    if isinstance(head, L1HeadConfig):
        assert torch.equal(chunks, chunks[:1].expand_as(chunks))  # one answer, whoever asks
        return
    left, right = ((chunks - way).abs().amax(dim=(1, 2)) < 0.35 for way in (-0.7, 0.7))
    assert left.sum() >= 8
    assert right.sum() >= 8
    assert (left | right).sum() >= 28  # joints and steps go the same way together


def _repeated(value: Any, times: int) -> Any:
    return value._each(lambda tensor: torch.cat([tensor] * times))


@torch.no_grad()
def test_several_noised_chunks_are_the_mean_of_each(make_model: MakeModel, batch: Batch) -> None:
    """Each is behind the inputs of its own sample."""
    model = _scaled(make_model(head=FlowHeadConfig(passes=3, state=True)))
    head, inputs, targets = cast(FlowHead, model.head), batch.inputs, batch.targets
    prefix = _read(model, inputs)
    torch.manual_seed(4)
    loss, _ = head.loss(model.trunk, prefix, inputs, targets, model.table)
    torch.manual_seed(4)
    noise, times = torch.randn(21, 3, 4), draw_times(21, torch.device("cpu"))
    errors = []
    for k in range(3):
        x, wanted = path(targets.actions, noise[7 * k : 7 * k + 7], times[7 * k : 7 * k + 7])
        asked = torch.ones(7, 3, dtype=torch.bool)
        velocity = head._velocity(head._behind(prefix, inputs), asked, x, times[7 * k : 7 * k + 7])
        errors.append(((velocity - wanted) ** 2).mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def _gradients(model: UnifiedTransformer, batch: Batch) -> dict[str, Tensor]:
    """Of the loss by parts of the model, of those parts that get any."""
    model.zero_grad()
    torch.manual_seed(0)
    model.loss(batch.inputs, batch.targets)[0].backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().any()}


def test_with_insulation_the_teacher_alone_teaches_the_trunk(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """To the last bit: the flow's gradients on what it reads are not small, they are not there."""
    batch = make_batch()

    def found(**changes: Any) -> dict[str, Tensor]:
        head = FlowHeadConfig(**{"teacher": BinsHeadConfig(bins=16), **changes})
        return _gradients(make_model(head=head, auxiliaries={}), batch)

    insulated, both = found(insulate=True), found()
    outside = [name for name in insulated if not name.startswith("head.")]
    assert {name.split(".")[0] for name in outside} == {"readers", "table", "trunk"}
    model = make_model(head=FlowHeadConfig(insulate=True, teacher=BinsHeadConfig(bins=16)), auxiliaries={})
    cast(FlowHead, model.head).teacher = None
    by_flow = _gradients(model, batch)
    assert by_flow.keys() > {"head.embed.weight", "head.step_position"}
    assert all(name.startswith("head.") for name in by_flow)
    # Where nothing stops them, they are there; and then the sum of both is another one.
    assert any(name.startswith("readers.") for name in found(teacher=None))
    assert not any(torch.equal(insulated[name], both[name]) for name in outside if name.startswith("readers."))


def test_insulation_without_a_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.insulate: without a teacher .* teacher: \{kind: bins\}"):
        FlowHeadConfig(insulate=True)
