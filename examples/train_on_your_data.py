"""Train on your own files: any format that `vla data convert` reads (robomimic, LeRobot, RLDS, MCAP, …).

python examples/train_on_your_data.py demo.hdf5 runs/mine --steps 20000
"""

import argparse
from pathlib import Path

from vla import open_dataset, train
from vla.datasets.formats.importing import ImportSettings, import_source
from vla.datasets.formats.source import Hints
from vla.datasets.formats.table import open_source

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()

    source = open_source(arguments.source, Hints())
    for note in source.notes:  # what had to be assumed; say it yourself with Hints(...)
        print("note:", note)
    data = arguments.out / "data"
    settings = ImportSettings(codecs={camera.name: "zstd" for camera in source.contract.cameras}, engine="inline")
    import_source(source, data, where=str(arguments.source), settings=settings, provenance={})
    dataset = open_dataset(data)
    print(f"{len(dataset.episodes)} episodes, {len(dataset)} steps of {dataset.contract.robot}")

    changes = {
        "data": {"path": str(data), "strata": {}},
        "engine": "inline",
        "workers": 1,
        "steps": arguments.steps,
        "minutes": 1e6,
    }
    trained = train("demo", arguments.out, changes=changes)
    print(f"{trained.checkpoint}: {trained.steps} steps, loss {trained.metrics.get('action_loss', float('nan')):.3f}")
