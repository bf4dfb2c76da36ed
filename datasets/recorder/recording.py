"""One recorded episode without its frames: what a recorder keeps in RAM and a journal rebuilds, and its seal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.types import Episode
from vla.datasets.frames.shard_writer import ShardWriter
from vla.datasets.records import encode_records, record_of
from vla.datasets.store.layout import LOW_DIMENSIONAL, row_kinds, signal_name
from vla.datasets.store.segment import Rows, begin_arrays, write_model, write_sim_state
from vla.datasets.store.staging import StagedSegment


@dataclass(kw_only=True)
class Recording:
    """What was recorded of an episode so far, beside its frames: kept in RAM, and rebuilt from a journal."""

    about: dict[str, Any]
    """The journal's first entry: instruction, task, split, seed, provenance, model, codecs."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    frame_times: dict[str, list[int]] = field(default_factory=dict)
    """Of the cameras with a rate of their own."""

    def episode(self, contract: Contract, success: bool | None) -> Episode:
        """As an episode without images."""
        columns = {}
        for name, (dtype, shape) in row_kinds(contract).items():
            columns[name] = np.array([step[name] for step in self.steps], dtype).reshape(len(self.steps), *shape)
        states = [step.get("sim_state") for step in self.steps]
        return Episode(
            images={},
            image_time_ns={camera: np.array(times, np.int64) for camera, times in self.frame_times.items()},
            **{name: columns[name] for name in LOW_DIMENSIONAL},
            signals={name: columns[signal_name(name)] for name in contract.signals},
            instruction=self.about["instruction"],
            instruction_alternatives=tuple(self.about["instruction_alternatives"]),
            task=self.about["task"],
            split=self.about["split"],
            seed=self.about["seed"],
            success=success,
            sim_state=None if None in states or not states else np.array(states, np.float64),
            model=self.about["model"],
            provenance=self.about["provenance"],
        )


def seal_recording(
    staged: StagedSegment,
    contract: Contract,
    shards: Mapping[str, ShardWriter],
    episode: Episode,
    about: dict[str, Any],
) -> str:
    """Make a segment of the shards and the rest of an episode; its uid."""
    uid = f"{staged.id}-000000"
    begin_arrays(staged.folder, contract, about["segment_provenance"])
    try:
        for shard in shards.values():
            shard.close()
    finally:
        for shard in shards.values():
            shard.abandon()
    model = write_model(staged.folder, episode.model)
    if episode.sim_state is not None:
        write_sim_state(staged.folder, 0, episode.sim_state)
    rows = Rows(contract)
    rows.add(episode)
    rows.write(staged.folder)
    record = record_of(episode, uid=uid, start=0, model=model)
    (staged.folder / "episodes.json").write_bytes(encode_records([record]))
    staged.commit(steps=len(episode), episodes=1)
    staged.install()
    return uid
