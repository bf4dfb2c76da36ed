"""What the measurements of ``vla bench`` can be told."""

import math
from dataclasses import dataclass
from typing import Literal

import tyro

from vla.core.config import require_at_least_one
from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Reading frames: single ones at random against peers, and batches as training takes them."""

    sizes: tuple[int, ...] = (128, 224)
    """Height and width of the frames, pixels; each is measured on its own."""
    frames: int = 400
    """At least so many frames of each of two cameras, rendered from several episodes."""
    noise: float = 2.0
    """Standard deviation of the sensor noise that is added, grey levels: without it, lossless codecs look too good."""
    budget: float = 1.0
    """CPU seconds for each way of reading and repeat."""
    training_size: int = 224
    """Height and width of the frames of the training loader, pixels; 0 leaves it out."""
    batch: int = 32
    """Samples in one training batch, each 2 steps of 2 cameras."""
    workers: int = 2
    """Processes of the training loader."""
    training_seconds: float = 10.0
    """How long the training loader runs."""
    memory_samples: int = 200_000
    """Samples over which memory is watched; 0 leaves it out."""
    seed: int = 0
    """Of scenes, noise and the order of reading."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Opening a dataset of very many episodes."""

    episodes: int = 100_000
    """Synthetic episodes without cameras."""
    per_segment: int = 1000
    """Episodes in one segment."""
    steps: int = 20
    """Steps of one episode."""


@dataclass(frozen=True, kw_only=True)
class RecorderConfig:
    """How long the recorder holds up a control loop."""

    size: int = 224
    """Height and width of both cameras, pixels."""
    hz: float = 50.0
    """Steps in a second."""
    seconds: float = 20.0
    """How long is recorded."""
    codec: str = "zstd"
    """How frames are packed."""
    noise: float = 2.0
    """Standard deviation of the sensor noise, grey levels."""


@dataclass(frozen=True, kw_only=True)
class CrashConfig:
    """Killing what writes."""

    kills: int = 200
    """How often a process is killed at a random moment."""
    power_cuts: int = 40
    """Moments at which the power is cut, replayed from a trace of system calls; 0 leaves it out. Wants strace."""
    seed: int = 0
    """Of the moments."""


@dataclass(frozen=True, kw_only=True)
class DamageConfig:
    """Damaging files that are read back."""

    times: int = 6
    """How often each kind of damage is done to each kind of file."""
    seed: int = 0
    """Of bits, places and files."""


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Which precision matrix products should run in."""

    device: str = "auto"
    threads: int = 1
    batch: int = 32
    turns: int = 3
    """How often each precision is measured, in turn; the best counts."""
    seconds: float = 3.0
    """For each turn of each precision."""
    hopeless: float = 0.1
    """Below this share of float32's rate, training in bfloat16 is not tried."""


@dataclass(frozen=True, kw_only=True)
class CodecsConfig:
    """What every action codec makes of the chunks of a dataset."""

    dataset: tyro.conf.Positional[str] = ""
    """A folder or a URL, as ``vla collect`` writes it."""
    only: tuple[str, ...] = ()
    """Names of codecs; by default all, those of installed packages too."""
    horizon: int = 8
    """Steps of a chunk."""
    fit: int = 20_000
    """Chunks that codecs are fitted to, at most."""
    validation: float = 0.2
    """Share of the episodes that is held out, and measured on."""
    samples: int = 4000
    """Pairs of chunks, one step apart, that are measured."""
    sequences: int = 1000
    """Random sequences of tokens under the grammar that are decoded."""
    seed: int = 0
    """Of what is held out, and of the sequences; the first of those that are trained with."""
    runs: str = ""
    """A folder of training runs: with it, every head is trained on the dataset with every codec, and acts; the same
    command goes on where it stopped."""
    heads: tuple[str, ...] = ()
    """Of those that are trained, by name; by default all."""
    seeds: int = 2
    """Trainings of each."""
    steps: int = 1500
    """Of each training, 32 samples at a time."""
    env: str = "tabletop/place"
    """Where they act."""
    episodes: int = 100
    """Scenes in which each acts."""
    scenes: int = 990_000
    """The seed of the first."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "horizon", "seeds", "steps", "episodes", where="bench codecs: ")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How long policies take for a chunk, against transformers and against what the machine could do."""

    checkpoint: tyro.conf.Positional[str] = ""
    """Whose whole chunks are timed, from observations to actions; by default a model of the default size with random
    weights, for tabletop/place."""
    device: str = "auto"
    threads: int = 2
    """Of each product; more than there are quiet cores make everything slower."""
    sizes: tuple[str, ...] = ()
    """Of the models: default, 10 M parameters, 10 M deep, 100 M, 3 B; by default the first three, on a GPU all but the
    deep one."""
    heads: tuple[str, ...] = ()
    """By default all, those of installed packages too."""
    seconds: float = 1.5
    """For each thing that is timed."""
    compile: Literal["none", "default", "graphs"] = "none"
    """How the checkpoint computes; compiling takes minutes."""
    generate: bool = True
    """Also against ``generate`` of transformers with the same weights, where it is installed."""
    seed: int = 0
    """Of weights and inputs."""


@dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """One recipe with the simulator's labels, with labels made of logs, and with none."""

    dataset: tyro.conf.Positional[str] = ""
    """As ``vla data label`` writes it, of demonstrations that were collected in a simulator."""
    recipe: str = "labels-from-logs"
    """Whose auxiliaries learn from logs."""
    out: str = "runs/labels"
    """A folder for each run; the same command goes on with what is missing."""
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 0
    """Of each training; 0 is what the recipe says."""
    minutes: float = 60.0
    """The limit of each training on a slow machine."""
    threads: int = 2
    episodes: int = 100
    """Held-out scenes that each policy drives."""
    env: str = "tabletop/place"


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """How fast environments step and render in software, and how fast whole evaluations are."""

    size: int = 128
    """Height and width of the cameras, pixels."""
    budget: float = 1.5
    """CPU seconds for each environment and repeat."""
    tabletop: tuple[str, ...] = ()
    """Which families of the tabletop; by default all."""
    suites: bool = True
    """Also robosuite and Meta-World against their own default rendering, where they are installed."""
    episodes: int = 100
    """Of the expert's evaluation; 0 leaves it out."""
    batch: int = 10
    """Environments that share an inference in the evaluation of a network; 0 leaves it out."""
    network_episodes: int = 100
    """Of that evaluation, each as long as can be: random weights reach nothing."""
    tasks: int = 50
    """Tasks that one worker meets, whose memory is compared with that of one; 0 leaves it out."""
    seed: int = 0
    """Of scenes and weights."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What the policy server adds to a bare websocket, and what batching saves."""

    requests: int = 2000
    """Of one client, with each server."""
    clients: int = 4
    """Whose slowest requests are compared with those of a server that blocks."""
    many: int = 8
    """Whose throughput with batches is compared with that without."""
    seconds: float = 10.0
    """For each measurement with several clients."""
    deadline_ms: float = 100.0
    """Within which an answer must come."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "requests", "clients", "many", where="bench server: ")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How well the control loop keeps its rate beside a loaded core."""

    rates: tuple[float, ...] = (50.0, 200.0)
    """In Hz, one after the other."""
    seconds: float = 300.0
    """For each rate and kind of thread."""
    load: int = 1
    """Processes that never rest."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.load < 0 or not all(hz > 0 for hz in self.rates):
            raise ConfigError(f"bench loop: rates={self.rates} and seconds={self.seconds} must be above 0")


@dataclass(frozen=True, kw_only=True)
class FuzzConfig:
    """Hostile clients at a policy server, and a good one that is served meanwhile."""

    frames: int = 200_000
    """Malformed, truncated, oversized and hostile messages in all."""
    clients: int = 8
    """That send them, at the same time."""
    seconds: float = 20.0
    """How long the good client is watched, alone and among the others."""
    hz: float = 20.0
    """Its requests in a second."""
    seed: int = 0
    """Of the messages."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "frames", "clients", where="bench fuzz: ")


@dataclass(frozen=True, kw_only=True)
class SoakConfig:
    """A server and the robots that it drives, for long: what grows, and what is not counted."""

    minutes: float = 20.0
    """How long they are driven; what is measured of memory is of the second half."""
    clients: int = 4
    """Robots, each with a control loop in a process of its own."""
    hz: float = 50.0
    """Of each of them."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "clients", where="bench soak: ")
        if not (0 < self.minutes < math.inf and 0 < self.hz < math.inf):
            raise ConfigError(f"bench soak: minutes={self.minutes} and hz={self.hz} must be above 0")


@dataclass(frozen=True, kw_only=True)
class FindingsConfig:
    """How many findings of synthetic pictures a checkpoint reports."""

    checkpoint: tyro.conf.Positional[str] = ""
    """One with a writer of text, trained on what vla data draw writes."""
    pictures: int = 200
    seed: int = 500_000
    """Picture i is drawn from seed + i."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "pictures", where="bench findings: ")


@dataclass(frozen=True, kw_only=True)
class ModalitiesConfig:
    """What a checkpoint writes beside actions, on scenes that it has not seen."""

    checkpoint: tyro.conf.Positional[str] = ""
    """One with a writer of text; where it has one of pictures too, of these as well."""
    against: str = ""
    """A checkpoint that only acts, of the same size and data: how both act is compared scene by scene."""
    env: str = "tabletop/place"
    """Of the table."""
    scenes: int = 200
    """That are asked about, and whose end is imagined."""
    questions: int = 6
    """Of each scene, beside the one what was done."""
    boxes: int = 0
    """Questions of each scene where a thing is, for a checkpoint that learned to answer with boxes."""
    episodes: int = 200
    """In which both act."""
    seed: int = 500_000
    """Scene i is seed + i."""
    out: str = "runs/bench-modalities"
    """Keeps the episodes in which both act; what is there is not run again."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "scenes", "questions", "episodes", where="bench modalities: ")
        if self.boxes < 0:
            raise ConfigError(f"bench modalities: boxes={self.boxes} must be at least 0")


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """What a two-tower checkpoint finds and tells apart, on scenes that it has not learned from."""

    checkpoint: tyro.conf.Positional[str] = ""
    """Of kind two-tower."""
    dataset: tyro.conf.Positional[str] = ""
    """One with captions: what its run held out of it, or all of it where the run has never seen it."""
    scenes: int = 200
    """Among which a sentence looks for its picture, at most; each has a caption that no other has."""
    seed: int = 0
    """Chooses one moment of each episode."""
    probes: int = 100
    """New scenes of each kind of probe, where the dataset shows ``tabletop/place``; 0 makes none."""

    def __post_init__(self) -> None:
        require_at_least_one(self, "scenes", where="bench retrieval: ")
        if self.probes < 0:
            raise ConfigError(f"bench retrieval: probes={self.probes} must be at least 0")
