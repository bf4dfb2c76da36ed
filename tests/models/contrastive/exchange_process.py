"""Groups of processes that compare pairs, one after the other: FOLDER, then GROUP=WORLD:MISTAKE for each.

What each computed lies in FOLDER/GROUP/RANK.safetensors. They are forked, so that PyTorch is imported once.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.models.contrastive import contrast, exchange, losses
from vla.models.contrastive.config import LOSSES

LARGEST: list[int] = []


def _watched(images: Tensor, texts: Tensor) -> Tensor:
    LARGEST.append(len(images) * len(texts))
    return images @ texts.mT


def _unpulled(rows: Tensor) -> Tensor:
    """The plain gather: others' rows come without a way back."""
    pieces = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(pieces, rows.contiguous())
    pieces[dist.get_rank()] = rows
    return torch.cat(pieces)


def _compare(folder: Path, rank: int, world: int, mistake: str) -> None:
    torch.set_num_threads(1)
    losses.similarities = _watched
    if mistake == "no way back":
        contrast.gather = _unpulled
    if mistake == "pulls stay":
        passed_on = exchange._passed_on
        exchange._passed_on = lambda texts, pull, ids: [(moved := passed_on(texts, pull, ids))[0], pull, moved[2]]
    if mistake == "ids stay":
        exchange._passed_on = lambda *mine, on=exchange._passed_on: [*on(*mine)[:2], mine[2]]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    pairs = load_file(folder.parent / "pairs.safetensors")
    found = {}
    for kind in LOSSES:
        for told in (True, False):
            loss = LOSSES[kind](kind=kind).build()
            images, texts, ids = (pairs[name].chunk(world)[rank].clone() for name in ("images", "texts", "ids"))
            images.requires_grad_()
            texts.requires_grad_()
            LARGEST.clear()
            value = loss(images, texts, ids if told else None)
            (3 * value).backward()
            here = {"loss": value.detach(), "images": images.grad, "texts": texts.grad}
            here |= {name: p.grad for name, p in loss.double().named_parameters()} | {
                "most": torch.tensor(LARGEST).max()
            }
            found |= {f"{kind} {told} {name}": x for name, x in here.items()}
    if rank == 0:  # an evaluator on one worker waits for nobody
        for kind in LOSSES:
            alone = LOSSES[kind](kind=kind).build().eval()
            rows = {name: x.chunk(world)[0] for name, x in pairs.items()}
            with torch.no_grad():
                found[f"{kind} alone"] = alone(rows["images"], rows["texts"], rows["ids"])
    save_file(found, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


def main(folder: Path, groups: list[str]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # or each group first asks the network who this machine is
    fork = multiprocessing.get_context("fork")
    for group in groups:
        name, _, what = group.partition("=")
        world, _, mistake = what.partition(":")
        (folder / name).mkdir()
        ranks = range(int(world))
        running = [fork.Process(target=_compare, args=(folder / name, rank, len(ranks), mistake)) for rank in ranks]
        for process in running:
            process.start()
        for process in running:
            process.join(timeout=60)
        assert [process.exitcode for process in running] == [0] * len(ranks), group


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
