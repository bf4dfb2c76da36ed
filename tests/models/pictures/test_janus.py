"""The learned codec is transformers' JanusVQVAE on the same weights, every tensor accounted for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vla.core.errors import CheckpointError
from vla.models.pictures.janus import codec_of_janus
from vla.models.pictures.network import scaled_pixels

transformers = pytest.importorskip("transformers", reason="transformers is an extra of its own")


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Two levels, the second wider and with attention; weights that all matter."""
    from transformers.models.janus.configuration_janus import JanusVQVAEConfig

    config = JanusVQVAEConfig(
        base_channels=64, channel_multiplier=[1, 2], num_res_blocks=1, latent_channels=24, embed_dim=5,
        num_embeddings=30, num_patches=4, projection_dim=8, image_token_embed_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.JanusVQVAE(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.quantize.embedding.weight.normal_()
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (4, 8, 8, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def said(theirs: Any, images: Tensor) -> dict[str, Tensor]:
    """What theirs makes of the pictures."""
    with torch.no_grad():
        found = theirs.encode(scaled_pixels(images), return_dict=True)
        ids = found.image_tokens.view(len(images), -1)
        before = theirs.quant_conv(found.last_hidden_state).flatten(2).transpose(1, 2)
        return {"ids": ids, "encoder": before, "decoder": theirs.decode(ids)}


@torch.no_grad()
def _differences(said: dict[str, Tensor], codec: Any, images: Tensor) -> dict[str, float]:
    """How far apart the encoders, the ids and the decoders are."""
    return {
        "encoder": (codec.latents(scaled_pixels(images)) - said["encoder"]).abs().max().item(),
        "ids": float((codec.encode(images) != said["ids"]).sum()),
        "decoder": (codec.pixels(codec.quantise.vectors(said["ids"])) - said["decoder"]).abs().max().item(),
    }


def test_encoder_ids_and_decoder_are_theirs(theirs: Any, said: dict[str, Tensor], images: Tensor) -> None:
    config, codec = codec_of_janus(theirs)
    assert codec.image_size == (8, 8)
    assert codec.size == 30
    differences = _differences(said, codec, images)
    assert differences["ids"] == 0
    assert max(differences.values()) < 1e-5
    assert len(codec.encode(images).unique()) > 5
    again = config.build((8, 8))
    again.load_state_dict(codec.state_dict())
    assert torch.equal(again.decode(codec.encode(images)), codec.decode(codec.encode(images)))


def test_every_tensor_has_a_place_and_none_is_left_over(theirs: Any) -> None:
    _, codec = codec_of_janus(theirs)
    renamed = {name.replace("quantise.", "quantize."): value for name, value in codec.state_dict().items()}
    assert renamed.keys() == theirs.state_dict().keys()
    assert all(torch.equal(renamed[name], value) for name, value in theirs.state_dict().items())


@torch.no_grad()
def test_each_tensor_matters_so_that_a_wrong_one_would_be_seen(
    theirs: Any, said: dict[str, Tensor], images: Tensor
) -> None:
    """Of every tensor of ours, changed a little, the difference is beyond what parity allows."""
    _, codec = codec_of_janus(theirs)
    pixels, ids = scaled_pixels(images[:1]), said["ids"][:1]
    blind = []
    for name, value in codec.state_dict().items():
        # A key's bias adds the same to all that a query asks, which a softmax does not see.
        if name.endswith("k.bias"):
            continue
        kept = value.clone()
        value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(2)))
        if name.startswith(("encoder.", "quant_conv.")):
            off = codec.latents(pixels) - said["encoder"][:1]
        else:
            off = codec.pixels(codec.quantise.vectors(ids)) - said["decoder"][:1]
        value.copy_(kept)
        if off.abs().max() < 1e-4:
            blind.append(name)
    assert blind == []


@pytest.mark.parametrize("mutant", ["unit", "padding", "order"])
def test_a_codec_that_is_wrong_in_one_thing_is_seen(
    mutant: str, theirs: Any, said: dict[str, Tensor], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, codec = codec_of_janus(theirs)
    if mutant == "unit":
        codec.quantise.unit = False
    elif mutant == "padding":
        conv = codec.encoder.down[0].downsample.conv
        monkeypatch.setattr(codec.encoder.down[0].downsample, "forward", lambda x: torch.nn.functional.conv2d(
            x, conv.weight, conv.bias, stride=2, padding=1))  # fmt: skip
    else:
        latents = codec.latents
        monkeypatch.setattr(codec, "latents", lambda pixels: latents(pixels.transpose(2, 3)))
    assert max(_differences(said, codec, images).values()) > 1e-3


def test_a_tensor_too_few_too_many_or_of_another_shape_is_named(theirs: Any) -> None:
    weights = theirs.state_dict()
    some = "encoder.mid.attn_1.q.weight"
    wrong = {
        rf"missing \['{some}'\]": {name: value for name, value in weights.items() if name != some},
        r"too many \['strange'\]": weights | {"strange": torch.zeros(1)},
        rf"wrong shape \['{some} \(2, 2\), not \(128, 128, 1, 1\)'\]": weights | {some: torch.zeros(2, 2)},
    }
    for message, state in wrong.items():
        theirs_ = type("Janus", (), {"config": theirs.config, "state_dict": lambda self, state=state: state})()
        with pytest.raises(CheckpointError, match=message):
            codec_of_janus(theirs_)
