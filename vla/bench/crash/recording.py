"""A recorder that is handed an episode step by step, as a robot would."""

from collections.abc import Iterator
from pathlib import Path

from vla.bench.crash.episodes import CONTRACT
from vla.core.types import Episode
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.datasets.store.layout import LOW_DIMENSIONAL

_SCALARS = ("reward", "done", "valid", "time_ns", "command_time_ns")


def recorder_of(root: Path, episode: Episode) -> EpisodeWriter:
    """A recorder that has been told what ``episode`` says of itself."""
    return EpisodeWriter(
        root,
        CONTRACT,
        {"role": "recorder"},
        instruction=episode.instruction,
        instruction_alternatives=episode.instruction_alternatives,
        task=episode.task,
        seed=episode.seed,
    )


def hand_over(writer: EpisodeWriter, episode: Episode) -> Iterator[int]:
    """Add every step, and the frames of the camera with a clock of its own as they come; yields each step's number."""
    frames = list(zip(episode.image_time_ns["range"].tolist(), episode.images["range"], strict=True))
    assert episode.sim_state is not None
    for step in range(len(episode)):
        rows = {name: getattr(episode, name)[step] for name in LOW_DIMENSIONAL}
        while frames and frames[0][0] <= rows["time_ns"]:
            at, frame = frames.pop(0)
            writer.add_frame("range", frame, at)
        rows |= {name: rows[name].item() for name in _SCALARS}
        writer.add(images={"front": episode.images["front"][step]}, sim_state=episode.sim_state[step], **rows)
        yield step
