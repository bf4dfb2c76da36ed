"""Records one episode as it happens: a control loop hands over steps and goes on; a thread packs and writes them.

Frames go straight into the shards of the segment to be, everything else into a journal beside them. So a recorder that
is killed loses what its thread had not reached, and a power cut what was not flushed (`sync_s`); the rest is made a
segment by `recover`. A sealed episode is never lost.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np

from vla.core.contract import Camera, Contract, require_match
from vla.core.errors import DatasetError
from vla.datasets.frames.codecs import frame_codec
from vla.datasets.frames.shard_writer import ShardWriter
from vla.datasets.recorder.journal import Journal, Recording, seal_recording
from vla.datasets.storage.storage import Location, Storage, open_storage
from vla.datasets.store.episode_check import LIMITED, check_labels, check_within_limits
from vla.datasets.store.layout import check_names, explain_full_disk, read_description, row_kinds, signal_name
from vla.datasets.store.manifest import publish
from vla.datasets.store.segment import image_array
from vla.datasets.store.staging import JOURNAL, StagedSegment

_Step = Mapping[str, np.ndarray]
"""A row of each low-dimensional array, copied, and of the simulator's state."""


class EpisodeWriter:
    """One episode that is being recorded. Use it as a context manager: leaving without `finish` abandons it.

    An exception leaves what was recorded where it is, for ``vla data repair``.
    """

    def __init__(
        self,
        root: Location | Storage,
        contract: Contract,
        provenance: Mapping[str, Any],
        *,
        instruction: str,
        task: str,
        instruction_alternatives: Sequence[str] = (),
        split: str = "train",
        seed: int = 0,
        model: str = "",
        sync_s: float = 0.5,
        max_pending: int = 256,
    ) -> None:
        """Begin an episode of the dataset at ``root``.

        ``max_pending`` is the number of steps and frames that may wait to be packed; when packing is slower than the
        robot for so long, `add` raises instead of letting memory grow.
        """
        self._storage = open_storage(root)
        description = read_description(self._storage)
        self._contract = description.contract
        fix = "Write to another dataset"
        require_match(contract, self._contract, who="the recorder", whom=f"dataset {self._storage.url}", fix=fix)
        check_names(self._contract)
        self._kinds = row_kinds(self._contract)
        texts = (*instruction_alternatives, task, split, model)
        check_labels(instruction=instruction, texts=texts, seed=seed, provenance=provenance)
        self._cameras: dict[str, Camera] = {camera.name: camera for camera in self._contract.cameras}
        self._encode = {n: frame_codec(description.codecs[n], c).encode for n, c in self._cameras.items()}
        about = {
            "instruction": instruction,
            "instruction_alternatives": list(instruction_alternatives),
            "task": task,
            "split": split,
            "seed": seed,
            "model": model,
            "provenance": {},
            "segment_provenance": dict(provenance),
            "codecs": dict(description.codecs),
        }
        self._own_clock = [camera.name for camera in self._cameras.values() if camera.hz is not None]
        self._recording = Recording(about=about, frame_times={name: [] for name in self._own_clock})
        self._first_time: dict[str, int] = {}
        self._last_time: dict[str, int] = {}
        self._sim_shape: tuple[int, ...] | None = None
        self._sync_s, self._max_pending = sync_s, max_pending
        self._failure: BaseException | None = None
        with explain_full_disk(self._storage, "a new recording"):
            self._staged = StagedSegment.begin(self._storage)
            folder = self._staged.folder
            try:
                self._journal = Journal(folder / JOURNAL)
                self._journal.append(about)
                self._shards = {
                    n: ShardWriter(image_array(folder, n, 0), c, description.codecs[n])
                    for n, c in self._cameras.items()
                }
            except BaseException:
                self._staged.abandon()
                raise
        self._queue: queue.SimpleQueue[tuple[int, _Step | None, dict[str, np.ndarray]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="episode-writer", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """The number of steps that the thread has written."""
        return len(self._recording.steps)

    def add(
        self,
        *,
        images: Mapping[str, np.ndarray],
        state: np.ndarray,
        action: np.ndarray,
        time_ns: int,
        action_executed: np.ndarray | None = None,
        command_time_ns: int | None = None,
        reward: float = 0.0,
        done: bool = False,
        valid: bool = True,
        signals: Mapping[str, np.ndarray] | None = None,
        sim_state: np.ndarray | None = None,
    ) -> None:
        """Hand over one step; returns at once. A step that does not fit is refused, and recording may go on.

        ``images`` holds a frame of each camera without a rate of its own, ``signals`` float32 (g,) for each signal of
        the contract; arrays are copied.
        """
        values = {
            "state": state,
            "action": action,
            "action_executed": action if action_executed is None else action_executed,
            "reward": reward,
            "done": done,
            "valid": valid,
            "time_ns": time_ns,
            "command_time_ns": time_ns if command_time_ns is None else command_time_ns,
            **{signal_name(name): value for name, value in (signals or {}).items()},
        }
        if values.keys() != self._kinds.keys():
            raise DatasetError(
                f"signals: expected {list(self._contract.signals)}, got {list(signals or ())}; give one vector of each"
            )
        step = {name: self._checked(name, value) for name, value in values.items()}
        check_within_limits({name: step[name][None] for name in LIMITED}, self._contract)
        if sim_state is not None:
            step["sim_state"] = np.array(sim_state, np.float64)
        sim_shape = self._checked_simulator(sim_state)
        expected = [name for name in self._cameras if name not in self._own_clock]
        if set(images) != set(expected):
            raise DatasetError(f"images: expected cameras {expected}, got {list(images)}; give one frame of each")
        late = [name for name in self._own_clock if self._first_time.get(name, time_ns + 1) > time_ns]
        if late:
            raise DatasetError(
                f"cameras {late} had given no frame at {time_ns} ns: call add_frame before the first step"
            )
        self._put("step", time_ns, step, images)
        self._sim_shape = sim_shape

    def add_frame(self, camera: str, image: np.ndarray, time_ns: int) -> None:
        """Hand over a frame of a camera with a rate of its own."""
        if camera not in self._own_clock:
            raise DatasetError(f"camera {camera!r}: expected one with a rate of its own, {self._own_clock}; use add")
        self._put(camera, time_ns, None, {camera: image})

    def finish(self, success: bool | None) -> str:
        """Wait for the thread, seal the episode, publish it as a new version, and return its uid."""
        self._stop()
        if not self._recording.steps:
            self.abandon()
            raise DatasetError("the recording has no steps: expected at least 1; nothing was kept")
        try:
            with explain_full_disk(self._storage, f"recording {self._staged.id}"):
                uid = seal_recording(self._staged, self._contract, self._shards, self._recording, success)
                publish(self._storage, [self._staged.id], f"recorded {self._recording.about['task']}")
        finally:
            self._staged.leave()
        return uid

    def abandon(self) -> None:
        """Throw the recording away; does nothing after `finish`."""
        self._end_thread()
        for shard in self._shards.values():
            shard.abandon()
        self._staged.abandon()

    def __enter__(self) -> "EpisodeWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._staged.open:
            return
        if kind is None:
            self.abandon()
        else:
            self._end_thread()
            for shard in self._shards.values():
                shard.abandon()
            self._staged.leave()

    def _checked(self, name: str, value: Any) -> np.ndarray:
        """A copy of one value of a step, if it has the shape of its row and is finite."""
        dtype, shape = self._kinds[name]
        array = np.array(value, dtype)
        if array.shape != shape or (array.dtype.kind == "f" and not np.isfinite(array).all()):
            raise DatasetError(f"{name}: expected finite {dtype} {shape}, got {value!r}; drop the step")
        return array

    def _checked_simulator(self, state: np.ndarray | None) -> tuple[int, ...] | None:
        """The shape of a simulator's state, if it may follow those before it."""
        shape = None if state is None else np.shape(state)
        if shape != self._sim_shape and "step" in self._last_time:
            raise DatasetError(f"sim_state: expected shape {self._sim_shape} as before, got {shape}; drop the step")
        if state is None:
            if self._recording.about["model"]:
                raise DatasetError("model: a simulator model needs sim_state to belong to; give one with each step")
        elif len(np.shape(state)) != 1 or not np.size(state) or not np.isfinite(state).all():
            raise DatasetError(f"sim_state: expected finite float64 (m,), got {state!r}; drop the step")
        return shape

    def _put(self, clock: str, time_ns: int, step: _Step | None, images: Mapping[str, np.ndarray]) -> None:
        self._raise_failure()
        if not self._staged.open:
            raise DatasetError("the recording is finished or abandoned: begin a new EpisodeWriter")
        last = self._last_time.get(clock)
        if last is not None and time_ns <= last:
            raise DatasetError(
                f"time_ns of {clock}: expected more than {last}, got {time_ns}; clocks never run backwards"
            )
        for name, image in images.items():
            camera = self._cameras[name]
            if image.shape != camera.shape or image.dtype != np.dtype(camera.dtype):
                raise DatasetError(
                    f"images[{name!r}]: expected {camera.dtype} {camera.shape}, got {image.dtype} {image.shape}"
                )
        if self._queue.qsize() >= self._max_pending:
            raise DatasetError(
                f"{self._max_pending} steps wait to be written: packing is slower than the recording; use codec jpeg, "
                "smaller images or a faster disk. What was handed over before is kept"
            )
        self._first_time.setdefault(clock, time_ns)
        self._last_time[clock] = time_ns
        self._queue.put((int(time_ns), step, {name: np.array(image) for name, image in images.items()}))

    def _run(self) -> None:
        """The thread: packs, appends, notes, flushes."""
        synced, first = time.monotonic(), True
        try:
            while (item := self._queue.get()) is not None:
                self._write(*item)
                if time.monotonic() - synced >= self._sync_s:
                    for shard in self._shards.values():
                        shard.sync()
                    self._journal.sync()
                    if first:
                        self._staged.sync_folders()
                    synced, first = time.monotonic(), False
        except BaseException as error:
            self._failure = error

    def _write(self, time_ns: int, step: _Step | None, images: Mapping[str, np.ndarray]) -> None:
        """A step with its frames, or a frame of a camera with a clock of its own: shards first, then the journal."""
        frames = {}
        for name, image in images.items():
            chunk = self._encode[name](image)
            self._shards[name].append(chunk)
            self._recording.pictures[name].add(image)
            frames[name] = [len(chunk), google_crc32c.value(chunk)]
        if step is not None:
            self._journal.append({"frames": frames, "step": {name: row.tolist() for name, row in step.items()}})
            self._recording.steps.append(step)
        else:
            self._journal.append({"frames": frames, "time_ns": time_ns})
            (name,) = images
            self._recording.frame_times[name].append(time_ns)

    def _end_thread(self) -> None:
        self._queue.put(None)
        self._thread.join()
        self._journal.close()

    def _stop(self) -> None:
        self._raise_failure()
        if not self._staged.open:
            raise DatasetError("the recording is finished or abandoned: begin a new EpisodeWriter")
        self._end_thread()
        self._raise_failure()

    def _raise_failure(self) -> None:
        """Raise what ended the thread; what it had written stays, for `recover`."""
        if self._failure is not None:
            with explain_full_disk(self._storage, f"recording {self._staged.id}; vla data repair keeps its steps"):
                raise self._failure
