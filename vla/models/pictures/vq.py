"""A learned image codec: a convolutional encoder, a quantiser, and the decoder that learned with them (VQ-VAE)."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from vla.core.errors import ConfigError
from vla.models.pictures.codec import ImageCodec, as_pixels, require_ids, require_pictures
from vla.models.pictures.network import Decoder, Encoder, Shape, cells, scaled_pixels
from vla.models.pictures.quantisers import Quantiser


class VqCodec(ImageCodec):
    """A code for each cell of the encoder."""

    def __init__(self, shape: Shape, quantiser: Quantiser, image_size: tuple[int, int]) -> None:
        """With fresh weights; sides that are no whole number of cells are a `ConfigError`."""
        super().__init__()
        self.grid = cells(shape, image_size)
        if self.grid == (0, 0):
            factor = shape.stem * 2 ** (len(shape.multipliers) - 1)
            raise ConfigError(
                f"image codec: cells of {factor} x {factor} pixels do not fill pictures of {image_size[0]} x "
                f"{image_size[1]}: give fewer multipliers or a smaller stem"
            )
        self.size, self.image_size = quantiser.size, image_size
        self.encoder = Encoder(shape)
        self.quant_conv = nn.Conv2d(shape.latent, quantiser.width, 1)
        self.quantise = quantiser
        self.post_quant_conv = nn.Conv2d(quantiser.width, shape.latent, 1)
        self.decoder = Decoder(shape)

    @torch.no_grad()
    def encode(self, images: UInt8[Tensor, "b y x 3"]) -> Int64[Tensor, "b l"]:
        """See `ImageCodec.encode`."""
        require_pictures(images, self)
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 has not the digits to tell codes apart
            return self.quantise.ids(self.latents(scaled_pixels(images)))

    @torch.no_grad()
    def decode(self, ids: Int64[Tensor, "b l"]) -> UInt8[Tensor, "b y x 3"]:
        """See `ImageCodec.decode`."""
        require_ids(ids, self)
        with torch.autocast(ids.device.type, enabled=False):
            pixels = rearrange(self.pixels(self.quantise.vectors(ids)), "b c y x -> b y x c")
        return as_pixels(pixels * 127.5 + 127.5)

    def latents(self, pixels: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b l e"]:
        """What the quantiser is given, of pictures in [-1, 1]."""
        found: Tensor = rearrange(self.quant_conv(self.encoder(pixels)), "b e v u -> b (v u) e")
        return found

    def pixels(self, vectors: Float[Tensor, "b l e"]) -> Float[Tensor, "b 3 y x"]:
        """Pictures of about [-1, 1], of what the quantiser gave."""
        cells_ = rearrange(vectors, "b (v u) e -> b e v u", v=self.grid[0])
        decoded: Tensor = self.decoder(self.post_quant_conv(cells_))
        return decoded
