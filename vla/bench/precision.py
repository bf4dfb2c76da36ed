"""What ``precision: auto`` chooses on this machine, and what it brings a training step."""

import time

import torch

from vla.bench.measure import Note, Row, compare
from vla.bench.settings import PrecisionConfig
from vla.bench.tabletop import INTERFACE, random_batch
from vla.models.device import choose_device
from vla.models.kinds.unified import UnifiedConfig
from vla.models.model import Model
from vla.training.optimiser import build_optimisers
from vla.training.precision import Precision, autocast, measure_precision
from vla.training.recipe import OptimiserConfig
from vla.training.step import train_step


def bench_precision(config: PrecisionConfig, note: Note) -> list[Row]:
    """Products of both precisions, and whole training steps of the default model in turn."""
    device = choose_device(config.device)
    torch.set_num_threads(config.threads)
    rates = measure_precision(device)
    note(f"{device}, {config.threads} threads: precision auto chooses {rates}")
    rows = [compare("products, bfloat16 against float32", rates.bfloat16, "GFLOP/s", against=rates.float32)]
    kinds: tuple[Precision, ...] = ("float32", "bfloat16")
    best = dict.fromkeys(kinds, 0.0)
    if rates.bfloat16 < config.hopeless * rates.float32:
        note("training steps in bfloat16 would take minutes here, and are left out")
        return rows
    for _ in range(config.turns):  # in turns, so that both see the same machine
        for kind in kinds:
            best[kind] = max(best[kind], _samples_per_s(device, kind, config))
    rows.append(compare("training, bfloat16 against float32", best["bfloat16"], "samples/s", against=best["float32"]))
    return rows


def _samples_per_s(device: torch.device, precision: Precision, config: PrecisionConfig) -> float:
    torch.manual_seed(0)
    model = _model().to(device)
    optimisers = build_optimisers(model, OptimiserConfig())
    batch = random_batch(config.batch).to(device)

    def step() -> None:
        with autocast(precision, device):
            loss, _ = model.loss(batch.inputs, batch.targets)
        train_step(model, loss, optimisers, lr_scale=1.0, clip=1.0)["loss"].item()

    step()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < config.seconds:
        step()
        steps += 1
    return steps * config.batch / (time.perf_counter() - began)


def _model() -> Model:
    config = UnifiedConfig()
    return config.build(INTERFACE, config.fit(torch.rand(100, config.horizon, INTERFACE.action) * 2 - 1))
