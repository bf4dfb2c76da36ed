"""A dataset as a LeRobot dataset of version 3.0."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Camera, Contract, Dimension
from vla.core.errors import DatasetError
from vla.core.files import write_json
from vla.core.media.video import AV1, encode_mp4, frame_rate
from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.datasets.formats.fidelity import Losses, frames_at_steps
from vla.datasets.formats.lerobot.files import (
    CHUNKS_SIZE,
    DATA_MB,
    DATA_PATH,
    EPISODES_PATH,
    VIDEO_MB,
    VIDEO_PATH,
    ParquetFiles,
    VideoFiles,
    frame_schema,
    frame_table,
    write_tasks,
)
from vla.datasets.formats.lerobot.statistics import PixelCounts, count_pixels, flatten, vector_statistics
from vla.datasets.formats.source import Exported, OnEpisode, new_target

_EPISODES_IN_GROUP = 100
_HELD = frozenset({"instruction", "task", "reward", "done", "success", "split", "robot", "layout"})
_LOSSY = "Exact pixels: videos are lossy (AV1, crf 30); --lossless keeps them."
_COUNTERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def export_lerobot(
    dataset: Dataset, out: Path, on_episode: OnEpisode | None = None, *, use_videos: bool = True
) -> Exported:
    """Write ``dataset`` to the new folder ``out``; ``use_videos=False`` keeps every pixel, as PNG in the parquet files.

    An existing target, no episodes, and pictures that the video encoder refuses are a `DatasetError`.
    """
    with new_target(dataset, out) as target:
        target.mkdir()
        return _write(dataset, target, on_episode, use_videos)


@dataclass(kw_only=True)
class _Totals:
    """What is known only at the end."""

    steps: int = 0
    tasks: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    pixels: dict[str, PixelCounts] = field(default_factory=dict)


def _write(dataset: Dataset, root: Path, on_episode: OnEpisode | None, use_videos: bool) -> Exported:
    contract = dataset.contract
    rate = frame_rate(contract.control_hz)
    cameras = {f"observation.images.{c.name}": c for c in contract.cameras if c.kind == "rgb"}
    judged = all(dataset.episodes[i].success is not None for i in range(len(dataset.episodes)))
    features = _features(contract, cameras, rate, judged=judged, use_videos=use_videos)
    schema = frame_schema(features)
    losses, totals = Losses(contract=contract, held=_HELD), _Totals()
    episode_rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(ParquetFiles(root, DATA_PATH, DATA_MB))
        table = stack.enter_context(ParquetFiles(root, EPISODES_PATH, DATA_MB))
        videos = {
            key: stack.enter_context(VideoFiles(root, key, rate, VIDEO_MB)) for key in (cameras if use_videos else ())
        }
        for number in range(len(dataset.episodes)):
            episode = dataset.read_episode(number)
            losses.look_at(episode, rate)
            losses.count("task", episode.task not in ("", episode.instruction))
            losses.count("success", not judged and episode.success is not None)
            images = {key: frames_at_steps(episode, camera.name) for key, camera in cameras.items()}
            columns = _columns(episode, number, totals, rate, judged=judged)
            statistics = _statistics(columns, images, totals)
            where = data.begin(len(episode))
            pictures = {} if use_videos else {key: [_png(frame) for frame in frames] for key, frames in images.items()}
            data.write(frame_table(schema, {**columns, **pictures}))
            row = _row(episode, number, totals.steps, where)
            for key, files in videos.items():
                row |= files.append(_encode(images[key], rate, cameras[key], number))
            episode_rows.append({**row, **flatten(statistics)})
            totals.steps += len(episode)
            if len(episode_rows) == _EPISODES_IN_GROUP:
                _write_episodes(table, episode_rows)
            if on_episode is not None:
                on_episode(len(episode))
        _write_episodes(table, episode_rows)
    splits, split_loss = _splits([dataset.episodes[i].split for i in range(len(dataset.episodes))])
    _write_meta(root, contract, features, totals, splits, rate)
    lossy = (_LOSSY,) if use_videos and cameras else ()
    lost = (*losses.sentences(), *lossy, *split_loss)
    return Exported(episodes=len(dataset.episodes), steps=totals.steps, lost=lost)


def _row(episode: Episode, number: int, first: int, where: tuple[int, int]) -> dict[str, Any]:
    """Of the table of episodes, without videos and statistics."""
    return {
        "episode_index": number,
        "tasks": [episode.instruction],
        "length": len(episode),
        "data/chunk_index": where[0],
        "data/file_index": where[1],
        "dataset_from_index": first,
        "dataset_to_index": first + len(episode),
    }


def _features(
    contract: Contract, cameras: Mapping[str, Camera], rate: Fraction, *, judged: bool, use_videos: bool
) -> dict[str, dict[str, Any]]:
    """The features of ``info.json``, in the order of columns."""

    def vector(dimensions: Sequence[Dimension], **more: Any) -> dict[str, Any]:
        return {
            "dtype": "float32",
            "shape": [len(dimensions)],
            "names": [d.name for d in dimensions],
            # Beyond the format, which has no place for these; its readers pass over them, and our own uses them.
            "info": {
                "units": [d.unit for d in dimensions],
                "low": [d.low for d in dimensions],
                "high": [d.high for d in dimensions],
                **more,
            },
        }

    def single(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    gripper = {} if contract.gripper is None else {"gripper": contract.gripper}
    features = {"observation.state": vector(contract.state), "action": vector(contract.action, **gripper)}
    for key, camera in cameras.items():
        features[key] = {
            "dtype": "video" if use_videos else "image",
            "shape": list(camera.shape),
            "names": ["height", "width", "channels"],
        }
        if use_videos:
            features[key]["info"] = {
                "video.height": camera.height,
                "video.width": camera.width,
                "video.codec": "av1",
                "video.pix_fmt": AV1.pixel_format,
                "video.is_depth_map": False,
                "is_depth_map": False,
                "video.fps": _plain(rate),
                "video.channels": 3,
                "has_audio": False,
            }
    features |= {"next.reward": single("float32"), "next.done": single("bool")}
    if judged:
        features["next.success"] = single("bool")
    return features | {key: single(dtype) for key, dtype in _COUNTERS.items()}


def _columns(episode: Episode, number: int, totals: _Totals, rate: Fraction, *, judged: bool) -> dict[str, np.ndarray]:
    """Every column but the pictures."""
    steps = len(episode)
    frame = np.arange(steps, dtype=np.int64)
    task = totals.tasks.setdefault(episode.instruction, len(totals.tasks))
    columns = {
        "observation.state": episode.state,
        "action": episode.action,
        "next.reward": episode.reward,
        "next.done": episode.done,
        "timestamp": (frame * rate.denominator / rate.numerator).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(steps, number, np.int64),
        "index": totals.steps + frame,
        "task_index": np.full(steps, task, np.int64),
    }
    if judged:
        columns["next.success"] = (frame == steps - 1) & bool(episode.success)
    return {key: rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows for key, rows in columns.items()}


def _statistics(
    columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray], totals: _Totals
) -> dict[str, dict[str, list[Any]]]:
    """Of one episode; what those of all episodes need is kept."""
    result = {}
    for key, rows in columns.items():
        if rows.size:
            result[key] = vector_statistics(rows)
            totals.rows.setdefault(key, []).append(rows)
    for key, frames in images.items():
        pixels = count_pixels(frames)
        result[key] = pixels.statistics()
        totals.pixels[key] = totals.pixels.get(key, PixelCounts()) + pixels
    return result


def _encode(frames: np.ndarray, rate: Fraction, camera: Camera, number: int) -> bytes:
    try:
        return encode_mp4(frames, rate, AV1)
    except ValueError as error:
        raise DatasetError(
            f"episode {number}, camera {camera.name}: {error}; or export with use_videos=False"
        ) from None


def _png(frame: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _write_episodes(table: ParquetFiles, rows: list[dict[str, Any]]) -> None:
    """Append to the table of episodes, and forget the rows."""
    import pyarrow as pa

    if not rows:
        return
    chunk, file = table.begin(len(rows))
    for row in rows:
        row |= {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
    table.write(pa.Table.from_pylist(rows))
    rows.clear()


def _splits(names: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Splits as ranges of episodes, where each is one; else all are one split and that is a loss."""
    starts = [0, *(i for i in range(1, len(names)) if names[i] != names[i - 1])]
    if len(starts) != len(set(names)):
        sentence = "Splits are not ranges of episodes, as the format needs them: all episodes are in train."
        return {"train": f"0:{len(names)}"}, (sentence,)
    ends = [*starts[1:], len(names)]
    return {names[a]: f"{a}:{b}" for a, b in zip(starts, ends, strict=True)}, ()


def _write_meta(
    root: Path,
    contract: Contract,
    features: Mapping[str, Any],
    totals: _Totals,
    splits: Mapping[str, str],
    rate: Fraction,
) -> None:
    """The files of ``meta`` that need to know every episode."""
    write_tasks(root / "meta/tasks.parquet", list(totals.tasks))
    statistics = {key: vector_statistics(np.concatenate(parts)) for key, parts in totals.rows.items()}
    statistics |= {key: pixels.statistics() for key, pixels in totals.pixels.items()}
    write_json(root / "meta/stats.json", statistics)
    episodes = max(int(span.rpartition(":")[2]) for span in splits.values())
    info = {
        "codebase_version": "v3.0",
        "robot_type": contract.robot,
        "total_episodes": episodes,
        "total_frames": totals.steps,
        "total_tasks": len(totals.tasks),
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": _plain(rate),
        "splits": splits,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(f["dtype"] == "video" for f in features.values()) else None,
        "features": features,
    }
    write_json(root / "meta/info.json", info)


def _plain(rate: Fraction) -> int | float:
    """A whole number where it is one: LeRobot's own readers expect that."""
    return rate.numerator if rate.denominator == 1 else float(rate)
