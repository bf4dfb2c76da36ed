"""Pictures through a tower and a connector: which tokens, of which pictures, from which layer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange

from vla.core.config import from_dict
from vla.core.errors import ConfigError
from vla.models.fusion.config import CompressorConfig, ConnectorConfig, LinearConfig, ResamplerConfig
from vla.models.kinds.unified import UnifiedConfig
from vla.models.readers.config import ConnectedConfig
from vla.models.readers.connected import ConnectedReader
from vla.models.readers.tower import Tower
from vla.models.readers.tower_config import TowerConfig
from vla.models.trunk.inputs import Batch
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Segment
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary

MakeBatch = Callable[..., Batch]
TOWER = TowerConfig(width=12, layers=3, heads=2, hidden=16, patch=6, image=12)  # 4 patches


@pytest.fixture
def seen_twice(interface: Interface) -> Interface:
    return replace(interface, history=2)


def _reader(interface: Interface, connector: ConnectorConfig, **changes: Any) -> ConnectedReader:
    torch.manual_seed(0)
    reader = ConnectedReader(ConnectedConfig(tower=TOWER, connector=connector, **changes), interface, 8)
    with torch.no_grad():
        reader.time.normal_()
        reader.view.weight.normal_()
    return reader


@torch.no_grad()
def _read(reader: ConnectedReader, batch: Batch) -> Segment:
    activations: dict[str, torch.Tensor] = {}
    segment = reader(batch.inputs, {}, TokenTable(Vocabulary({"special": len(SPECIALS)}), 8), activations)
    assert activations["images.features"].shape == (len(batch), 2, 4, 12)
    assert isinstance(segment, Segment)
    return segment


@pytest.mark.parametrize(
    ("connector", "tokens"),
    [(LinearConfig(), 16), (CompressorConfig(side=3, heads=2), 36), (ResamplerConfig(latents=5, heads=2), 5)],
    ids=["linear", "compressor", "resampler"],
)
def test_tokens_of_two_cameras_seen_twice(
    connector: ConnectorConfig, tokens: int, seen_twice: Interface, make_batch: MakeBatch
) -> None:
    batch = make_batch(interface=seen_twice)
    reader = _reader(seen_twice, connector)
    segment = _read(reader, batch)
    assert segment.x.shape == (7, tokens, 8)
    assert segment.valid.all()
    # What is not there is seen by nobody, be it padding or what pictures are pooled with.
    lacking = replace(batch.inputs, camera_valid=torch.tensor([[True, False]] * 7))
    other = replace(lacking, images=lacking.images.clone())
    other.images[:, :, 1] = 0
    one, two = (_read(reader, replace(batch, inputs=inputs)) for inputs in (lacking, other))
    assert one.valid.sum() == (7 * 5 if tokens == 5 else 7 * tokens // 2)
    assert torch.equal(one.x[one.valid], two.x[two.valid])
    assert not torch.allclose(one.x[one.valid], segment.x[one.valid]) or tokens != 5


def test_it_matters_through_which_camera_and_when(seen_twice: Interface, make_batch: MakeBatch) -> None:
    batch = make_batch(interface=seen_twice)
    same = replace(batch.inputs, images=batch.inputs.images[:, :1, :1].expand(-1, 2, 2, -1, -1, -1).contiguous())
    x = _read(_reader(seen_twice, LinearConfig()), replace(batch, inputs=same)).x.unflatten(1, (4, 4))
    assert all((x[:, i] - x[:, j]).abs().max() > 1e-2 for i in range(4) for j in range(i))


@torch.no_grad()
def test_a_layer_left_out_is_the_one_before_it_without_a_norm(interface: Interface, make_batch: MakeBatch) -> None:
    """LLaVA reads layer -2: what the last block but one made, which no norm follows."""
    torch.manual_seed(1)
    whole, batch = Tower(TOWER), make_batch()
    reader = _reader(interface, LinearConfig(), left_out=1)
    own = reader.tower.state_dict()
    reader.tower.load_state_dict({name: value for name, value in whole.state_dict().items() if name in own})
    kept: list[torch.Tensor] = []
    whole.blocks[1].register_forward_hook(lambda _m, _i, out: kept.append(out))
    images = batch.inputs.images[:, 0, 0]
    whole(images)
    torch.testing.assert_close(reader.tower(images), kept[0], atol=1e-6, rtol=1e-6)
    assert (whole(images) - kept[0]).abs().max() > 1e-2


@torch.no_grad()
def test_patches_of_convolutions_know_their_neighbours_and_where_they_are() -> None:
    torch.manual_seed(0)
    tower = Tower(replace(TOWER, patch=8, image=32, channels=5))
    assert tower.project.in_features == 5 * 2 * 2  # cells of 4 pixels
    picture = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    seen, fine = tower.see(picture)
    assert seen.shape == (1, 16, 12)
    assert fine.shape == (1, 64, 5)
    torch.testing.assert_close(tower(picture), seen)
    # The cell in row 2, column 3 sees what is next to it, and nothing far away.
    for column, sees in ((16, True), (28, False)):
        other = picture.clone()
        other[:, 8:12, column] = 255 - other[:, 8:12, column]
        changed = (tower.see(other)[1] - fine).abs().amax(dim=-1).view(8, 8)
        assert (changed[2, 3] > 0) == sees
    even = tower.see(torch.full_like(picture, 90))[1].view(8, 8, 5)
    inside = even[3:5, 3:5].flatten(0, 1)  # away from the edges, where padding tells them apart
    assert all((inside[i] - inside[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


def test_text_stands_behind_what_it_is_about() -> None:
    tower = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(TOWER).items()}
    readers = {"text": {"kind": "text", "behind": ["images"]}, "images": {"kind": "connected", "tower": tower}}
    assert [*from_dict(UnifiedConfig, {"readers": readers}, where="a test").readers] == ["images", "text", "state"]


def test_what_is_no_tower_is_refused() -> None:
    with pytest.raises(ConfigError, match="name the folder of a vision model"):
        ConnectedConfig()
    for channels, patch in ((5, 6), (-1, 8)):
        said = f"tower.channels={channels}, patch={patch}: expected at least 0, .*cells of 4 pixels"
        with pytest.raises(ConfigError, match=said):
            replace(TOWER, patch=patch, image=24, channels=channels)
    with pytest.raises(ConfigError, match="left_out=3: the tower has 3 layers"):
        ConnectedConfig(tower=TOWER, left_out=3)


@torch.no_grad()
def test_a_folder_is_read_as_llava_reads_clip(tmp_path: Path, interface: Interface, make_batch: MakeBatch) -> None:
    """Layer -2, patches alone: against the hidden states of transformers' model."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    theirs = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=12, patch_size=6)).eval()  # type: ignore[arg-type]
    theirs.save_pretrained(tmp_path)
    reader = ConnectedReader(ConnectedConfig(folder=str(tmp_path), left_out=1), interface, 8)
    reader.begin()
    images = make_batch().inputs.images[:, 0, 0, :12, :12]
    pixels = rearrange(images, "b y x c -> b c y x") / 255
    mean, std = (torch.tensor(part)[:, None, None] for part in (reader.tower.config.mean, reader.tower.config.std))
    hidden = theirs((pixels - mean) / std, output_hidden_states=True).hidden_states
    torch.testing.assert_close(reader.tower(images), hidden[-2][:, 1:], atol=1e-5, rtol=1e-5)
    assert (reader.tower(images) - hidden[-1][:, 1:]).abs().max() > 1e-3
