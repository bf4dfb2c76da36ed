"""The ``meta`` folder of a LeRobot dataset, version 2.1 or 3.0: features, tasks, limits, and where each episode lies.

Version 2.1 has one parquet and one mp4 file for each episode and JSON lines as tables. Version 3.0 joins episodes in
files, and its tables are parquet; an episode then begins within a video at a time that is turned into a frame number.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.errors import DatasetError
from vla.core.media.video import frame_rate
from vla.datasets.formats.lerobot.tables import INFO, fill, limits_v21, limits_v30, read_json, read_lines, read_rows

VERSIONS = ("v2.1", "v3.0")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column, or one video stream, of every frame."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Any
    """As written: a list, a dictionary of lists, a dictionary of positions, or None."""
    info: Mapping[str, Any]

    @property
    def is_picture(self) -> bool:
        """A camera, whichever way its frames are stored."""
        return self.dtype in ("image", "video")

    @property
    def is_depth(self) -> bool:
        """Distances, packed into pixels in a way of LeRobot's own."""
        return any(self.info.get(key) for key in ("is_depth_map", "video.is_depth_map"))

    @property
    def is_vector(self) -> bool:
        """One row of numbers for each frame."""
        return self.dtype in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

    @property
    def width(self) -> int:
        """Numbers in one row."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The frames of one episode in a video file."""

    path: str
    first: int
    """Frame number by the time in the table."""
    first_counted: int
    """Frame number by the lengths of the episodes before it in the file: exact where they fill the file."""
    total: int
    """Frames of all episodes in the file."""
    alone: bool = False
    """The file has no frames of others, by the layout."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where one episode lies."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: str
    """The parquet file, within the dataset."""
    clips: Mapping[str, Clip]
    split: str


@dataclass(frozen=True, kw_only=True)
class Meta:
    """All that is known of a dataset before its frames are read."""

    version: str
    fps: Fraction
    robot: str | None
    features: Mapping[str, Feature]
    tasks: Mapping[int, str]
    episodes: tuple[Entry, ...]
    limits: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """The least and greatest of each number of a feature, as far as there are statistics."""
    notes: tuple[str, ...] = ()


def read_info(root: Path) -> dict[str, Any]:
    """``meta/info.json`` of a version that this software reads."""
    info = read_json(root / INFO)
    if not isinstance(info, dict):
        raise DatasetError(f"{root / INFO}: expected a JSON object, got {type(info).__name__}; the file is damaged")
    version = str(info.get("codebase_version", ""))
    _require_version(root / INFO, version)
    if info.get("storage_format") not in (None, "parquet"):
        raise DatasetError(
            f"{root / INFO}: storage_format {info['storage_format']!r} is not read; expected parquet and mp4 files: "
            "write the dataset again in LeRobot's version 3.0"
        )
    missing = [key for key in ("fps", "features", "data_path") if key not in info]
    if missing:
        raise DatasetError(f"{root / INFO}: expected {', '.join(missing)}; the file is damaged: download it again")
    if not isinstance(info["features"], dict):
        raise DatasetError(f"{root / INFO}: features: expected an object, got {info['features']!r}; download it again")
    return info


def read_meta(root: Path) -> Meta:
    """Read every table; a missing, damaged or contradicting one is a `DatasetError`."""
    info = read_info(root)
    features = {key: _feature(root / INFO, key, value) for key, value in info["features"].items()}
    fps = _rate(root / INFO, info["fps"])
    if info["codebase_version"] == "v2.1":
        tasks, rows = _read_tables_v21(root, info, features)
        limits = limits_v21(root)
    else:
        tasks, rows = _read_tables_v30(root, info, features, fps)
        limits = limits_v30(root)
    notes = []
    promised = info.get("total_episodes")
    if promised is not None and promised != len(rows):
        notes.append(
            f"{INFO} promises {promised} episodes and the tables hold {len(rows)}: the recording was not finished; "
            "those in the tables are read."
        )
    robot = info.get("robot_type")
    return Meta(
        version=info["codebase_version"],
        fps=fps,
        robot=robot if isinstance(robot, str) and robot and robot != "unknown" else None,
        features=features,
        tasks=tasks,
        episodes=tuple(sorted(rows, key=lambda row: row.index)),
        limits=limits,
        notes=tuple(notes),
    )


def _require_version(path: Path, version: str) -> None:
    if version in VERSIONS:
        return
    if version == "v2.0":
        fix = "convert it with LeRobot 0.3: python -m lerobot.datasets.v21.convert_dataset_v20_to_v21 --repo-id=NAME"
    elif version.startswith("v1"):
        fix = (
            "convert it with LeRobot 0.1: python lerobot/common/datasets/v2/convert_dataset_v1_to_v2.py --repo-id NAME"
        )
        fix += ", then from v2.0 to v2.1"
    elif version.startswith("v"):
        fix = "it is newer than this software: export it as v3.0, or use a newer version of vla"
    else:
        fix = "is this the folder of a LeRobot dataset?"
    raise DatasetError(f"{path}: codebase_version {version!r}, expected one of {', '.join(VERSIONS)}; {fix}")


def _rate(path: Path, value: Any) -> Fraction:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return frame_rate(value)
    raise DatasetError(f"{path}: fps: expected a positive number of frames in a second, got {value!r}; correct it")


def _feature(path: Path, key: str, value: Any) -> Feature:
    try:
        return Feature(
            key=key,
            dtype=str(value["dtype"]),
            shape=tuple(int(size) for size in value["shape"]),
            names=value.get("names"),
            info={**(value.get("video_info") or {}), **(value.get("info") or {})},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DatasetError(
            f"{path}: feature {key!r}: expected dtype and shape, got {value!r}; the file is damaged"
        ) from None


def _read_tables_v21(
    root: Path, info: Mapping[str, Any], features: Mapping[str, Feature]
) -> tuple[dict[int, str], list[Entry]]:
    path = root / "meta/tasks.jsonl"
    tasks = {int(row["task_index"]): str(row["task"]) for row in read_lines(path, ("task_index", "task"))}
    entries = []
    for row in read_lines(root / "meta/episodes.jsonl", ("episode_index", "length")):
        index, length = int(row["episode_index"]), int(row["length"])
        where = {"episode_chunk": index // int(info.get("chunks_size", 1000)), "episode_index": index}
        clips = {}
        for key in _videos(features):
            path_ = fill(root, info.get("video_path"), video_key=key, **where)
            clips[key] = Clip(path=path_, first=0, first_counted=0, total=length, alone=True)
        entries.append(
            Entry(
                index=index,
                length=length,
                tasks=tuple(str(task) for task in row.get("tasks") or ()),
                data=fill(root, info["data_path"], **where),
                clips=clips,
                split=_split(info, index),
            )
        )
    return tasks, entries


def _read_tables_v30(
    root: Path, info: Mapping[str, Any], features: Mapping[str, Feature], fps: Fraction
) -> tuple[dict[int, str], list[Entry]]:
    tasks = _read_tasks_v30(root / "meta/tasks.parquet")
    folder = root / "meta/episodes"
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: expected chunk-000/file-000.parquet, got nothing; download the whole dataset")
    rows: dict[int, dict[str, Any]] = {}
    for file in files:
        for row in read_rows(file):
            rows[int(row["episode_index"])] = row
    try:
        clips = {key: _clips(root, info, key, rows, fps) for key in _videos(features)}
        entries = [
            Entry(
                index=index,
                length=int(row["length"]),
                tasks=tuple(str(task) for task in row.get("tasks") or ()),
                data=fill(
                    root,
                    info["data_path"],
                    chunk_index=int(row["data/chunk_index"]),
                    file_index=int(row["data/file_index"]),
                ),
                clips={key: of_camera[index] for key, of_camera in clips.items()},
                split=_split(info, index),
            )
            for index, row in rows.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder}: the table of episodes lacks {error}; the recording was not finished") from None
    return tasks, entries


def _clips(
    root: Path, info: Mapping[str, Any], key: str, rows: Mapping[int, Mapping[str, Any]], fps: Fraction
) -> dict[int, Clip]:
    """Where each episode begins in the videos of one camera."""
    by_file: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for index, row in rows.items():
        where = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        first, end = (round(Fraction(row[f"videos/{key}/{side}_timestamp"]) * fps) for side in ("from", "to"))
        if end - first != row["length"]:
            raise DatasetError(
                f"{root}/meta/episodes: episode {index}: expected {row['length']} frames of {key}, "
                f"got {end - first} from its times in the video; the table is damaged: download it again"
            )
        by_file[fill(root, info.get("video_path"), video_key=key, **where)].append((first, index, int(row["length"])))
    clips = {}
    for path, members in by_file.items():
        counted = 0
        total = sum(length for _, _, length in members)
        for first, index, length in sorted(members):
            clips[index] = Clip(path=path, first=first, first_counted=counted, total=total)
            counted += length
    return clips


def _read_tasks_v30(path: Path) -> dict[int, str]:
    """Task texts by number: the text is the index of a pandas table, whose rows may be in any order."""
    rows = read_rows(path)
    tasks = {}
    for row in rows:
        texts = [row[name] for name in ("task", "__index_level_0__") if isinstance(row.get(name), str)]
        if "task_index" not in row or not texts:
            raise DatasetError(f"{path}: expected columns task and task_index, got {list(row)}; the file is damaged")
        tasks[int(row["task_index"])] = texts[0]
    return tasks


def _videos(features: Mapping[str, Feature]) -> list[str]:
    return [key for key, feature in features.items() if feature.dtype == "video" and not feature.is_depth]


def _split(info: Mapping[str, Any], index: int) -> str:
    """The name of the range that holds the episode, ``train`` where none does."""
    for name, span in (info.get("splits") or {}).items():
        first, _, end = str(span).partition(":")
        if first.isdigit() and end.isdigit() and int(first) <= index < int(end):
            return str(name)
    return "train"
