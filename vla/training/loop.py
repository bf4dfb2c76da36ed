"""The training loop of one worker, top to bottom: the same in this process and under Ray, on a CPU and on a GPU."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.core.config import to_dict
from vla.core.errors import ConfigError
from vla.core.lookup import lookup
from vla.core.media.boxes import read_box
from vla.core.provenance import provenance
from vla.datasets.sampling.loader import iterate_steps
from vla.models.checkpoint import write_checkpoint
from vla.models.freezing import Frozen, require_known
from vla.models.gradients import gradient_norms
from vla.models.lora import adapt, merged
from vla.models.model import Model
from vla.models.preprocessor import Preprocessor
from vla.models.transfer import Fate, transfer
from vla.models.trunk.inputs import Inputs, Targets
from vla.sound.bank import SpeechBank
from vla.training.augmentation.config import AugmentationConfig
from vla.training.augmentation.pictures import Augmentation
from vla.training.augmentation.speech import Speaking
from vla.training.augmentation.wording import Wording
from vla.training.claims import claim_bank, claim_data, progress, read_claim
from vla.training.closed_loop import ClosedLoop
from vla.training.evaluators import EVALUATORS, Evaluator
from vla.training.metrics import Log, Means, MetricsLog, Silence
from vla.training.optimiser import build_optimisers
from vla.training.parallel import Parallel
from vla.training.precision import autocast
from vla.training.recipe import TrainConfig
from vla.training.samples import Samples, Source, open_samples
from vla.training.state import Position, load_state, newest_state, save_state, settle_precision, write_final
from vla.training.step import lr_scale, train_step, update_average

STOP = "STOP"
"""A file of this name in the run folder ends the run after the present step, with a state to resume from."""


def train_worker(config: TrainConfig, run: Path, parallel: Parallel, log: Log = lambda _: None) -> None:
    """Train until the time or the steps of the recipe are used up, or until asked to stop.

    The order is important: the seed before the weights, the average before the state that fills it, the state before
    what counts from it.
    """
    with ExitStack() as closing:
        _train(config, run, parallel, log, closing)


def _train(config: TrainConfig, run: Path, parallel: Parallel, log: Log, closing: ExitStack) -> None:
    """See `train_worker`; ``closing`` ends what runs beside."""
    first, device = parallel.rank == 0, parallel.device
    torch.set_num_threads(config.threads)
    precision = settle_precision(run, config.precision, parallel)

    # -- data --------------------------------------------------------------------------------------------------------
    samples = open_samples(config)
    blueprint = samples.blueprint
    claim_data(run, blueprint.contract, write=first)
    bank = claim_bank(run, config.augmentation.speech, write=first)
    alter = _altering(config.augmentation, blueprint.preprocessor, samples.train, bank)
    evaluators = [lookup("evaluator", name, EVALUATORS)(samples, config.seed) for name in config.evaluators]

    # -- model and optimiser -----------------------------------------------------------------------------------------
    torch.manual_seed(config.seed)  # every rank builds the same weights
    model = blueprint.build()
    if newest_state(run) is None:
        model.begin()
    fates = [*samples.fates, *transfer(samples.parent, blueprint, model)] if samples.parent else []
    parameters = sum(parameter.numel() for parameter in model.parameters())
    frozen = _freeze(model.to(device), config)
    frozen.train(model)
    wrapped = parallel.wrap(model)
    optimisers = build_optimisers(model, config.optimiser)
    average = {name: value.clone() for name, value in model.state_dict().items()}

    # -- where the run stands ----------------------------------------------------------------------------------------
    start = position = load_state(run, model, average, optimisers)
    metrics_log = MetricsLog(run, log, start.step, wandb=config.wandb) if first else Silence()
    closing.callback(metrics_log.close)
    if fates:
        metrics_log.event("init", checkpoint=config.init, fates=[vars(fate) for fate in fates])
    if samples.nothing_held_out:
        metrics_log.event("note", text=samples.nothing_held_out)
    batches = samples.batches(batch=config.batch, rank=parallel.rank, world=parallel.world, start=start.consumed)
    began = time.monotonic()
    due = {"validate": began + config.validate_s, "save": began + config.checkpoint_s}
    means = Means(samples=config.batch * parallel.world)

    def write(path: Path) -> None:
        training = vars(position) | {"device": str(device), "precision": precision}
        plain = merged(average, config.lora.alpha)
        write_checkpoint(path, blueprint, plain, _origin(config, run, samples, fates, training, parameters))

    driving = None
    if first and config.closed_loop.env:
        driving = ClosedLoop(config.closed_loop, run, samples.scenes, metrics_log)
        closing.callback(driving.close)

    # -- loop --------------------------------------------------------------------------------------------------------
    for recorded in iterate_steps(batches, config.data.loaders, pin_memory=device.type == "cuda"):
        seconds = start.seconds + time.monotonic() - began
        fraction, stop = _progress(config, run, position.step, seconds, parallel)
        if stop or fraction >= 1.0:
            position = replace(position, seconds=seconds)  # the wait for this batch too, or a resumed run would go on
            break
        if first and time.monotonic() >= due["save"]:
            due["save"] = time.monotonic() + config.checkpoint_s
            save_state(run, position, model, average, optimisers)
        torch.manual_seed(_mix(config.seed, position.step, parallel.rank))  # dropout and augmentation of this step
        batch = recorded.to(device)
        scale = lr_scale(position.step, fraction, warmup_steps=config.warmup_steps, constant=config.constant)
        with autocast(precision, device):
            inputs, targets = alter(batch.inputs, batch.targets)
            pulls = gradient_norms(model, inputs, targets) if _due(position.step, config.gradient_steps) else {}
            loss, metrics = wrapped(inputs, targets)
        metrics = train_step(wrapped, loss, optimisers, lr_scale=scale, clip=config.optimiser.clip) | metrics | pulls
        seconds = start.seconds + time.monotonic() - began
        consumed = position.consumed + config.batch * parallel.world
        position = Position(step=position.step + 1, consumed=consumed, seconds=seconds)
        means.add(metrics)
        if first:
            update_average(average, model, step=position.step, span=config.ema, frozen=frozen.names)
        if position.step % config.log_steps == 0:
            row = means.take(parallel)
            metrics_log.write("train", position.step, seconds, row | {"lr_scale": scale, "fraction": fraction})
        if first and time.monotonic() >= due["validate"]:
            if row := _evaluate(model, average, evaluators, device, frozen):
                metrics_log.write("validation", position.step, seconds, row)
            due["validate"] = time.monotonic() + config.validate_s
        if driving is not None:
            driving.offer(position.step, seconds, write)

    # -- what stays --------------------------------------------------------------------------------------------------
    if first:
        save_state(run, position, model, average, optimisers)
    if first and not stop:
        write_final(run, write)
        if driving is not None:
            driving.finish(position.step, position.seconds, write)


def _freeze(model: Model, config: TrainConfig) -> Frozen:
    """What stays as it is; with low-rank adaptation all but its factors, and what the recipe names beside them."""
    lora = config.lora
    if not lora.rank:
        return Frozen(model, config.freeze)
    plain = list(model.state_dict())
    require_known(lora.train, plain, what="lora.train", of="weight")
    whole = {name for name in plain for pattern in lora.train if fnmatchcase(name, pattern)}
    factors = adapt(model, lora.targets, rank=lora.rank, alpha=lora.alpha)
    if lost := whole.difference(model.state_dict()):
        raise ConfigError(f"train.lora.train: {min(lost)} is adapted by lora.targets; name it in one of them")
    return Frozen(model, ("*",), but=factors | whole)


def _altering(
    config: AugmentationConfig, preprocessor: Preprocessor, data: Source, bank: SpeechBank | None
) -> Callable[[Inputs, Targets], tuple[Inputs, Targets]]:
    """Batches as they might as well have been recorded, in pictures and words; questions are never spoken."""
    if (config.shift or config.crop) and any(read_box(answer) for answer in data.answers):
        raise ConfigError(
            f"train.augmentation: shift={config.shift} and crop={config.crop} move what is seen, and answers of "
            "the data say where that is, as boxes: set both to 0, or collect without --boxes"
        )
    instructions = data.instructions
    tokens = dict(zip(instructions, preprocessor.texts(instructions)[0].tolist(), strict=True))
    augment = Augmentation(config, preprocessor.signals, preprocessor.interface.cameras, tokens)
    reword = Wording(config, preprocessor.tokenizer, instructions)
    speaking = None
    if bank is not None:
        spoken = {text: ids for text, ids in tokens.items() if text not in data.questions}
        speaking = Speaking(bank, config.spoken, spoken)

    def alter(inputs: Inputs, targets: Targets) -> tuple[Inputs, Targets]:
        inputs, targets = augment(inputs, targets)
        said = inputs.text  # words last: pictures and voices are chosen by what the data says
        inputs = reword(inputs, targets.acting)
        return speaking(inputs, said, targets.acting) if speaking else inputs, targets

    return alter


def _origin(
    config: TrainConfig, run: Path, samples: Samples, fates: Sequence[Fate], training: dict[str, Any], parameters: int
) -> dict[str, Any]:
    """Where weights come from: recipe, steps, scenes of the data, and what they began with."""
    if lengths := [vars(entry) for entry in read_claim(run).prolonged]:
        training = training | {"prolonged": lengths}
    found = {"recipe": to_dict(config), "training": training, "scenes": dict(samples.scenes)}
    if samples.parent is not None:
        parent = {"checkpoint": config.init, "digest": samples.parent.digest}
        found["init"] = parent | {"fates": [vars(fate) for fate in fates]}
    return provenance(**found, parameters=parameters)


def _progress(config: TrainConfig, run: Path, step: int, seconds: float, parallel: Parallel) -> tuple[float, bool]:
    """Rank 0 decides for all: how far the run is, and whether to stop."""
    fraction = progress(config, step, seconds)
    stop = parallel.rank == 0 and (run / STOP).exists()
    values = parallel.broadcast(torch.tensor([fraction, float(stop)], dtype=torch.float64))
    return float(values[0]), bool(values[1])


@torch.no_grad()
def _evaluate(
    model: Model, average: Mapping[str, Tensor], evaluators: Iterable[Evaluator], device: torch.device, frozen: Frozen
) -> dict[str, float]:
    """What the evaluators say of the averaged weights; the model's own come back afterwards."""
    raw = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(dict(average))
    model.eval()
    row = {name: value for evaluator in evaluators for name, value in evaluator(model, device)}
    model.load_state_dict(raw)
    frozen.train(model)
    return row


def _due(step: int, every: int) -> bool:
    """Whether it is time for what is done every so many steps; 0 is never."""
    return every > 0 and step % every == 0


def _mix(seed: int, step: int, rank: int) -> int:
    """A seed for each step and rank, so that a resumed run draws what an uninterrupted one would."""
    return (seed * 1_000_003 + step) * 1009 + rank
