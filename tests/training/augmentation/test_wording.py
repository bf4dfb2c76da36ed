"""Words around a command: the command stays whole and in order, every place is learned, and a seeded step repeats."""

from dataclasses import replace

import pytest
import torch

from vla.evaluation.scenes.phrasing import FRAMES
from vla.models.text.pieces import PieceTokenizer
from vla.models.text.words import WordTokenizer
from vla.models.trunk.inputs import Inputs
from vla.training.augmentation.config import AugmentationConfig
from vla.training.augmentation.wording import Wording

SAID = ["put the red block on the blue plate", "move the green block to the red plate", "lift the blue block"]
LENGTH, B = 32, 600
TOKENIZER = WordTokenizer.fit(SAID)


def _inputs() -> Inputs:
    ids, valid = map(torch.from_numpy, TOKENIZER.encode([SAID[i % 3] for i in range(B)], LENGTH))
    return Inputs(
        images=torch.zeros(B, 1, 1, 1, 1, 3, dtype=torch.uint8),
        camera_valid=torch.ones(B, 1, dtype=torch.bool),
        state=torch.zeros(B, 1, 1),
        state_valid=torch.ones(B, 1, dtype=torch.bool),
        observed=torch.ones(B, 1, dtype=torch.bool),
        text=ids,
        text_valid=valid,
        embodiment=torch.zeros(B, dtype=torch.long),
    )


def _said(seed: int, share: float = 1.0, inputs: Inputs | None = None) -> list[list[str]]:
    torch.manual_seed(seed)
    changed = Wording(AugmentationConfig(words=share), TOKENIZER, SAID)(inputs or _inputs())
    assert changed.text.shape == changed.text_valid.shape
    assert not changed.text[~changed.text_valid].any()
    rows = zip(changed.text, changed.text_valid, strict=True)
    return [TOKENIZER.decode(ids[known].tolist()).split() for ids, known in rows]


def test_what_tells_instructions_apart_stays_in_its_order() -> None:
    common = {"the", "block", "plate", "red", "blue"}  # of more than half of these three
    rare = [[w for w in SAID[i % 3].split() if w not in common] for i in range(B)]
    for words, command in zip(_said(0), rare, strict=True):
        assert [w for w in words if w in command or w not in {*common, "<unknown>"}] == command


def test_every_place_is_learned_and_most_batches_are_short() -> None:
    wording, inputs, widths = Wording(AugmentationConfig(words=1.0), TOKENIZER, SAID), _inputs(), []
    for seed in range(60):
        torch.manual_seed(seed)
        widths.append(wording(inputs).text.shape[1])
    assert min(widths) == 8
    assert max(widths) == LENGTH
    assert sum(widths) / len(widths) < 0.6 * LENGTH


def test_a_share_is_changed_and_none_without_one() -> None:
    plain = [SAID[i % 3].split() for i in range(B)]
    seed = next(s for s in range(100) if max(map(len, _said(s))) > 20)  # a batch with room
    assert 0.3 < sum(a != b for a, b in zip(_said(seed, 0.5), plain, strict=True)) / B < 0.55
    assert _said(seed, 0.0) == plain


def test_without_other_words_no_batch_is_longer_than_the_longest_instruction() -> None:
    """Of a dataset without words one place stays, which nobody sees."""
    for said, width in ((SAID, 8), ([""], 1)):
        assert Wording(AugmentationConfig(words=0.0), TOKENIZER, said)(_inputs()).text.shape == (B, width)


def test_a_share_begins_at_another_word_and_loses_none() -> None:
    torch.manual_seed(0)
    inputs = _inputs()
    changed = Wording(AugmentationConfig(words=0.0, rotate=0.5), TOKENIZER, SAID)(inputs)
    assert torch.equal(changed.text_valid, inputs.text_valid[:, :8])
    begins: list[int] = []
    for i, (ids, known) in enumerate(zip(changed.text, changed.text_valid, strict=True)):
        said, plain = TOKENIZER.decode(ids[known].tolist()).split(), SAID[i % 3].split()
        (turn,) = (k for k in range(len(plain)) if plain[k:] + plain[:k] == said)
        begins.append(turn)
    assert 0.3 < sum(turn != 0 for turn in begins) / B < 0.5
    assert set(begins) == set(range(8))


def test_a_seeded_step_repeats() -> None:
    assert _said(3) == _said(3) != _said(4)


def test_where_words_are_spelled_the_others_are_pieces_that_no_command_needs() -> None:
    tokenizer = PieceTokenizer.fit(SAID, 300)
    ids, valid = (torch.from_numpy(array) for array in tokenizer.encode(SAID * (B // 3), LENGTH))
    inputs = replace(_inputs(), text=ids, text_valid=valid)
    torch.manual_seed(0)
    heard = Wording(AugmentationConfig(words=1.0), tokenizer, SAID)(inputs)
    foreign = set(heard.text[heard.text_valid].tolist()) - set(ids[valid].tolist())
    assert len(foreign) > 200
    assert foreign <= set(tokenizer.fillers(SAID))


@pytest.mark.parametrize("frame", [frame for frames in FRAMES.values() for frame in frames])
def test_no_frame_of_the_evaluation_can_be_met_in_training(frame: str) -> None:
    """What is trained holds the data's words and the unknown one; each frame has a word that is in no demonstration."""
    read = set(TOKENIZER.decode(TOKENIZER.ids(frame.format(""))).split())
    assert "<unknown>" in read
    assert read <= {"<unknown>", *TOKENIZER.pieces()}


def test_blank_stays_blank_of_its_own_words() -> None:
    inputs = _inputs()
    blank = replace(inputs, text=torch.zeros_like(inputs.text), text_valid=torch.zeros_like(inputs.text_valid))
    assert all(not set(words) - {"<unknown>", "the", "block", "plate", "red", "blue"} for words in _said(1, 1.0, blank))


def test_any_word_may_be_lost_but_those_that_are_kept() -> None:
    """A verb that was never said is such a word; the colours that tell things apart are not."""
    torch.manual_seed(3)
    heard = Wording(AugmentationConfig(words=1.0, lost=0.3, colours=("red", "green", "blue")), TOKENIZER, SAID)(
        _inputs()
    )
    rows = zip(heard.text, heard.text_valid, strict=True)
    said = [TOKENIZER.decode(ids[known].tolist()).split() for ids, known in rows]
    for i, words in enumerate(said):
        colours = [word for word in SAID[i % 3].split() if word in ("red", "green", "blue")]
        assert [word for word in words if word in ("red", "green", "blue")] == colours
    for word in ("put", "move", "lift", "plate"):
        own = [words for i, words in enumerate(said) if word in SAID[i % 3].split()]
        assert 0.2 < 1 - sum(word in words for words in own) / len(own) < 0.4, word


def test_of_a_question_no_word_is_lost() -> None:
    acting = torch.arange(0, B, 2)
    plain, heard = (Wording(AugmentationConfig(words=1.0, lost=lost), TOKENIZER, SAID) for lost in (0.0, 1.0))
    found = []
    for wording in (plain, heard):
        torch.manual_seed(3)
        found.append(wording(_inputs(), acting).text)
    assert torch.equal(found[0][1::2], found[1][1::2])
    assert not torch.equal(found[0][::2], found[1][::2])


def test_a_sentence_may_begin_before_a_preposition_alone() -> None:
    """As people say it: "on the blue plate put the red block", and never "block on the blue plate put the red"."""
    torch.manual_seed(3)
    heard = Wording(AugmentationConfig(words=0.0, rotate=0.5, rotate_before=("on", "to")), TOKENIZER, SAID)(_inputs())
    rows = zip(heard.text, heard.text_valid, strict=True)
    said = {" ".join(TOKENIZER.decode(ids[known].tolist()).split()) for ids, known in rows}
    assert said == {*SAID, "on the blue plate put the red block", "to the red plate move the green block"}
