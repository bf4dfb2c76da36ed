"""VQ codecs of Hugging Face's Janus as ours: every tensor has its place, by name, and none is left over.

Two things are theirs and not the paper's, and so settings here: codes are compared as they are and decoded at unit
length (``unit``), and the weight of their loss is on the other term, which nothing here rests upon.
"""

from typing import Any

from vla.core.errors import CheckpointError
from vla.models.pictures.config import NearestConfig, VqConfig
from vla.models.pictures.vq import VqCodec
from vla.models.trunk.filling import fill

_RENAMED = {"quantize.embedding.weight": "quantise.embedding.weight"}


def codec_of_janus(theirs: Any) -> tuple[VqConfig, VqCodec]:
    """The settings and the codec of a `transformers.JanusVQVAE`, for square pictures of its size.

    A tensor missing, left over or of another shape is a `CheckpointError` that names it.
    """
    said = theirs.config
    if said.double_latent or said.in_channels != 3 or said.out_channels != 3:
        raise CheckpointError(
            "JanusVQVAE: expected 3 channels in and out and one latent, got in_channels="
            f"{said.in_channels}, out_channels={said.out_channels}, double_latent={said.double_latent}"
        )
    config = VqConfig(
        quantiser=NearestConfig(
            codes=said.num_embeddings, width=said.embed_dim, codebook="gradient", commitment=0.25, unit=True
        ),
        channels=said.base_channels,
        multipliers=tuple(said.channel_multiplier),
        stem=1,
        blocks=said.num_res_blocks,
        latent=said.latent_channels,
        groups=32,
    )
    side = said.num_patches * 2 ** (len(config.multipliers) - 1)
    codec = config.build_vq((side, side))
    weights = {_RENAMED.get(name, name): value for name, value in theirs.state_dict().items()}
    fill(codec, weights, what="JanusVQVAE")
    return config, codec.requires_grad_(False)
