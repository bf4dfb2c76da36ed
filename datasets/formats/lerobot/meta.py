"""The ``meta`` folder of a LeRobot dataset, version 2.1 or 3.0: features, tasks, limits, and where each episode lies.

Version 2.1 has one parquet and one mp4 file for each episode and JSON lines as tables. Version 3.0 joins episodes in
files, and its tables are parquet; an episode then begins within a video at a time that is turned into a frame number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.errors import DatasetError, VlaError
from vla.core.media.video import frame_rate
from vla.datasets.formats.lerobot.clips import Clip, Span, plan_clips
from vla.datasets.formats.lerobot.tables import INFO, fill, limits_v21, limits_v30, read_json, read_lines, read_rows
from vla.datasets.formats.source import Unreadable, attempt

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
    episodes: tuple[Entry | Unreadable, ...]
    """In the order of their indexes."""
    limits: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """The least and greatest of each number of a feature, as far as there are statistics."""
    notes: tuple[str, ...] = ()

    @property
    def entries(self) -> list[Entry]:
        """The episodes that can be read, as far as the tables tell."""
        return [entry for entry in self.episodes if isinstance(entry, Entry)]


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
        tasks, limits = _read_tasks_v21(root / "meta/tasks.jsonl"), limits_v21(root)
        rows = list(read_lines(root / "meta/episodes.jsonl", ("episode_index",)))
        place = _place_v21
    else:
        tasks, limits = _read_tasks_v30(root / "meta/tasks.parquet"), limits_v30(root)
        rows = _read_rows_v30(root / "meta/episodes")
        place = _place_v30
    notes: list[str] = []
    episodes = _episodes(root, info, features, fps, rows, place, notes)
    _compare_counts(info, episodes, notes)
    robot = info.get("robot_type")
    return Meta(
        version=info["codebase_version"],
        fps=fps,
        robot=robot if isinstance(robot, str) and robot and robot != "unknown" else None,
        features=features,
        tasks=tasks,
        episodes=episodes,
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


def _read_tasks_v21(path: Path) -> dict[int, str]:
    try:
        return {int(row["task_index"]): str(row["task"]) for row in read_lines(path, ("task_index", "task"))}
    except (TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: task_index: expected whole numbers ({error}); correct it") from None


def _read_tasks_v30(path: Path) -> dict[int, str]:
    """Task texts by number: the text is the index of a pandas table, whose rows may be in any order."""
    rows = read_rows(path)
    tasks = {}
    for row in rows:
        texts = [row[name] for name in ("task", "__index_level_0__") if isinstance(row.get(name), str)]
        if not isinstance(row.get("task_index"), int) or not texts:
            raise DatasetError(
                f"{path}: expected columns task and task_index, with a text and a number in each row, got {row}; "
                "correct it, or download it again"
            )
        tasks[row["task_index"]] = texts[0]
    return tasks


def _read_rows_v30(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: expected chunk-000/file-000.parquet, got nothing; download the whole dataset")
    return [row for file in files for row in read_rows(file)]


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """The files of one row of the table of episodes."""

    data: str
    spans: Mapping[str, Span]
    """By camera."""


_Place = Callable[[Path, Mapping[str, Any], list[str], Mapping[str, Any], Fraction], _Placed]


def _place_v21(
    root: Path, info: Mapping[str, Any], videos: list[str], row: Mapping[str, Any], fps: Fraction
) -> _Placed:
    index, length = int(row["episode_index"]), int(row["length"])
    where = {"episode_chunk": index // int(info.get("chunks_size", 1000)), "episode_index": index}
    paths = {key: fill(root, info.get("video_path"), video_key=key, **where) for key in videos}
    return _Placed(
        data=fill(root, info["data_path"], **where),
        spans={key: Span(path=p, begin_s=0.0, end_s=float(length / fps), length=length) for key, p in paths.items()},
    )


def _place_v30(
    root: Path, info: Mapping[str, Any], videos: list[str], row: Mapping[str, Any], fps: Fraction
) -> _Placed:
    spans = {}
    for key in videos:
        file = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
        begin_s, end_s = (float(row[f"videos/{key}/{side}_timestamp"]) for side in ("from", "to"))
        if not 0 <= begin_s <= end_s < float("inf"):
            raise ValueError(f"expected rising times of {key} in its video, got {begin_s:g} to {end_s:g} s")
        path = fill(root, info.get("video_path"), video_key=key, **file)
        spans[key] = Span(path=path, begin_s=begin_s, end_s=end_s, length=int(row["length"]))
    file = {name: int(row[f"data/{name}"]) for name in ("chunk_index", "file_index")}
    return _Placed(data=fill(root, info["data_path"], **file), spans=spans)


def _episodes(
    root: Path,
    info: Mapping[str, Any],
    features: Mapping[str, Feature],
    fps: Fraction,
    rows: Sequence[Mapping[str, Any]],
    place: _Place,
    notes: list[str],
) -> tuple[Entry | Unreadable, ...]:
    """Every episode that the table names: what is wrong with one row is the fault of its episode alone."""
    videos = [key for key, feature in features.items() if feature.dtype == "video" and not feature.is_depth]
    by_index: dict[int, Mapping[str, Any]] = {}
    found: dict[int, _Placed | Unreadable] = {}
    for row in rows:
        index = row.get("episode_index")
        if not isinstance(index, int) or isinstance(index, bool):
            raise DatasetError(f"{root}/meta: episode_index: expected a whole number, got {index!r}; correct it")
        if index not in by_index:
            by_index[index] = row
            found[index] = attempt(partial(_placed, root, info, videos, row, fps, place))
        elif row == by_index[index]:
            notes.append(f"Episode {index} is in the table of episodes twice, in the same words: it is read once.")
        else:
            found[index] = Unreadable(
                error=DatasetError(
                    f"{root}/meta: episode {index} is in the table of episodes twice, with other words or places; "
                    "remove the row that is not right"
                )
            )
    placed = {index: one for index, one in found.items() if isinstance(one, _Placed)}
    clips = {key: plan_clips({index: one.spans[key] for index, one in placed.items()}, fps) for key in videos}
    split = _splits(info, notes)
    return tuple(
        Entry(
            index=index,
            length=int(by_index[index]["length"]),
            tasks=_texts(by_index[index].get("tasks")),
            data=one.data,
            clips={key: of_camera[index] for key, of_camera in clips.items()},
            split=next((name for name, span in split if index in span), "train"),
        )
        if isinstance(one, _Placed)
        else one
        for index, one in sorted(found.items())
    )


def _texts(tasks: Any) -> tuple[str, ...]:
    """One text, or several."""
    return (tasks,) if isinstance(tasks, str) else tuple(map(str, tasks or ()))


def _placed(
    root: Path, info: Mapping[str, Any], videos: list[str], row: Mapping[str, Any], fps: Fraction, place: _Place
) -> _Placed:
    where = f"{root}/meta/episodes: episode {row['episode_index']}"
    try:
        return place(root, info, videos, row, fps)
    except VlaError:
        raise
    except KeyError as error:
        raise DatasetError(f"{where}: the table of episodes lacks {error}; the recording was not finished") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise DatasetError(f"{where}: {error}; correct the table, or leave the episode out") from None


def _compare_counts(info: Mapping[str, Any], episodes: Sequence[Entry | Unreadable], notes: list[str]) -> None:
    """What the counts of ``info.json`` say against what is there."""
    promised = info.get("total_episodes")
    if promised is not None and promised != len(episodes):
        notes.append(
            f"{INFO} promises {promised} episodes and the tables hold {len(episodes)}: the recording was not finished, "
            "or the table was edited; those in the tables are read."
        )
    entries = [episode for episode in episodes if isinstance(episode, Entry)]
    frames, said = sum(entry.length for entry in entries), info.get("total_frames")
    if said is not None and len(entries) == len(episodes) and said != frames:
        notes.append(f"{INFO} promises {said} frames and the tables hold {frames}: those in the tables are read.")
    missing = sorted({*range(max((entry.index for entry in entries), default=-1))} - {e.index for e in entries})
    if missing and len(entries) == len(episodes):
        few = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        notes.append(f"The table of episodes lacks {few}: if their frames are there, they are left out.")


def _splits(info: Mapping[str, Any], notes: list[str]) -> list[tuple[str, range]]:
    """The ranges of episodes by name; the first that holds an episode is its split."""
    found: list[tuple[str, range]] = []
    splits = info.get("splits") or {}
    for name, span in splits.items() if isinstance(splits, Mapping) else [("splits", splits)]:
        first, _, end = str(span).partition(":")
        if not (first.isdigit() and end.isdigit()):
            notes.append(f"The split {name!r} is no range of episodes, as 0:10, but {span!r}: it is not read.")
            continue
        mine = range(int(first), int(end))
        for other, theirs in found:
            if both := range(max(mine.start, theirs.start), min(mine.stop, theirs.stop)):
                notes.append(
                    f"Episodes {both.start} to {both.stop - 1} are of two splits, {other} and {name}: {other} is taken."
                )
        found.append((str(name), mine))
    return found
