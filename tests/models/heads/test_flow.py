"""The flow head against the published π0 of transformers, piece by piece and from keys and values to a chunk."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from tests.tiny import random_pi0
from vla.models.grafting import trunk_from
from vla.models.heads import flow
from vla.models.heads.config import BinsHeadConfig, FlowHeadConfig, HeadConfig, L1HeadConfig
from vla.models.heads.flow import FlowHead, draw_times, euler, path, time_features
from vla.models.trunk.cache import GrowingCache, Marks
from vla.models.trunk.inputs import Batch, Inputs
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import CachedPrefix, Prefix, Reading
from vla.models.trunk.vocabulary import TokenTable
from vla.models.unified import UnifiedTransformer

MakeModel = Callable[..., UnifiedTransformer]
MakeBatch = Callable[..., Batch]
Change = Callable[..., Batch]


def _scaled(model: UnifiedTransformer, scale: float = 0.2) -> UnifiedTransformer:
    return scaled(model, scale).eval()


def _read(model: UnifiedTransformer, inputs: Inputs) -> Prefix:
    return Reading(model.trunk, model._read_inputs(inputs)[0])


_GEMMA: dict[str, Any] = {
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6},
    **{"intermediate_size": 20, "vocab_size": 9},
}
_PATCHES, _IMAGE = 4, 8


@dataclass(frozen=True)
class _Pi0:
    """transformers' π0 of a few thousand random weights, our head with the same, and what it has read as our prefix."""

    theirs: Any
    head: FlowHead
    table: TokenTable
    batch: Batch
    seen: dict[str, Tensor]

    def prefix(self) -> Prefix:
        """Keys and values that its language model leaves of a picture and some words."""
        vlm = self.theirs.model
        embedded = vlm.embed_prefix(
            self.seen["input_ids"], self.seen["pixel_values"], self.seen["pixel_attention_mask"]
        )
        read = vlm.vlm(inputs_embeds=embedded, token_type_ids=torch.zeros(embedded.shape[:2]), use_cache=True)
        cache, (b, length) = GrowingCache(), embedded.shape[:2]
        nothing = torch.zeros(length, dtype=torch.long)
        valid = torch.ones(b, length, dtype=torch.bool)
        cache = cache.extended(Marks(segment=nothing, block=nothing, valid=valid))
        for layer, held in enumerate(read.past_key_values.layers):
            cache.put(layer, held.keys, held.values)
        return CachedPrefix(cache=cache, valid=valid, next=length)


@pytest.fixture(scope="module")
def pi0_model() -> Any:
    pytest.importorskip("transformers.models.pi0", reason="comparing with π0 needs transformers")
    sizes = {"chunk_size": 3, "max_state_dim": 5, "max_action_dim": 4}
    return random_pi0(_GEMMA, image_token=_IMAGE, image_size=4, patch_size=2, **sizes)


@pytest.fixture
def pi0(pi0_model: Any, make_batch: MakeBatch, interface: Interface) -> _Pi0:
    weights = {f"model.{name}": value for name, value in pi0_model.model.dit.state_dict().items()}
    # Who sees whom is not the blocks' affair here: it is what the head and π0 are compared in.
    blocks = copy.deepcopy(pi0_model.config.dit_config)
    blocks.use_bidirectional_attention = False
    expert, table = trunk_from(weights, blocks)
    # Of the trunk the head takes the number of layers and the form of heads; and widths here are of the expert.
    config = FlowHeadConfig(state=True, passes=1, width=10, mlp_ratio=2.0)
    head = FlowHead(config, interface, expert.config, None)
    head.expert.load_state_dict(expert.state_dict())
    embed = pi0_model.embed_action_time
    assert head.state is not None
    for ours, theirs in (
        (head.embed, embed.action_in_proj),
        (head.state, embed.state_proj),
        (head.mix_in, embed.action_time_mlp_in),
        (head.mix_out, embed.action_time_mlp_out),
        (head.readout, pi0_model.action_out_proj),
    ):
        ours.load_state_dict(theirs.state_dict())
    torch.nn.init.zeros_(head.step_position)  # π0 knows the step by rotary positions alone
    torch.manual_seed(1)
    words = torch.randint(0, _IMAGE, (7, 3))
    seen = {
        "input_ids": torch.cat([torch.full((7, _PATCHES), _IMAGE), words], dim=1),
        "pixel_values": torch.randn(7, 1, 3, 4, 4),
        "pixel_attention_mask": torch.ones(7, 1, dtype=torch.bool),
    }
    return _Pi0(pi0_model, head.eval(), table, make_batch(), seen)


def _against(pi0: _Pi0) -> dict[str, float]:
    """How far apart the two are, at one draw of noise and times."""
    head, inputs, actions = pi0.head, pi0.batch.inputs, pi0.batch.targets.actions
    idle = head.expert, pi0.table  # neither the trunk nor the table has a part in it
    torch.manual_seed(3)
    noise, times = torch.randn_like(actions), draw_times(7, torch.device("cpu"))
    torch.manual_seed(3)  # the head draws the same
    loss, _ = head.loss(idle[0], pi0.prefix(), inputs, pi0.batch.targets, idle[1])
    state = inputs.state[:, -1]
    answer = pi0.theirs(state=state, noise=noise, timestep=times, actions=actions, **pi0.seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "seeded_normal", lambda *_: noise)
        chunk = head.sample(idle[0], pi0.prefix(), inputs, idle[1])
    x = flow.path(actions, noise, times)[0]
    velocity = head._velocity(head._behind(pi0.prefix(), inputs), flow.undecided(inputs, 3), x, times)
    assert answer.logits.abs().mean() > 0.1
    return {
        "velocity": float((velocity - answer.logits).abs().max()),
        "loss": float((loss - answer.loss).abs()),
        "chunk": float((chunk - pi0.theirs.sample_actions(state=state, noise=noise, **pi0.seen)).abs().max()),
    }


@torch.no_grad()
def test_velocity_loss_and_chunk_are_those_of_pi0(pi0: _Pi0) -> None:
    assert max(_against(pi0).values()) < 1e-5


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
    name: str, mutant: Any, where: set[str], pi0: _Pi0, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, name, mutant)
    found = _against(pi0)
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
def test_several_noised_chunks_are_the_mean_of_each(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Each is behind the inputs of its own sample."""
    model = _scaled(make_model(head=FlowHeadConfig(passes=3, state=True)))
    inputs, targets = make_batch().inputs, make_batch().targets
    head, prefix = cast(FlowHead, model.head), _read(model, inputs)
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
