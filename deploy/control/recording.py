"""Every drive as an episode: what was seen, what the policy asked for, what passed the gate, and when."""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from vla.core.contract import Contract
from vla.core.errors import DatasetError
from vla.datasets.dataset import create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.deploy.control.drive import Step

_MOST_WAITING = 1024
"""Steps that may wait for the disk."""


class DriveRecorder:
    """Writes episodes of one robot into the dataset at ``root``, an instruction each.

    The label of a step is what was asked for; ``action_executed`` is what passed the gate, the state what was measured.
    A step in which nobody was listened to has what was sent as both, and is not to be learned from.

    The loop hands over and goes on: episodes are begun, sealed and published on a thread, which takes longer than a
    control period. What fails there is raised with the next step, or at the end.
    """

    def __init__(self, root: Path, contract: Contract, provenance: Mapping[str, Any], *, task: str) -> None:
        self._root, self._task, self._provenance = root, task, dict(provenance)
        self._contract = replace(contract, signals={}, policy=None)  # a robot gives no training signals
        create_dataset(root, self._contract)
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._failure: BaseException | None = None
        self._writer: EpisodeWriter | None = None
        self._instruction: str | None = None
        self.episodes = 0
        """Published so far; all of them once `wait` is over."""
        self._thread = threading.Thread(target=self._work, name="vla-recorder", daemon=True)
        self._thread.start()

    def __call__(self, step: Step) -> None:
        """Keep one step; a new instruction begins a new episode, and none keeps nothing."""
        if step.seen.instruction:
            self._put(lambda: self._add(step))

    def finish(self, success: bool | None) -> None:
        """Publish the episode that is open, if one is."""
        self._put(lambda: self._finish(success))

    def discard(self) -> None:
        """Throw the episode that is open away, if one is."""
        self._put(self._discard)

    def wait(self) -> None:
        """Until all that was handed over is on disk."""
        self._waiting.join()
        self._raise()

    def __enter__(self) -> "DriveRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:  # however far behind the disk is: no robot waits for it any more
            self._waiting.put(lambda: self._finish(None))
        self._waiting.put(None)
        self._thread.join()
        error = error or self._failure
        if self._writer is not None:  # what an error has cut short is left for ``vla data repair``
            self._writer.__exit__(type(error) if error else None, error, trace)
        if kind is None:
            self._raise()

    def _put(self, work: Callable[[], None]) -> None:
        self._raise()
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            raise DatasetError(
                f"recording into {self._root} is {_MOST_WAITING} steps behind the robot; use a faster disk or smaller "
                "images"
            ) from None

    def _raise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            try:
                if self._failure is None:
                    work()
            except BaseException as error:
                self._failure = error
            finally:
                self._waiting.task_done()
        self._waiting.task_done()

    def _add(self, step: Step) -> None:
        if self._writer is None or step.seen.instruction != self._instruction:
            self._finish(None)
            self._instruction = step.seen.instruction
            self._writer = EpisodeWriter(
                self._root, self._contract, self._provenance, instruction=self._instruction, task=self._task
            )
        sent = step.verdict.command
        self._writer.add(
            images=step.seen.images,
            state=step.seen.state,
            action=sent if step.asked is None else step.asked,
            action_executed=sent,
            time_ns=step.looked_ns,
            command_time_ns=step.sent_ns,
            valid=step.mode == "policy",
        )

    def _finish(self, success: bool | None) -> None:
        if self._writer is not None:
            self._writer.finish(success)
            self._writer, self._instruction = None, None
            self.episodes += 1

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer, self._instruction = None, None
