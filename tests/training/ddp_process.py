"""One of several processes that train one model: RECIPE RUN RANK WORLD."""

import json
import sys
from pathlib import Path

import torch.distributed as dist

from vla.core.config import from_dict
from vla.training.claims import claim_run
from vla.training.loop import train_worker
from vla.training.parallel import Ddp, join
from vla.training.recipe import TrainConfig


def main(recipe: Path, run: Path, rank: int, world: int) -> None:
    config = from_dict(TrainConfig, json.loads(recipe.read_text()), where=str(recipe))
    if rank == 0:
        claim_run(run, config)
    dist.init_process_group("gloo", init_method=f"file://{run}/meeting", rank=rank, world_size=world)
    parallel = join(config)
    assert isinstance(parallel, Ddp)
    train_worker(config, run, parallel)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
