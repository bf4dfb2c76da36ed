"""What every writer of the table does: a new one is tested by having a line there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.learning import scaled
from tests.models.pictures.scenes import pictures, scenes
from vla.core.errors import CheckpointError, ConfigError, UnknownNameError
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.models.pictures.config import PatchCodesConfig
from vla.models.pictures.folder import load_image_codec, write_image_codec
from vla.models.readers.config import CodesConfig, StateConfig, TextConfig
from vla.models.trunk.inputs import Batch, Written
from vla.models.trunk.interface import Interface
from vla.models.trunk.sequence import Reading
from vla.models.writers.config import WRITERS, PictureWriterConfig, TextWriterConfig, WriterConfig

MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., Model]
LONGEST = 4
"""Tokens of an answer."""
SIZE = 32
Pulls = dict[str, Tensor]


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("codes")
    for name, seed in (("own", 0), ("other", 1)):
        config = PatchCodesConfig(codes=24, side=8, seed=seed)
        write_image_codec(root / name, config, config.fit(pictures(30), lambda fraction, text: None), {}, b"")
    return root / "own"


@pytest.fixture
def writers(codec: Path) -> dict[str, WriterConfig]:
    return {"text": TextWriterConfig(), "picture": PictureWriterConfig(path=str(codec))}


@pytest.fixture
def batch(make_batch: MakeBatch) -> Batch:
    """Three samples that act, of which two know how they end, and three questions, of answers of 1, 2 and 4 tokens."""
    found = make_batch(size=6)
    random = torch.Generator().manual_seed(5)
    lengths = torch.tensor([0, 0, 0, 1, 2, LONGEST])
    known = torch.arange(LONGEST) < lengths[:, None]
    ids = torch.randint(0, 40, (6, LONGEST), generator=random) * known
    ends = torch.tensor([True, False, True, False, False, False])
    goal = torch.from_numpy(scenes(12, seed=3)).view(6, 2, SIZE, SIZE, 3)
    written = {
        "answer": Written(value=ids, known=known),
        "goal": Written(value=goal, known=ends[:, None].expand(-1, 2).clone()),
    }
    valid = found.targets.valid & (lengths == 0)[:, None, None]
    images = torch.from_numpy(scenes(12, seed=7)).view(6, 1, 2, SIZE, SIZE, 3)
    return replace(
        found,
        inputs=replace(found.inputs, images=images),
        targets=replace(found.targets, valid=valid, written=written),
    )


@pytest.fixture
def make(make_model: MakeModel, interface: Interface, writers: dict[str, WriterConfig]) -> MakeModel:
    def made(**changes: Any) -> Model:
        model = make_model(interface=replace(interface, answer=LONGEST), **({"writers": writers} | changes))
        model.begin()
        return model

    return made


def _pulls(model: Model, batch: Batch, name: str) -> Pulls:
    """The gradient of one term."""
    torch.manual_seed(0)
    term = model.terms(batch.inputs, batch.targets)[0][name]
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(term, list(named.values()), allow_unused=True)
    return {n: g for n, g in zip(named, found, strict=True) if g is not None and g.abs().any()}


def _close(one: Pulls, other: Pulls) -> bool:
    return one.keys() == other.keys() and all((one[n] - other[n]).abs().max() < 1e-6 for n in one)


def _rows(batch: Batch, *rows: int) -> Batch:
    return batch[torch.tensor(rows)]


def test_every_kind_is_here(writers: dict[str, WriterConfig]) -> None:
    assert {config.kind for config in writers.values()} == WRITERS.keys()


def test_one_batch_is_learned_and_written_again(make: MakeModel, batch: Batch, codec: Path) -> None:
    model = make()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        loss, metrics = model.loss(batch.inputs, batch.targets)
        loss.backward()
        optimiser.step()
    assert metrics["answer_right"] == 1
    model.eval()
    with torch.inference_mode():
        answers = model.write("text", batch.inputs[3:])
        ends = model.write("picture", batch.inputs[torch.tensor([0, 2])])
    assert torch.equal(answers.value, batch.targets.written["answer"].value[3:])
    assert torch.equal(answers.known, batch.targets.written["answer"].known[3:])
    own = load_image_codec(codec)
    wanted = own.encode(batch.targets.written["goal"].value[torch.tensor([0, 2]), 0])
    assert (own.encode(ends.value[:, 0]) == wanted).float().mean() > 0.9
    assert ends.value.dtype == torch.uint8


def test_acting_is_as_it_would_be_without_writers(make: MakeModel, batch: Batch) -> None:
    """The same answer to the bit: neither sees what the other writes."""
    model, plain = scaled(make()).eval(), make(writers={}).eval()
    own, ranges = model.state_dict(), model.table.vocabulary
    rows = [i for name in plain.table.vocabulary for i in ranges.range(name)]
    plain.load_state_dict({n: own[n][rows] if n == "table.weight" else own[n] for n in plain.state_dict()})
    for name, one in vars(model.act(batch.inputs)).items():
        other = getattr(plain.act(batch.inputs), name)
        assert torch.equal(one, other) if name == "actions" else all(torch.equal(one[k], other[k]) for k in one)


def test_no_modality_costs_another_anything(make: MakeModel, batch: Batch) -> None:
    """Its gradient stays where the samples of another leave the batch, or have other counts of tokens."""
    model = scaled(make())
    without_questions, without_acts, one_end = _rows(batch, 0, 1, 2), _rows(batch, 3, 4, 5), batch
    goal = batch.targets.written["goal"]
    fewer = {**batch.targets.written, "goal": replace(goal, known=goal.known & (torch.arange(6) != 2)[:, None])}
    one_end = replace(batch, targets=replace(batch.targets, written=fewer))
    answer = batch.targets.written["answer"]
    short = {**batch.targets.written, "answer": replace(answer, known=answer.known & (torch.arange(LONGEST) < 1))}
    shorter = replace(batch, targets=replace(batch.targets, written=short))
    pulls = {name: _pulls(model, batch, name) for name in ("action", "text", "picture", "grounding")}
    assert all(pulls.values())
    for name in ("action", "picture"):
        assert _close(pulls[name], _pulls(model, without_questions, name))
        assert _close(pulls[name], _pulls(model, shorter, name))
    assert _close(pulls["text"], _pulls(model, without_acts, "text"))
    for name in ("action", "text"):
        assert _close(pulls[name], _pulls(model, one_end, name))
    assert not _close(pulls["picture"], _pulls(model, one_end, "picture"))
    assert not _close(pulls["text"], _pulls(model, shorter, "text"))


def test_a_batch_without_anything_to_write_is_one_of_actions(make: MakeModel, batch: Batch) -> None:
    model = make()
    plain = replace(batch, targets=replace(batch.targets, written={}))
    assert model.terms(plain.inputs, plain.targets)[0].keys() == {"action", "grounding", "pointing"}


def test_a_static_cache_writes_what_a_growing_one_does(make: MakeModel, batch: Batch) -> None:
    model = scaled(make()).eval()
    for name in ("text", "picture"):
        with torch.inference_mode():
            static = model.write(name, batch.inputs)
        growing = model.write(name, batch.inputs)
        assert torch.equal(static.value, growing.value)
        assert torch.equal(static.known, growing.known)


def test_an_answer_sees_nothing_behind_it(make: MakeModel, batch: Batch) -> None:
    """The loss of a first word does not move with the last one."""
    model = scaled(make())
    asked = _rows(batch, 5)
    answer = asked.targets.written["answer"]
    first = replace(answer, known=answer.known & False)
    hidden = []
    for last in (0, 7):
        value = answer.value.clone()
        value[:, -1] = last
        changed = replace(asked, targets=replace(asked.targets, written={"answer": replace(answer, value=value)}))
        segments, _ = model._read_inputs(changed.inputs)  # type: ignore[operator]
        hidden.append(_first_logits(model, segments, changed))
    assert torch.equal(hidden[0][:, :-1], hidden[1][:, :-1])
    assert not torch.equal(hidden[0][:, -1], hidden[1][:, -1])
    assert not first.rows.numel()


def _first_logits(model: Any, segments: Any, batch: Batch) -> Tensor:
    seen: list[Tensor] = []
    writer = model.writers["text"]
    plain = writer._logits

    def kept(hidden: Tensor, table: Any) -> Tensor:
        seen.append(plain(hidden, table))
        return seen[-1]

    writer._logits = kept
    try:
        reading = Reading(model.trunk, segments)
        writer.loss(model.trunk, reading, batch.inputs, batch.targets.written["answer"], model.table)
    finally:
        del writer._logits
    return seen[0]


def test_what_is_read_is_written_in_the_same_range(make: MakeModel, codec: Path) -> None:
    def readers(path: Path) -> dict[str, Any]:
        return {"text": TextConfig(heads=3), "images": CodesConfig(path=str(path)), "state": StateConfig(dropout=0.0)}

    model = make(readers=readers(codec), auxiliaries={})
    assert list(model.table.vocabulary).count("image") == 1
    with pytest.raises(ConfigError, match=r"readers.images and writers.picture both ask for the range 'image'"):
        make(readers=readers(codec.parent / "other"), auxiliaries={})


def test_what_does_not_fit_is_refused(
    make: MakeModel, make_model: MakeModel, make_batch: MakeBatch, writers: dict[str, WriterConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"the data asks none; collect some with vla collect --questions 4"):
        make_model(writers={"text": writers["text"]})
    with pytest.raises(ConfigError, match=r"writers.picture.camera=2: expected 0 to 1, the cameras are front, wrist"):
        make(writers={"picture": replace(writers["picture"], camera=2)})
    with pytest.raises(ConfigError, match=r"model.writers.picture.path: which codec\?"):
        PictureWriterConfig().fit()
    with pytest.raises(CheckpointError, match=r"nowhere"):
        PictureWriterConfig(path=str(tmp_path / "nowhere")).fit()
    with pytest.raises(ConfigError, match=r"weight=0.0 must be positive"):
        TextWriterConfig(weight=0.0)
    with pytest.raises(ConfigError, match=r"model.writers.grounding: so another loss is called"):
        UnifiedConfig(writers={"grounding": TextWriterConfig()})
    model = make()
    with pytest.raises(UnknownNameError, match=r"sound"):
        model.write("sound", make_batch().inputs)
    with pytest.raises(ConfigError, match=r"was fitted to pictures of 32 x 32, and these are 20 x 24"):
        model.write("picture", make_batch().inputs)


@torch.no_grad()
def test_a_picture_begins_with_the_present(make: MakeModel, batch: Batch) -> None:
    """Each code is told what stands in its place now, beside all that has been read; a covered camera tells nothing."""
    model: Any = scaled(make()).eval()
    writer, prefix = model.writers["picture"], Reading(model.trunk, model._read_inputs(batch.inputs)[0])
    ids = torch.zeros(6, 16, dtype=torch.long)

    def read(images: Tensor, seen: bool) -> Tensor:
        inputs = replace(batch.inputs, images=images, camera_valid=torch.full((6, 2), seen))
        found: Tensor = writer._read(model.trunk, prefix, inputs, ids, ids < 0, model.table)
        return found

    other = batch.inputs.images.flip(0)
    assert not torch.equal(read(batch.inputs.images, True), read(other, True))
    assert torch.equal(read(batch.inputs.images, False), read(other, False))
