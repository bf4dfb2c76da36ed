"""Every drive as an episode: what was seen, what the policy asked for, what passed the gate, and when."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from vla.core.contract import Contract
from vla.datasets.dataset import create_dataset
from vla.datasets.recorder.episode_writer import EpisodeWriter
from vla.deploy.control.drive import Step


class DriveRecorder:
    """Writes episodes of one robot into the dataset at ``root``, an instruction each.

    The label of a step is what was asked for; ``action_executed`` is what passed the gate, the state what was measured.
    A step in which nobody was listened to has what was sent as both, and is not to be learned from.
    """

    def __init__(self, root: Path, contract: Contract, provenance: Mapping[str, Any], *, task: str) -> None:
        self._root, self._task, self._provenance = root, task, dict(provenance)
        self._contract = replace(contract, signals={}, policy=None)  # a robot gives no training signals
        create_dataset(root, self._contract)
        self._stack, self._writer = ExitStack(), cast("EpisodeWriter | None", None)
        self._instruction: str | None = None
        self.episodes = 0

    def __call__(self, step: Step) -> None:
        """Keep one step; a new instruction begins a new episode."""
        if self._writer is None or step.seen.instruction != self._instruction:
            self.finish(None)
            self._instruction = step.seen.instruction
            self._writer = self._stack.enter_context(
                EpisodeWriter(
                    self._root, self._contract, self._provenance, instruction=self._instruction, task=self._task
                )
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

    def finish(self, success: bool | None) -> None:
        """Publish the episode that is open, if one is."""
        writer, self._writer, self._instruction = self._writer, None, None
        if writer is not None:
            writer.finish(success)
            self.episodes += 1

    def discard(self) -> None:
        """Throw the episode that is open away, if one is."""
        writer, self._writer, self._instruction = self._writer, None, None
        if writer is not None:
            writer.abandon()

    def __enter__(self) -> "DriveRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish(None)
        self._stack.__exit__(kind, error, trace)
