"""A dataset as one HDF5 file that robomimic reads."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.media.video import frame_rate
from vla.core.types import Episode
from vla.datasets.dataset import Dataset
from vla.datasets.formats.dimensions import keys_of
from vla.datasets.formats.fidelity import Losses, frames_at_steps
from vla.datasets.formats.robomimic.header import ROBOSUITE
from vla.datasets.formats.robomimic.success import ATTRIBUTE
from vla.datasets.formats.source import Exported, OnEpisode, new_target

_HELD = frozenset({"instruction", "reward", "done", "split", "simulator", "robot", "success"})
_NEXT_OBS = "next_obs is not written, since it repeats obs one step later: set train.hdf5_load_next_obs to false."


def export_robomimic(
    dataset: Dataset, out: Path, on_episode: OnEpisode | None = None, *, gzip: bool = False
) -> Exported:
    """Write ``dataset`` to the new file ``out``; ``gzip`` makes it smaller and slower to train from.

    An existing target, and no episodes, are a `DatasetError`.
    """
    import h5py

    with new_target(dataset, out) as target, h5py.File(target, "w") as file:
        return _write(dataset, file, on_episode, {"compression": "gzip"} if gzip else {})


@dataclass(kw_only=True)
class _Seen:
    """What is written once, when all episodes are known."""

    steps: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    env_args: list[Mapping[str, Any]] = field(default_factory=list)
    """Different ones, in order."""
    masks: dict[str, list[str]] = field(default_factory=dict)


def _write(dataset: Dataset, file: Any, on_episode: OnEpisode | None, storage: Mapping[str, Any]) -> Exported:
    contract = dataset.contract
    rate = frame_rate(contract.control_hz)
    seen, losses = _Seen(), Losses(contract=contract, held=_HELD | {"task", "provenance"})
    data = file.create_group("data")
    tasks = [dataset.episodes[number].task for number in range(len(dataset.episodes))]
    default = _env_args(contract, Counter(tasks).most_common(1)[0][0])
    for number in range(len(dataset.episodes)):
        episode = dataset.read_episode(number)
        name = f"demo_{number}"
        _write_demo(data.create_group(name), episode, contract, storage)
        env_args = _note(seen, name, episode, default)
        losses.look_at(episode, rate)
        losses.count("task", episode.task != env_args.get("env_name"))
        losses.count("provenance", bool(episode.provenance) and episode.provenance.get("format") != "robomimic")
        if on_episode is not None:
            on_episode(len(episode))
    data.attrs["total"] = seen.steps
    data.attrs["env_args"] = json.dumps(_complete(seen.env_args[0], default), indent=4)
    for key, names in seen.masks.items():
        file[f"mask/{key}"] = np.array(names, dtype="S")
    lost = [*losses.sentences(), _NEXT_OBS]
    if len(seen.env_args) > 1:
        lost.append(f"env_args of {len(seen.env_args)} kinds: robomimic has one for a file, that of the first episode.")
    return Exported(episodes=len(dataset.episodes), steps=seen.steps, lost=tuple(lost))


def _write_demo(group: Any, episode: Episode, contract: Contract, storage: Mapping[str, Any]) -> None:
    steps = len(episode)
    group.attrs["num_samples"] = steps
    if episode.success is not None:
        group.attrs[ATTRIBUTE] = episode.success
    if episode.model:
        group.attrs["model_file"] = episode.model
    meta = episode.provenance.get("ep_meta")
    group.attrs["ep_meta"] = json.dumps({**(meta if isinstance(meta, Mapping) else {}), "lang": episode.instruction})
    group["actions"] = episode.action
    group["rewards"] = episode.reward
    group["dones"] = episode.done.astype(np.int64)
    if episode.sim_state is not None:
        group["states"] = episode.sim_state
    for camera in contract.cameras:
        if camera.kind == "rgb":
            frames = frames_at_steps(episode, camera.name)
            group.create_dataset(f"obs/{camera.name}_image", data=frames, chunks=(1, *camera.shape), **storage)
    columns = keys_of(contract.state) or {"state": slice(None)}
    for key, place in columns.items():
        if contract.state:
            group[f"obs/{key}"] = episode.state[:, place]


def _note(seen: _Seen, name: str, episode: Episode, default: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add one episode; returns its ``env_args``."""
    written = episode.provenance.get("env_args")
    env_args = written if isinstance(written, Mapping) and written.get("env_name") else default
    if env_args not in seen.env_args:
        seen.env_args.append(env_args)
    keys = episode.provenance.get("filter_keys")
    listed = [str(key) for key in keys] if isinstance(keys, list | tuple) else []
    for key in dict.fromkeys((*listed, episode.split)):
        seen.masks.setdefault(key.replace("/", "_"), []).append(name)
    seen.steps += len(episode)
    return env_args


def _env_args(contract: Contract, task: str) -> dict[str, Any]:
    """As far as a contract says it; robomimic needs a type even for environments that are none of its own."""
    hz: float = int(contract.control_hz) if float(contract.control_hz).is_integer() else contract.control_hz
    return {
        "env_name": task,
        "type": ROBOSUITE,
        "env_kwargs": {"robots": contract.robot.split("+"), "control_freq": hz},
    }


def _complete(env_args: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Robot and rate may be known to the contract only: the file that was imported did not say them."""
    kwargs = env_args.get("env_kwargs")
    return {**env_args, "env_kwargs": {**default["env_kwargs"], **(kwargs if isinstance(kwargs, Mapping) else {})}}
