"""All measurements by name, free of heavy imports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vla.bench.measure import Note, Row, to_both, to_matrix, to_table
from vla.bench.search.settings import SearchConfig
from vla.bench.settings import (
    CodecsConfig,
    CrashConfig,
    DamageConfig,
    EnvConfig,
    FindingsConfig,
    FuzzConfig,
    IndexConfig,
    LabelsConfig,
    LoaderConfig,
    LoopConfig,
    ModalitiesConfig,
    PolicyConfig,
    PrecisionConfig,
    RecorderConfig,
    RetrievalConfig,
    ServerConfig,
    SoakConfig,
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One measurement."""

    config: type
    """The dataclass of what it can be told."""
    run: Callable[[Any, Note], list[Row]]
    """Measures; imports what it needs."""
    summary: str
    show: Callable[[Sequence[Row]], Any] = to_table
    """The rows as a table of rich."""


def _loader(config: LoaderConfig, note: Note) -> list[Row]:
    from vla.bench.data.loader import bench_loader

    return bench_loader(config, note)


def _index(config: IndexConfig, note: Note) -> list[Row]:
    from vla.bench.data.index import bench_index

    return bench_index(config, note)


def _recorder(config: RecorderConfig, note: Note) -> list[Row]:
    from vla.bench.data.recorder import bench_recorder

    return bench_recorder(config, note)


def _crash(config: CrashConfig, note: Note) -> list[Row]:
    from vla.bench.crash.bench import bench_crash

    return bench_crash(config, note)


def _damage(config: DamageConfig, note: Note) -> list[Row]:
    from vla.bench.data.damage import bench_damage

    return bench_damage(config, note)


def _env(config: EnvConfig, note: Note) -> list[Row]:
    from vla.bench.envs.stepping import bench_env

    return bench_env(config, note)


def _codecs(config: CodecsConfig, note: Note) -> list[Row]:
    from vla.bench.codecs.bench import bench_codecs

    return bench_codecs(config, note)


def _policy(config: PolicyConfig, note: Note) -> list[Row]:
    from vla.bench.policy.bench import bench_policy

    return bench_policy(config, note)


def _labels(config: LabelsConfig, note: Note) -> list[Row]:
    from vla.bench.labels import bench_labels

    return bench_labels(config, note)


def _findings(config: FindingsConfig, note: Note) -> list[Row]:
    from vla.bench.findings import bench_findings

    return bench_findings(config, note)


def _modalities(config: ModalitiesConfig, note: Note) -> list[Row]:
    from vla.bench.modalities.bench import bench_modalities

    return bench_modalities(config, note)


def _retrieval(config: RetrievalConfig, note: Note) -> list[Row]:
    from vla.bench.towers.retrieval import bench_retrieval

    return bench_retrieval(config, note)


def _precision(config: PrecisionConfig, note: Note) -> list[Row]:
    from vla.bench.precision import bench_precision

    return bench_precision(config, note)


def _server(config: ServerConfig, note: Note) -> list[Row]:
    from vla.bench.serving.server import bench_server

    return bench_server(config, note)


def _loop(config: LoopConfig, note: Note) -> list[Row]:
    from vla.bench.control.loop import bench_loop

    return bench_loop(config, note)


def _fuzz(config: FuzzConfig, note: Note) -> list[Row]:
    from vla.bench.serving.fuzz import bench_fuzz

    return bench_fuzz(config, note)


def _soak(config: SoakConfig, note: Note) -> list[Row]:
    from vla.bench.serving.soak import bench_soak

    return bench_soak(config, note)


def _search(config: SearchConfig, note: Note) -> list[Row]:
    from vla.bench.search.bench import bench_search

    return bench_search(config, note)


BENCHES: dict[str, Bench] = {
    "precision": Bench(
        config=PrecisionConfig,
        run=_precision,
        summary="matrix products and training steps in bfloat16 against float32, and what precision auto chooses",
    ),
    "codecs": Bench(
        config=CodecsConfig,
        run=_codecs,
        summary="every action codec on the chunks of a dataset: length, error, overlap and redundancy of tokens",
        show=to_matrix,
    ),
    "policy": Bench(
        config=PolicyConfig,
        run=_policy,
        summary="milliseconds a chunk for every head, against generate of transformers, and against the machine",
        show=to_both,
    ),
    "labels": Bench(
        config=LabelsConfig,
        run=_labels,
        summary="success and first frames with the simulator's labels, with labels made of logs, and with none",
    ),
    "findings": Bench(
        config=FindingsConfig,
        run=_findings,
        summary="findings of synthetic pictures that a checkpoint reports, beside one that sees nothing",
    ),
    "modalities": Bench(
        config=ModalitiesConfig,
        run=_modalities,
        summary="what a checkpoint answers, imagines and hears on scenes it has not seen, and what that costs acting",
    ),
    "retrieval": Bench(
        config=RetrievalConfig,
        run=_retrieval,
        summary="pictures that a two-tower checkpoint finds by sentences, and sentences that it tells apart",
    ),
    "env": Bench(
        config=EnvConfig,
        run=_env,
        summary="environments that step and render on one core, whole evaluations, and memory over many tasks",
    ),
    "loader": Bench(
        config=LoaderConfig,
        run=_loader,
        summary="random frames against zarr-python, HDF5 and mp4; batches as training takes them; memory",
    ),
    "index": Bench(
        config=IndexConfig, run=_index, summary="opening a dataset of very many episodes, and memory of its index"
    ),
    "search": Bench(
        config=SearchConfig,
        run=_search,
        summary="finding the nearest of up to a million frames and crops: milliseconds, what is missed, how it grows",
    ),
    "recorder": Bench(config=RecorderConfig, run=_recorder, summary="how long recording holds up a control loop"),
    "server": Bench(
        config=ServerConfig,
        run=_server,
        summary="the policy server against a bare websocket and one that blocks, what batching saves and images cost",
        show=to_both,
    ),
    "loop": Bench(config=LoopConfig, run=_loop, summary="how the control loop keeps its rate beside a loaded core"),
    "fuzz": Bench(
        config=FuzzConfig, run=_fuzz, summary="what hostile clients do to a policy server, and to a good client"
    ),
    "soak": Bench(
        config=SoakConfig,
        run=_soak,
        summary="a policy server and several robots for long: what grows, and whether every deadline is counted",
    ),
    "damage": Bench(config=DamageConfig, run=_damage, summary="what readers make of damaged files of every kind"),
    "crash": Bench(config=CrashConfig, run=_crash, summary="what is lost when that which writes is killed"),
}
