"""The values that cross every boundary of the stack.

Letters used in all shapes of the project:

    b batch    t time       h horizon    d action dim    s state dim    g signal dim    m simulator state
    n cameras  y x c image  f frames     l tokens        e embedding    v vocabulary
    a samples of sound

An observation and the chunk a policy answers with:

    Observation
      images       {camera: uint8 (y, x, 3)}    RGB, row 0 at the top
      state        float32 (s,)                 SI units: rad, m
      instruction  "put the red block on the blue plate"
      time_ns      capture time, integer nanoseconds
      history      the observations before it, oldest first
      committed    commands that run from now on whatever is answered, float32 (k, d)
      speech       the instruction said aloud, float32 (a,) at 16 kHz
                                                    ──▶  Policy.act  ──▶
    ActionChunk
      actions      float32 (h, d)               absolute targets in the robot's own units, row 0 is due now
      time_ns      time_ns of the observation it answers
      signals      {signal: float32 (g,)}       what the policy believes, by signal
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vla.core.contract import Contract

Image = UInt8[np.ndarray, "y x 3"]
SPEECH_HZ = 16_000
"""Samples of speech in a second, of one channel."""
SPEECH_S = (0.1, 8.0)
"""The shortest and the longest that is listened to, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a robot knows at one instant."""

    images: Mapping[str, Image]
    state: Float32[np.ndarray, " s"]
    instruction: str
    time_ns: int
    history: tuple["Observation", ...] = ()
    """Earlier observations, oldest first, each without a history of its own."""
    committed: Float32[np.ndarray, "k d"] | None = None
    """The commands of the next ``k`` steps, where they are decided: they run while the answer is worked out.

    In the robot's units, within its limits. For policies that were trained for it (``PolicySpec.committed``)."""
    speech: Float32[np.ndarray, " a"] | None = None
    """What is to be done, said aloud: instead of ``instruction``, which may be empty then, or beside it.

    `SPEECH_HZ` samples a second in [-1, 1]. For policies that were trained to listen (``PolicySpec.speech``)."""


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """The next ``h`` commands, un-normalised, for the observation captured at ``time_ns``."""

    actions: Float32[np.ndarray, "h d"]
    time_ns: int
    signals: Mapping[str, Float32[np.ndarray, " g"]] = field(default_factory=dict)
    """What the policy believes, by signal."""
    clipped: tuple[int, ...] = ()
    """Steps whose command was outside of the robot's limits, and has been brought inside."""


@runtime_checkable
class Policy(Protocol):
    """Anything that turns observations into action chunks.

    A policy may serve several episodes at once: ``act`` gets one observation for each of them, in a fixed order,
    and ``reset(i)`` says that slot ``i`` begins a new episode.
    """

    @property
    def contract(self) -> Contract:
        """What the policy expects to see and promises to answer."""

    def reset(self, slot: int) -> None:
        """Forget everything about the episode in ``slot``."""

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Answer each observation with a chunk; ``None`` marks a slot that needs none now."""


@runtime_checkable
class SeededPolicy(Protocol):
    """A policy that draws at random: then an episode must depend on its seed, not on the slot that it falls into."""

    def seed(self, slot: int, seed: int) -> None:
        """From now on the episode in ``slot`` draws from ``seed`` alone; called after ``reset``."""


@runtime_checkable
class ClosablePolicy(Protocol):
    """A policy that holds something, such as a connection: whoever made it closes it."""

    def close(self) -> None:
        """Let go of it; nothing is asked afterwards."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What can be asked of a moment, and what is right."""

    text: str
    answer: str
    kind: str = ""
    """Questions of one kind are counted together."""
    step: int = 0
    """Of the episode: the observation that shows it."""
    signals: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What signals say there of what the question is about, in the place of what they say of the task: those of the
    contract, NaN for what is not known; one that is not named says nothing."""


SCENE, PART = CAPTIONS = ("scene", "part")
"""Kinds of questions whose answers are captions: what a picture shows, of all that is there and of one thing in it."""
BOX = "box"
"""Kind of questions where a thing is in the picture of the first camera; see `vla.core.media.boxes`."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recorded episode of ``t`` steps: row ``i`` of each array belongs to the observation at step ``i``."""

    images: Mapping[str, np.ndarray]
    """Each camera (f, y, x, c): uint8 RGB or uint16 depth in mm; f is t, unless the camera has a rate of its own."""
    image_time_ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """int64 (f,), for exactly the cameras with a rate of their own: rising capture times, the first by step 0."""
    state: Float32[np.ndarray, "t s"]
    action: Float32[np.ndarray, "t d"]
    """What the demonstrator meant to do: the label to learn from."""
    action_executed: Float32[np.ndarray, "t d"]
    """What was sent to the robot, disturbances and another driver's commands included."""
    reward: Float32[np.ndarray, " t"]
    done: np.ndarray
    """bool (t,): the task ended with this step."""
    valid: np.ndarray
    """bool (t,): the label of this step may be learned from."""
    time_ns: np.ndarray
    """int64 (t,): capture time."""
    command_time_ns: np.ndarray
    """int64 (t,): when the command left."""
    signals: Mapping[str, Float32[np.ndarray, "t g"]] = field(default_factory=dict)
    """One array a signal of the contract."""
    instruction: str
    instruction_alternatives: tuple[str, ...] = ()
    task: str
    split: str
    seed: int
    success: bool | None
    """None where nobody knows."""
    questions: tuple[Question, ...] = ()
    sim_state: Float64[np.ndarray, "t m"] | None = None
    """The simulator's full state before each step, for exact replay and rendering anew."""
    model: str = ""
    """MuJoCo XML that ``sim_state`` belongs to; empty where the environment builds it itself."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON: where this episode comes from (source file and number, operator, checkpoint, settings)."""

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.state)
