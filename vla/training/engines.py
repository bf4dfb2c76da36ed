"""Engines: where the workers of a run live. ``inline`` is this process, ``ray`` is Ray Train."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vla.core.config import from_dict, to_dict
from vla.core.errors import ConfigError, VlaError
from vla.core.files import locked
from vla.core.machine.ray_cluster import start_ray
from vla.core.machine.stopping import Interrupted, handlers_kept, requests_go_to
from vla.datasets.storage.storage import open_storage
from vla.datasets.store.layout import read_description
from vla.datasets.store.manifest import read_manifest
from vla.models.device import choose_device
from vla.sound.bank import SpeechBank
from vla.training.claims import claim_run, finished
from vla.training.loop import STOP, train_worker
from vla.training.metrics import Log, read_metrics
from vla.training.parallel import join
from vla.training.recipe import DataConfig, TrainConfig
from vla.training.state import settle_states


class Stopped(Interrupted):
    """The run was asked to stop, and can be resumed."""


def train(config: TrainConfig, run: Path, log: Log = lambda _: None, *, prolong: bool = False) -> Path:
    """Train, or resume what ``run`` holds, and return the path of the final checkpoint.

    The first Ctrl-C, SIGTERM or SIGHUP ends the run after the present step with a state to resume from (`Stopped`),
    the second at once. ``prolong`` makes a run that is there as long as ``config`` says. What a person should know
    comes to ``log`` as lines of kind ``note``.
    """
    config = config.resolved()

    def note(text: str) -> None:
        log({"kind": "note", "text": text})

    require_data(config.data)
    config.require_speech()
    if config.augmentation.speech:
        SpeechBank.open(Path(config.augmentation.speech))
    with locked(run / "lock"):
        settle_states(run, note)
        claim_run(run, config, prolong=prolong, note=note)
        if finished(run, config):
            return run / "checkpoint"
        (run / STOP).unlink(missing_ok=True)
        asked: list[int] = []
        with requests_go_to(partial(_stop, run / STOP, asked)):
            ENGINES[config.engine](config, run.absolute(), log)
        if (run / STOP).exists():
            (run / STOP).unlink()
            raise Stopped(asked[0] if asked else signal.SIGINT, f"stopped; run the same command again to resume {run}")
    return run / "checkpoint"


def _stop(stop: Path, asked: list[int], number: int) -> None:
    """The first request asks the workers to stop; a second one interrupts."""
    if asked:
        raise Interrupted(number)
    asked.append(number)
    stop.touch()


def require_data(data: DataConfig) -> None:
    """A missing dataset is told before anything else begins."""
    for path, manifest in data.versions:
        read_description(open_storage(path))
        read_manifest(path, manifest)


def _train_inline(config: TrainConfig, run: Path, log: Log) -> None:
    train_worker(config, run, join(config), log)


def _train_ray(config: TrainConfig, run: Path, log: Log) -> None:
    """Ray Train V2 in a thread, while this one follows the metrics file."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    started = not ray.is_initialized()
    if started:
        with handlers_kept():
            start_ray()
    _require_cpus(config)
    gpu = choose_device(config.device).type == "cuda"
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"recipe": to_dict(config), "run": str(run)},
        scaling_config=ScalingConfig(
            num_workers=config.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(run),
            failure_config=FailureConfig(
                max_failures=config.max_failures,
                controller_failure_limit=2,  # type: ignore[call-arg]  # V2's class; the stubs show V1's
            ),
        ),
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
    )
    try:
        _follow(trainer.fit, run, log)
    finally:
        if started:
            ray.shutdown()


ENGINES: dict[str, Callable[[TrainConfig, Path, Log], None]] = {"ray": _train_ray, "inline": _train_inline}


def _require_cpus(config: TrainConfig) -> None:
    """Ray waits for ever for workers that no node can hold; say so instead."""
    import ray

    cpus = int(ray.cluster_resources().get("CPU", 0))
    if config.workers > cpus:
        raise ConfigError(f"train.workers={config.workers}, but the Ray cluster has {cpus} CPUs; lower --workers")


def _ray_worker(settings: dict[str, Any]) -> None:
    """Nothing goes through `ray.train.report`: it waits for the controller's next poll, about two seconds.

    A run resumes from its own folder, whatever Ray knows of it.
    """
    config = from_dict(TrainConfig, settings["recipe"], where="recipe")
    train_worker(config, Path(settings["run"]), join(config))


def _follow(fit: Callable[[], Any], run: Path, log: Log) -> None:
    """Run ``fit`` in a thread and pass on what the workers write."""
    failure: list[BaseException] = []

    def target() -> None:
        try:
            fit()
        except BaseException as error:
            failure.append(error)

    seen = len(read_metrics(run))
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
        lines = read_metrics(run)
        for line in lines[seen:]:
            log(line)
        seen = max(seen, len(lines)) if len(lines) >= seen else len(lines)
    if failure:
        raise _explain(failure[0]) from failure[0]


def _explain(error: BaseException) -> BaseException:
    """The error of a worker as it was raised there, if it is one that a user can act on."""
    causes = [getattr(e, "_base_exc", e) for e in getattr(error, "worker_failures", {}).values()]
    if not causes:
        return error
    known = [cause for cause in causes if isinstance(cause, VlaError)]  # its peers only lost the connection to it
    return known[0] if known else VlaError(f"a training worker failed: {' '.join(str(causes[0]).split())}")
