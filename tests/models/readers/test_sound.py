"""Spoken instructions: read by the sound alone, nothing moves where nobody speaks, and they are learned."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError, ContractError
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.readers.config import ImagesConfig, SoundConfig, StateConfig, TextConfig
from vla.models.readers.sound import MOST_TOKENS, SoundReader
from vla.models.trunk.config import TransformerConfig
from vla.models.trunk.inputs import SPAN, Batch, Inputs, Sound
from vla.models.trunk.interface import Interface
from vla.models.trunk.vocabulary import SPECIALS, TokenTable, Vocabulary
from vla.sound.mel import BANDS, MOST_FRAMES, log_mel
from vla.sound.synthesis import synthesise
from vla.sound.voices import TRAINING

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
TRUNKS = {
    "learned positions": TransformerConfig(width=24, layers=2, heads=3),
    "rotary": TransformerConfig(width=24, layers=2, heads=3, rope=100.0),
}
every_trunk = pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS.keys())


def _readers(*, asks: tuple[str, ...] = ("text", "sound"), **images: Any) -> dict[str, Any]:
    return {
        "text": TextConfig(heads=3),
        "images": ImagesConfig(channels=4, tokens=3, asks=asks, heads=3, **images),
        "state": StateConfig(dropout=0.0),
        "sound": SoundConfig(channels=8, layers=1, heads=3),
    }


def _spectrogram(frames: int, seed: int = 0) -> Tensor:
    return torch.rand(frames, BANDS, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _spoken(batch: Batch, *spectrograms: Tensor | None, least: int = 0) -> Inputs:
    """The batch with these said in its first samples."""
    heard = [*spectrograms, *[None] * (len(batch) - len(spectrograms))]
    return replace(batch.inputs, sound=Sound.of(heard, least=least))


@pytest.fixture
def reader(interface: Interface) -> tuple[SoundReader, TokenTable]:
    torch.manual_seed(0)
    table = TokenTable(Vocabulary({"special": len(SPECIALS)}), 24)
    return scaled(SoundReader(SoundConfig(channels=8, layers=1, heads=3), interface, 24)).eval(), table


@torch.no_grad()
def _read(reader: tuple[SoundReader, TokenTable], inputs: Inputs) -> tuple[Tensor, Tensor]:
    segment = reader[0](inputs, {}, reader[1], {})
    return segment.x, segment.valid


@pytest.mark.parametrize(("frames", "tokens"), [(10, 1), (16, 1), (17, 2), (160, 10), (200, 13), (800, 50)])
def test_a_token_is_sixteen_frames(
    reader: tuple[SoundReader, TokenTable], make_batch: MakeBatch, frames: int, tokens: int
) -> None:
    x, valid = _read(reader, _spoken(make_batch(2), _spectrogram(frames)))
    assert x.shape == (2, -(-frames // SPAN) * SPAN // 16, 24)
    assert valid.sum(dim=1).tolist() == [tokens, 0]
    assert MOST_TOKENS == MOST_FRAMES // 16 == 50


def test_what_is_read_does_not_rest_upon_the_padding_or_on_others(
    reader: tuple[SoundReader, TokenTable], make_batch: MakeBatch
) -> None:
    batch, mine = make_batch(3), _spectrogram(101)
    alone, known = _read(reader, _spoken(batch, mine))
    count = int(known[0].sum())
    for others in ((None, _spectrogram(790, 1)), (_spectrogram(330, 2), None)):
        beside, _ = _read(reader, _spoken(batch, mine, *others))
        torch.testing.assert_close(beside[0, :count], alone[0, :count], atol=1e-5, rtol=1e-5)
    inputs = _spoken(batch, mine)
    assert inputs.sound is not None
    inputs.sound.mel[0, 101:] = 5.0  # no sound, whatever is there
    torch.testing.assert_close(_read(reader, inputs)[0], alone)
    bare = Sound(mel=mine[None], valid=torch.ones(1, 101, dtype=torch.bool))
    torch.testing.assert_close(_read(reader, replace(batch[:1].inputs, sound=bare))[0][0], alone[0, :count])


def test_every_part_of_a_sound_matters(reader: tuple[SoundReader, TokenTable], make_batch: MakeBatch) -> None:
    batch, mine = make_batch(1), _spectrogram(150)
    alone, _ = _read(reader, _spoken(batch, mine))
    for frame in (0, 70, 149):
        other = mine.clone()
        other[frame] += 0.5
        assert not torch.allclose(_read(reader, _spoken(batch, other))[0], alone, atol=1e-4)
    hum, _ = _read(reader, _spoken(batch, mine[:1].expand(MOST_FRAMES, -1)))
    assert not torch.allclose(hum[0, 10], hum[0, 40], atol=1e-4)  # the same sound, early and late


@every_trunk
def test_where_nobody_speaks_nothing_moves(make_model: MakeModel, make_batch: MakeBatch, trunk: Any) -> None:
    """Neither for who is silent beside somebody who speaks, nor in a batch of silence, nor with more padding."""
    model = scaled(make_model(readers=_readers(looks=2), trunk=trunk)).eval()
    batch = make_batch(4)
    silent = model.act(batch.inputs).actions
    for inputs in (_spoken(batch, _spectrogram(100)), _spoken(batch, _spectrogram(30), least=MOST_FRAMES)):
        beside = model.act(inputs).actions
        torch.testing.assert_close(beside[1:], silent[1:], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(beside[0], silent[0], atol=1e-4)
    everybody = _spoken(batch, *[_spectrogram(100, i) for i in range(4)])
    assert everybody.sound is not None
    nobody = replace(everybody, sound=Sound(mel=0 * everybody.sound.mel, valid=torch.zeros_like(everybody.sound.valid)))
    torch.testing.assert_close(model.act(nobody).actions, silent, atol=1e-5, rtol=1e-5)


@every_trunk
def test_an_answer_rests_upon_its_own_sound(make_model: MakeModel, make_batch: MakeBatch, trunk: Any) -> None:
    model = scaled(make_model(readers=_readers(), trunk=trunk)).eval()
    batch = make_batch(3)
    short, long = _spectrogram(120, 1), _spectrogram(500, 2)
    together = model.act(_spoken(batch, short, long)).actions
    torch.testing.assert_close(model.act(_spoken(batch, short)).actions[0], together[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.act(_spoken(batch, None, long)).actions[1], together[1], atol=1e-5, rtol=1e-5)


def test_pictures_are_looked_at_in_the_light_of_who_is_asked(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """The maps of a first look know nothing but the features and the instruction."""

    def maps(asks: tuple[str, ...], heard: Tensor | None) -> Tensor:
        model = scaled(make_model(readers=_readers(asks=asks))).eval()
        inputs = _spoken(make_batch(1), heard)
        with torch.no_grad():
            _, activations = model._read_inputs(inputs)
        return activations["images.scores"]

    one, other = _spectrogram(100, 1), _spectrogram(100, 2)
    torch.testing.assert_close(maps(("text",), one), maps(("text",), other))
    for asks in (("text", "sound"), ("sound",)):
        assert not torch.allclose(maps(asks, one), maps(asks, other), atol=1e-4)


def test_who_is_asked_comes_before_who_asks() -> None:
    """A recipe adds a reader at the end; and what is written of it is read back."""
    recipe = {"readers": {"sound": {"kind": "sound"}, "images": {"asks": ["text", "sound"]}}}
    config = from_dict(UnifiedConfig, recipe, where="a test")
    assert list(config.readers) == ["text", "sound", "images", "state"]
    assert from_dict(UnifiedConfig, to_dict(config), where="a test") == config
    assert config.listens
    assert list(UnifiedConfig().readers) == ["text", "images", "state"]
    assert not UnifiedConfig().listens


@pytest.mark.parametrize(
    ("readers", "says"),
    [
        ({"images": {"asks": ["text", "sound"]}}, "model.readers.images asks 'sound', and there is no such reader"),
        ({"text": None}, "model.readers.images asks 'text', and there is no such reader; there are images, state"),
        ({"images": {"asks": ["images"]}}, "images asks images: no reader can come before itself"),
        ({"images": {"asks": []}}, "model.readers.images.asks is empty"),
        ({"sound": {"kind": "sound", "layers": 0}}, "model.readers.sound.layers=0 must be at least 1"),
    ],
)
def test_impossible_readers_are_refused(readers: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_dict(UnifiedConfig, {"readers": readers}, where="a test")


def test_workers_do_not_wait_for_who_is_silent(make_model: MakeModel) -> None:
    assert make_model().all_taught
    assert not make_model(readers=_readers()).all_taught


def test_a_longer_sound_is_refused(make_model: MakeModel, make_batch: MakeBatch) -> None:
    with pytest.raises(ContractError, match=r"sound: expected at most 8 s, got 9\.6 s; send the command alone"):
        make_model(readers=_readers()).act(_spoken(make_batch(1), _spectrogram(MOST_FRAMES + 1)))


def test_two_commands_that_differ_in_a_word_are_told_apart(make_model: MakeModel, make_batch: MakeBatch) -> None:
    """Said by several voices at several rates, they bring other actions, and so at a rate that was never heard."""
    said, voices, rates = ("lift the red block", "lift the blue block"), TRAINING[:4], range(150, 201, 10)
    heard = [
        [log_mel(synthesise(text, voice, words_per_minute=rate)) for text in said] for voice in voices for rate in rates
    ]
    torch.manual_seed(0)
    model = make_model(readers=_readers(), auxiliaries={})
    # All that tells the two apart is what is said: the same pictures, the same state, nothing written.
    both = make_batch(2)
    rows = torch.tensor([0, 1, 0, 1])
    inputs = both.inputs[:1]._each(lambda tensor: tensor.expand(4, *tensor.shape[1:]))
    inputs = replace(inputs, text=0 * inputs.text, text_valid=torch.zeros_like(inputs.text_valid))
    targets = both.targets._each(lambda tensor: tensor[rows])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        first, second = torch.randint(len(heard), (2,)).tolist()
        loss, _ = model.loss(replace(inputs, sound=Sound.of([*heard[first], *heard[second]])), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    for voice in voices:
        sound = Sound.of([log_mel(synthesise(text, voice, words_per_minute=175)) for text in said])
        found = model.act(replace(inputs[:2], sound=sound)).actions
        apart = torch.cdist(found.flatten(1), both.targets.actions.flatten(1))  # (2, 2)
        assert apart.diagonal().max() < 0.3 * min(apart[0, 1], apart[1, 0]), (voice, apart)
    silent = model.act(inputs[:2]).actions
    torch.testing.assert_close(silent[0], silent[1])
