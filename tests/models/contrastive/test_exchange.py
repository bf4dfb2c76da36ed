"""Workers that compare together learn what one would from the whole batch, to the last digits."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from vla.models.contrastive.config import LOSSES
from vla.models.contrastive.exchange import own_ids, sentence_ids, workers

PROCESS = Path(__file__).with_name("exchange_process.py")
WORLDS, ROWS = (1, 2, 4), 8
MISTAKES = ("no way back", "pulls stay", "ids stay")


def _pairs() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(3)
    images, texts = (F.normalize(torch.randn(ROWS, 5, generator=random, dtype=torch.float64), dim=-1) for _ in range(2))
    return {"images": images, "texts": texts, "ids": torch.tensor([5, 2, 9, 5, 9, 1, 2, 5])}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each group of processes found, a folder each."""
    folder = tmp_path_factory.mktemp("exchange")
    save_file(_pairs(), folder / "pairs.safetensors")
    groups = [f"{world}={world}:" for world in WORLDS] + [f"{mistake}=2:{mistake}" for mistake in MISTAKES]
    command = [sys.executable, str(PROCESS), str(folder), *groups]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode()
    return folder


def _found(folder: Path) -> dict[str, Tensor]:
    """Of one group: losses and gradients averaged as data-parallel training does, rows side by side."""
    found = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {
        name: torch.cat([each[name] for each in found]) / len(found)
        if name.endswith((" images", " texts"))
        else torch.stack([each[name].double() for each in found]).mean(dim=0)
        for name in found[-1]
    }


def _alone() -> dict[str, Tensor]:
    """The loss of the whole batch and three times its gradients."""
    found = {}
    for kind in LOSSES:
        for told in (True, False):
            pairs, loss = _pairs(), LOSSES[kind](kind=kind).build()
            images, texts = (pairs[name].requires_grad_() for name in ("images", "texts"))
            value = loss(images, texts, pairs["ids"] if told else None)
            (3 * value).backward()
            here = {"loss": value.detach(), "images": images.grad, "texts": texts.grad}
            here |= {name: p.grad for name, p in loss.named_parameters()}
            found |= {f"{kind} {told} {name}": x for name, x in here.items() if x is not None}
    return found


def _wrong(found: dict[str, Tensor], expected: dict[str, Tensor]) -> set[str]:
    return {
        name for name, x in expected.items() if not torch.allclose(found[name].to(x.dtype), x, rtol=1e-6, atol=1e-9)
    }


@pytest.mark.parametrize("world", WORLDS)
def test_workers_learn_what_one_would_from_all(world: int, together: Path) -> None:
    found = _found(together / str(world))
    assert _wrong(found, _alone()) == set()
    here = ROWS // world
    # Of the sigmoid no more than a worker's own squared is ever there, of softmax its own by all.
    assert found["sigmoid True most"] == here * here
    assert found["infonce True most"] == here * ROWS


@torch.no_grad()
def test_an_evaluator_on_one_worker_asks_nobody(together: Path) -> None:
    """Or it would wait for ever: only this one computes."""
    found = load_file(together / "2" / "0.safetensors")
    rows = {name: x[: ROWS // 2] for name, x in _pairs().items()}
    for kind in LOSSES:
        expected = LOSSES[kind](kind=kind).build()(rows["images"], rows["texts"], rows["ids"])
        torch.testing.assert_close(found[f"{kind} alone"], expected)


def test_mistakes_are_noticed(together: Path) -> None:
    expected = _alone()
    seen = {mistake: _wrong(_found(together / mistake), expected) for mistake in MISTAKES}
    softmax = [f"{kind} {told}" for kind in ("infonce", "smoothed") for told in (True, False)]
    assert seen["no way back"] == {f"{name} {rows}" for name in softmax for rows in ("images", "texts")}
    assert seen["pulls stay"] == {"sigmoid True texts", "sigmoid False texts"}
    assert {"sigmoid True loss", "sigmoid False loss"} <= seen["ids stay"]


def test_sentences_have_numbers() -> None:
    words = torch.tensor([[3, 4, 5, 0], [3, 4, 5, 9], [4, 3, 5, 0], [0, 3, 4, 5], [3, 4, 5, 0], [3, 4, 0, 0]])
    valid = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    ids = sentence_ids(words, valid)
    assert ids[0] == ids[1]  # what is not valid does not count
    assert len(ids[1:].unique()) == 5
    random = torch.randint(0, 50, (20_000, 12), generator=torch.Generator().manual_seed(0))
    assert len(sentence_ids(random, torch.ones_like(random).bool()).unique()) == len(random.unique(dim=0))


def test_alone_there_is_nobody_to_ask() -> None:
    assert workers() == 1
    assert own_ids(torch.zeros(3, 2)).tolist() == [0, 1, 2]
