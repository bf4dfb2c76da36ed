"""Our connectors compute what the published ones do, from the same weights; and each plausible mistake is noticed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.models.fusion import compressor
from vla.models.fusion.attention import CrossAttention
from vla.models.fusion.compressor import Compressor, place_waves
from vla.models.fusion.config import (
    CONNECTORS,
    PAPERS,
    CompressorConfig,
    ConnectorConfig,
    LinearConfig,
    MlpConfig,
    ResamplerConfig,
)
from vla.models.fusion.connector import VisionConnector
from vla.models.fusion.resampler import Resampler, ResamplerBlock
from vla.models.trunk.filling import fill

C, E = 24, 16


@dataclass(frozen=True, kw_only=True)
class _Holder:
    connector: ConnectorConfig


CONFIGS: dict[str, ConnectorConfig] = {
    "linear": LinearConfig(),
    "mlp": MlpConfig(),
    "resampler": ResamplerConfig(latents=5, layers=2, heads=3),
    "compressor": CompressorConfig(side=3, heads=2),
}
every_connector = pytest.mark.parametrize("kind", CONFIGS)


def _patches(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _shaken(module: nn.Module) -> Any:
    """Norms that are no ones, biases that are no zeros: what they do must matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


def _filled(connector: VisionConnector, theirs: nn.Module, names: dict[str, str]) -> VisionConnector:
    """With the weights of ``theirs``; ``names`` has parts of names, theirs → ours, the first that fits is taken."""

    def ours(name: str) -> str:
        for old, new in names.items():
            name = name.replace(old, new)
        return name

    fill(connector, {ours(name): value for name, value in theirs.state_dict().items()}, what="a test")
    return connector


def _run(connector: VisionConnector, patches: Tensor) -> Tensor:
    """Of one picture for each sample."""
    made: Tensor = connector(patches[:, None], torch.ones(len(patches), 1, dtype=torch.bool))
    return made[:, 0]


# -- Flamingo ----------------------------------------------------------------------------------------------------------


def _idefics_resampler(layers: int = 2) -> Any:
    from transformers import IdeficsConfig
    from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

    config = IdeficsConfig(vision_config={"embed_dim": C})
    return _shaken(IdeficsPerceiverResampler(config, C, depth=layers, n_heads=3, head_dim=10, n_latents=5))


IDEFICS = {
    **{".0.context_layer_norm": ".norm_patches", ".0.latents_layer_norm": ".norm_latents", ".1.ln": ".norm_mlp"},
    **{".0.q_proj": ".attention.query", ".0.k_proj": ".attention.key", ".0.v_proj": ".attention.value"},
    **{".0.output_proj": ".attention.out", ".1.fc": ".up", ".1.c_proj": ".down", "layer_norm": "norm"},
}
"""The last norm is last: its name is part of other names."""


def _resampler(theirs: Any, **changes: Any) -> VisionConnector:
    settings: dict[str, Any] = {"latents": 5, "layers": 2, "heads": 3, "head_dim": 10, "activation": "relu"}
    return _filled(ResamplerConfig(**settings | changes).build(C, C), theirs, IDEFICS)


@torch.no_grad()
def test_the_resampler_is_that_of_idefics() -> None:
    theirs, patches = _idefics_resampler(), _patches(2, 7, C)
    torch.testing.assert_close(_run(_resampler(theirs), patches), theirs(patches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mistake", ["latents unseen", "nothing added", "norm of patches", "squared", "scale"])
@torch.no_grad()
def test_a_mistake_in_the_resampler_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, patches = _idefics_resampler(), _patches(2, 7, C)
    ours = _resampler(theirs, activation="squared_relu" if mistake == "squared" else "relu")
    read = CrossAttention.forward
    if mistake == "latents unseen":
        monkeypatch.setattr(CrossAttention, "forward", lambda s, x, k, v, m: read(s, x, k[:, :7], v[:, :7], m[..., :7]))
    if mistake == "nothing added":
        monkeypatch.setattr(CrossAttention, "forward", lambda s, x, k, v, m: read(s, x, k, v, m) - x)
    if mistake == "norm of patches":
        for block in ours.blocks:  # type: ignore[union-attr]
            block.norm_patches, block.norm_latents = block.norm_latents, block.norm_patches
    if mistake == "scale":
        monkeypatch.setattr(CrossAttention, "forward", lambda s, x, k, v, m: read(s, 1.5 * x, k, v, m))
    assert (_run(ours, patches) - theirs(patches)).abs().max() > 1e-3


@torch.no_grad()
def test_the_resampler_knows_pictures_by_what_is_added_to_their_patches_alone() -> None:
    resampler = _shaken(ResamplerConfig(latents=64, layers=2, heads=3).build(C, E))
    patches, there = _patches(2, 3, 7, C), torch.ones(2, 3, dtype=torch.bool)
    made = resampler(patches, there)
    assert made.shape == (2, 1, 64, E)
    assert resampler(_patches(2, 5, 4, C), torch.ones(2, 5, dtype=torch.bool)).shape == made.shape
    torch.testing.assert_close(resampler(patches[:, [2, 0, 1]], there), made, atol=1e-5, rtol=1e-5)
    which = _patches(3, 1, C)
    assert (resampler((patches + which)[:, [2, 0, 1]], there) - resampler(patches + which, there)).abs().max() < 1e-5
    assert (resampler(patches[:, [2, 0, 1]] + which, there) - resampler(patches + which, there)).abs().max() > 1e-3


# -- LLaVA and PaliGemma -----------------------------------------------------------------------------------------------


def _llava_projector() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    vision, text = (
        CLIPVisionConfig(hidden_size=C, num_attention_heads=3),
        LlamaConfig(hidden_size=E, num_attention_heads=2),
    )
    return _shaken(LlavaMultiModalProjector(LlavaConfig(vision_config=vision, text_config=text)))


@torch.no_grad()
def test_the_mlp_is_that_of_llava() -> None:
    theirs, patches = _llava_projector(), _patches(2, 7, C)
    ours = _filled(MlpConfig().build(C, E), theirs, {"linear_1": "up", "linear_2": "out"})
    torch.testing.assert_close(_run(ours, patches), theirs(patches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "gelu", [F.silu, partial(F.gelu, approximate="tanh"), lambda x: x], ids=["silu", "tanh", "linear"]
)
@torch.no_grad()
def test_another_activation_is_noticed(gelu: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, patches = _llava_projector(), 3 * _patches(2, 7, C)
    ours = _filled(MlpConfig().build(C, E), theirs, {"linear_1": "up", "linear_2": "out"})
    exact = theirs(patches)
    monkeypatch.setattr("vla.models.fusion.projections.F.gelu", gelu)
    assert (_run(ours, patches) - exact).abs().max() > 1e-4


# -- Qwen-VL -----------------------------------------------------------------------------------------------------------


class _Reference(nn.Module):
    """The published adapter as its code has it, around PyTorch's attention."""

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.side = side
        self.query = nn.Parameter(0.02 * torch.randn(side**2, E))
        self.kv_proj = nn.Linear(C, E, bias=False)
        self.attn = nn.MultiheadAttention(E, heads)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(E, eps=1e-6) for _ in range(3))
        self.proj = nn.Parameter(E**-0.5 * torch.randn(E, E))

    def forward(self, x: Tensor) -> Tensor:
        positions = _sincos(self.side)
        side = int(x.shape[1] ** 0.5)
        grid = positions.reshape(1, self.side, self.side, E).permute(0, 3, 1, 2)
        keys = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        keys = positions if side == self.side else keys.permute(0, 2, 3, 1).flatten(0, 2)
        x = self.ln_kv(self.kv_proj(x)).permute(1, 0, 2)
        q = self.ln_q(self.query).unsqueeze(1).repeat(1, x.shape[1], 1)
        out = self.attn(q + positions.unsqueeze(1), x + keys.unsqueeze(1), x)[0].permute(1, 0, 2)
        made: Tensor = self.ln_post(out) @ self.proj
        return made


def _sincos(side: int) -> Tensor:
    """As masked autoencoders write it: the column in the first half, as their grid of width comes first."""
    import numpy as np

    def one(positions: Any) -> Any:
        omega = 1.0 / 10000 ** (np.arange(E // 4, dtype=np.float64) / (E / 4.0))
        out = np.einsum("m,d->md", positions.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    width, height = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    return torch.from_numpy(np.concatenate([one(width), one(height)], axis=1)).float()


def _compressor(theirs: Any, heads: int) -> VisionConnector:
    weights = theirs.state_dict()
    names = {
        **{"query": "queries", "kv_proj.weight": "narrow.weight", "attn.out_proj.weight": "attention.out.weight"},
        **{"attn.out_proj.bias": "attention.out.bias"},
        **{
            f"ln_{there}.{end}": f"norm_{here}.{end}"
            for there, here in (("q", "queries"), ("kv", "patches"), ("post", "last"))
            for end in ("weight", "bias")
        },
    }
    own = {new: weights.pop(old) for old, new in names.items()}
    own["project.weight"] = weights.pop("proj").T
    for end in ("weight", "bias"):
        for part, value in zip(("query", "key", "value"), weights.pop(f"attn.in_proj_{end}").chunk(3), strict=True):
            own[f"attention.{part}.{end}"] = value
    assert not weights
    ours = CompressorConfig(side=theirs.side, heads=heads).build(C, E)
    fill(ours, own, what="a test")
    return ours


@pytest.mark.parametrize("side", [4, 3, 7])
@torch.no_grad()
def test_the_compressor_is_the_published_one(side: int) -> None:
    theirs = _shaken(_Reference(4, heads=2))
    patches = _patches(2, side**2, C)
    torch.testing.assert_close(_run(_compressor(theirs, 2), patches), theirs(patches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mistake", ["rows first", "values know places", "no places of patches", "nearest", "heads"])
@torch.no_grad()
def test_a_mistake_in_the_compressor_is_noticed(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, patches = _shaken(_Reference(4, heads=2)), _patches(2, 49, C)
    if mistake == "rows first":
        right = place_waves
        monkeypatch.setattr(compressor, "place_waves", lambda *args: right(*args).roll(E // 2, dims=-1))
    ours = _compressor(theirs, 4 if mistake == "heads" else 2)
    read, resize = CrossAttention.forward, F.interpolate
    if mistake == "values know places":
        monkeypatch.setattr(CrossAttention, "forward", lambda s, x, k, v, m: read(s, x, k, k, m))
    if mistake == "no places of patches":
        monkeypatch.setattr(CrossAttention, "forward", lambda s, x, k, v, m: read(s, x, v, v, m))
    expected = theirs(patches)
    if mistake == "nearest":
        monkeypatch.setattr(compressor.F, "interpolate", lambda grid, size, **_: resize(grid, size, mode="nearest"))
    assert (_run(ours, patches) - expected).abs().max() > 1e-4


@pytest.mark.parametrize("side", [16, 24, 32])
@torch.no_grad()
def test_pictures_of_every_size_become_256_tokens(side: int) -> None:
    connector = CompressorConfig(heads=2).build(C, E)
    assert _run(connector, _patches(1, side**2, C)).shape == (1, 256, E)


# -- all ---------------------------------------------------------------------------------------------------------------


@every_connector
def test_a_picture_that_is_not_there_changes_nothing(kind: str) -> None:
    connector = _shaken(CONFIGS[kind].build(C, E))
    patches, there = _patches(2, 3, 4, C), torch.tensor([[True, True, False], [True, False, True]])
    other = torch.where(there[..., None, None], patches, _patches(2, 3, 4, C) + 5)
    made, again = connector(patches, there), connector(other, there)
    if not connector.together:
        made, again = made[there], again[there]
    torch.testing.assert_close(again, made, atol=1e-6, rtol=1e-6)


@every_connector
def test_every_weight_learns(kind: str) -> None:
    connector = CONFIGS[kind].build(C, E)
    connector(_patches(2, 3, 9, C), torch.ones(2, 3, dtype=torch.bool)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in connector.parameters())


@pytest.mark.parametrize(
    ("paper", "channels", "width", "millions"),
    [
        ("flamingo", 1536, 1536, 170.0),
        ("llava-1.5", 1024, 4096, 21.0),
        ("paligemma", 1152, 2048, 2.4),
        ("qwen-vl", 1664, 4096, 91.8),  # the paper's 0.08 billion, and the projection behind
    ],
)
def test_the_papers_sizes(paper: str, channels: int, width: int, millions: float) -> None:
    with torch.device("meta"):
        connector = PAPERS[paper].build(channels, width)
    assert sum(p.numel() for p in connector.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_the_table_is_the_settings() -> None:
    assert {kind: type(config) for kind, config in CONFIGS.items()} == CONNECTORS
    assert {type(config.build(C, C)) for config in (CONFIGS["resampler"], CONFIGS["compressor"])} == {
        Resampler,
        Compressor,
    }
    assert isinstance(CONFIGS["resampler"].build(C, E).blocks[0], ResamplerBlock)  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "resampler", "latents": 0}, "connector.latents=0 must be at least 1"),
        ({"kind": "resampler", "heads": 5}, "channels of the tower is 24, and must be a multiple of 5"),
        ({"kind": "compressor", "heads": 5}, "width of the language model is 16, and must be a multiple of 5"),
        ({"kind": "resample"}, "resampler"),
    ],
)
def test_what_cannot_be_built_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(_Holder, {"connector": value}, where="a test").connector.build(C, E)
