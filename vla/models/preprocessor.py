"""Recorded samples and live observations to tensors, and a model's answer back to chunks: one class for both.

What training and serving share stands here once, so they cannot differ: the order of cameras, the size of images, the
action space (what is relative to which state), the scale, the words. Each step in has its mirror out::

    observation ─▶ order cameras, stretch ─▶ scale state ─▶ Inputs
    actions ─▶ relative to the state ─▶ scale ─▶ Targets          Prediction ─▶ unscale ─▶ absolute ─▶ ActionChunk

It is JSON (``preprocessor.json`` of a checkpoint), beside the tokenizer. Of several robots each has its own statistics,
action space and cameras; narrower ones are padded with zeros, and masks say so.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from vla.core.action_transform import ActionTransform
from vla.core.contract import Contract, Dimension, differences
from vla.core.errors import CheckpointError, ContractError
from vla.core.fit import check_form, limits
from vla.core.media.images import resize_frame
from vla.core.scaling import Statistics
from vla.core.sealed import brief
from vla.core.types import ActionChunk, Observation
from vla.models.readers.sound import heard
from vla.models.text.tokenizer import InstructionTokenizer
from vla.models.trunk.inputs import Batch, Committed, Inputs, Prediction, Targets, Written
from vla.models.trunk.interface import Interface

Texts = tuple[Int64[Tensor, "k l"], Bool[Tensor, "k l"]]
"""Sentences as ids and which of them are real."""
Answers = tuple[Int64[Tensor, "q a"], Bool[Tensor, "q a"]]
"""The same of answers, which are shorter."""


@dataclass(frozen=True, kw_only=True)
class Embodiment:
    """One robot as a model sees it."""

    contract: Contract
    """Its interface; the rate is that of the model's chunks."""
    cameras: tuple[str | None, ...]
    """The camera in each image slot; None where it has none."""
    space: ActionTransform
    """What is learned relative to which state."""
    state: Statistics
    action: Statistics
    """Of actions in that space."""

    def inside(self, state: Float32[np.ndarray, "*b s"]) -> Float32[np.ndarray, "*b s"]:
        """Recorded states as live ones come: brought within their limits by whoever received them."""
        within: np.ndarray = np.clip(state, *limits(self.contract.state))
        return within

    def scaled(self, state: Float[Tensor, "*b s"], actions: Float[Tensor, "*b h d"]) -> Float[Tensor, "*b h d"]:
        """Commands in the robot's units as a model writes them, from the present ``state`` on."""
        scaled: Tensor = self.action.normalise(self.space.apply(state, actions))
        return scaled

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return {
            "contract": self.contract.to_json(),
            "cameras": list(self.cameras),
            "space": self.space.to_json(),
            "state": self.state.to_json(),
            "action": self.action.to_json(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any], *, where: str) -> "Embodiment":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        return Embodiment(
            contract=Contract.from_json(value["contract"], where=where),
            cameras=tuple(value["cameras"]),
            space=ActionTransform.from_json(value["space"], where=where),
            state=Statistics.from_json(value["state"], where=where),
            action=Statistics.from_json(value["action"], where=where),
        )


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """How a model's inputs and outputs are made of a robot's."""

    embodiments: tuple[Embodiment, ...]
    tokenizer: InstructionTokenizer
    words: tuple[str, ...]
    """Those of the instructions that it was trained on."""
    text_tokens: int
    """l"""
    answer_tokens: int = 0
    """Of the longest answer; 0 where nothing is asked."""
    image_size: tuple[int, int]
    """(y, x) of every image; others are stretched to it."""
    history: int
    """t"""
    horizon: int
    """h"""

    @property
    def interface(self) -> Interface:
        """The sizes that a model is built for."""
        first = self.embodiments[0]
        return Interface(
            cameras=tuple(camera or "" for camera in first.cameras),
            history=self.history,
            state=max(len(e.contract.state) for e in self.embodiments),
            action=max(len(e.contract.action) for e in self.embodiments),
            horizon=self.horizon,
            words=len(self.tokenizer),
            text=self.text_tokens,
            answer=self.answer_tokens,
            embodiments=len(self.embodiments),
            signals=self.signals,
        )

    @property
    def signals(self) -> Mapping[str, tuple[Dimension, ...]]:
        """The signals that any robot's data offers; those of the same name say the same."""
        found: dict[str, tuple[Dimension, ...]] = {}
        for embodiment in self.embodiments:
            for name, dimensions in embodiment.contract.signals.items():
                if found.setdefault(name, dimensions) != dimensions:
                    raise ContractError(
                        f"signal {name} means other things for {embodiment.contract.robot} than for another robot of "
                        "the mixture; train on one of them, or rename it in the dataset"
                    )
        return found

    def embodiment_for(self, contract: Contract) -> int:
        """Which robot of this preprocessor fits ``contract``, in whatever order that has its joints and cameras.

        None: a `ContractError` with the differences of the nearest.
        """
        lines = [differences(e.contract, contract.in_order_of(e.contract)) for e in self.embodiments]
        best = min(range(len(lines)), key=lambda i: len(lines[i]))
        if lines[best]:
            known = ", ".join(e.contract.robot for e in self.embodiments)
            raise ContractError(f"trained for {known}; {'; '.join(lines[best])}")
        return best

    def texts(self, sentences: Sequence[str], longest: int | None = None) -> Texts:
        """Sentences as tokens, ``longest`` of them at most: by default as many as an instruction may have."""
        ids, valid = self.tokenizer.encode(sentences, self.text_tokens if longest is None else longest)
        return torch.from_numpy(ids), torch.from_numpy(valid)

    def said(self, written: Written) -> list[str]:
        """The mirror: the sentences that a model has written."""
        rows = zip(written.value.tolist(), written.known.tolist(), strict=True)
        return [self.tokenizer.decode([i for i, known in zip(*row, strict=True) if known]) for row in rows]

    def observations(self, observations: Sequence[Observation], embodiment: int = 0) -> Inputs:
        """Live observations of one robot, each with its ``history``; what it lacks is a `ContractError`."""
        robot, t = self.embodiments[embodiment], self.history
        for observation in observations:
            for moment in (*observation.history, observation):
                check_form(moment, robot.contract, who="the policy")
        moments = [(*o.history, o)[-t:] for o in observations]
        missing = [t - len(moment) for moment in moments]
        moments = [(moment[0],) * m + moment for moment, m in zip(moments, missing, strict=True)]  # as a window begins
        text, text_valid = self.texts([o.instruction for o in observations])
        images = np.stack([[self._images(o, robot) for o in moment] for moment in moments])  # (b, t, n, y, x, 3)
        state = np.stack([[o.state for o in moment] for moment in moments])
        b = len(observations)
        arrays = {
            "images": images,
            "camera_valid": np.tile([camera is not None for camera in robot.cameras], (b, 1)),
            "state": state,
            "observation_valid": np.arange(t) >= np.array(missing)[:, None],
            "embodiment": np.full(b, embodiment, np.int64),
        }
        inputs = self._inputs(arrays, text, text_valid)
        return dataclasses.replace(inputs, sound=heard(observations), committed=self._committed(observations, robot))

    def samples(self, arrays: Mapping[str, np.ndarray], texts: Texts, answers: Answers | None = None) -> Batch:
        """A batch of windows or of a mixture, whose ``instruction`` counts ``texts`` and ``answer`` the ``answers``."""
        arrays = {**arrays, "state": self._received(arrays)}
        instruction = torch.from_numpy(arrays["instruction"])
        inputs = self._inputs(arrays, texts[0][instruction], texts[1][instruction])
        b, h, _ = arrays["actions"].shape
        interface = self.interface
        sent = arrays.get("executed")
        actions = torch.zeros(b, h, interface.action)
        executed = None if sent is None else torch.zeros_like(actions)
        valid = torch.zeros(b, h, interface.action, dtype=torch.bool)
        known = torch.from_numpy(arrays["action_valid"])[..., None]  # (b, h, 1)
        for number, rows in _by_robot(arrays, b):
            robot = self.embodiments[number]
            d, s = len(robot.contract.action), len(robot.contract.state)
            present = torch.from_numpy(arrays["state"][rows][:, -1, :s])
            absolute = torch.from_numpy(arrays["actions"][rows][..., :d])
            actions[rows, :, :d] = robot.scaled(present, absolute)
            if executed is not None and sent is not None:
                executed[rows, :, :d] = robot.scaled(present, torch.from_numpy(sent[rows][..., :d]))
            valid[rows, :, :d] = known[rows]
        prefix = "signals/"
        signals = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}
        written = _written(arrays, answers)
        targets = Targets(actions=actions, executed=executed, valid=valid, signals=signals, written=written)
        return Batch(inputs=inputs, targets=targets)

    def chunks(
        self, prediction: Prediction, observations: Sequence[Observation], embodiment: int = 0
    ) -> list[ActionChunk]:
        """The mirror: what the robot is to do, in its own units."""
        robot = self.embodiments[embodiment]
        d = len(robot.contract.action)
        present = torch.from_numpy(np.stack([o.state for o in observations]))
        scaled = prediction.actions[..., :d].float().cpu()
        actions = robot.space.undo(present, robot.action.denormalise(scaled)).numpy()
        for i, observation in enumerate(observations):
            if observation.committed is not None:  # as it was given: scaling there and back may cost the last bit
                actions[i, : len(observation.committed)] = observation.committed
        signals = {name: values.float().cpu().numpy() for name, values in prediction.signals.items()}
        return [
            ActionChunk(
                actions=actions[i], time_ns=o.time_ns, signals={name: values[i] for name, values in signals.items()}
            )
            for i, o in enumerate(observations)
        ]

    def scaled_chunks(
        self, state: Float[np.ndarray, "w s"], actions: Float[np.ndarray, "w h d"], embodiment: int = 0
    ) -> Float[Tensor, "w h d"]:
        """Recorded chunks of one robot as a codec is fitted to them: what `samples` gives as targets."""
        robot = self.embodiments[embodiment]
        return robot.scaled(torch.from_numpy(robot.inside(state)), torch.from_numpy(actions))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back with the same tokenizer."""
        own = {name: getattr(self, name) for name in ("words", "text_tokens", "image_size", "history", "horizon")}
        own |= {"answer_tokens": self.answer_tokens} if self.answer_tokens else {}
        return {**own, "embodiments": [e.to_json() for e in self.embodiments]}

    @staticmethod
    def from_json(value: Mapping[str, Any], tokenizer: InstructionTokenizer, *, where: str) -> "Preprocessor":
        """Read what `to_json` wrote; ``where`` names the source in errors."""
        try:
            height, width = value["image_size"]
            return Preprocessor(
                embodiments=tuple(Embodiment.from_json(e, where=where) for e in value["embodiments"]),
                tokenizer=tokenizer,
                words=tuple(value["words"]),
                text_tokens=int(value["text_tokens"]),
                answer_tokens=int(value.get("answer_tokens", 0)),
                image_size=(int(height), int(width)),
                history=int(value["history"]),
                horizon=int(value["horizon"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ContractError | CheckpointError):
                raise
            raise CheckpointError(f"{where} is damaged ({brief(error)}); copy the whole checkpoint folder") from None

    def digest(self) -> str:
        """Changes when anything but the tokenizer does, software versions aside."""
        value = self.to_json()
        for embodiment in value["embodiments"]:
            embodiment["contract"].pop("versions")
        return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()

    def _received(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The states (b, t, s) of each robot within its limits."""
        state = arrays["state"].copy()
        for number, rows in _by_robot(arrays, len(state)):
            robot = self.embodiments[number]
            s = len(robot.contract.state)
            state[rows, :, :s] = robot.inside(state[rows, :, :s])
        return state

    def _inputs(self, arrays: Mapping[str, np.ndarray], text: Tensor, text_valid: Tensor) -> Inputs:
        """Scale the state of each robot, and say what there is."""
        images = arrays["images"]
        b, t, n = images.shape[:3]
        state = torch.zeros(b, t, self.interface.state)
        valid = torch.zeros(b, state.shape[-1], dtype=torch.bool)
        for number, rows in _by_robot(arrays, b):
            robot = self.embodiments[number]
            s = len(robot.contract.state)
            state[rows, :, :s] = robot.state.normalise(torch.from_numpy(arrays["state"][rows][..., :s]))
            valid[rows, :s] = True
        embodiment = arrays.get("embodiment")
        camera_valid = arrays.get("camera_valid")
        return Inputs(
            images=torch.from_numpy(images),
            camera_valid=torch.ones(b, n, dtype=torch.bool) if camera_valid is None else torch.from_numpy(camera_valid),
            state=state,
            state_valid=valid,
            observed=torch.from_numpy(arrays["observation_valid"]),
            text=text,
            text_valid=text_valid,
            embodiment=torch.zeros(b, dtype=torch.long) if embodiment is None else torch.from_numpy(embodiment),
        )

    def _committed(self, observations: Sequence[Observation], robot: Embodiment) -> Committed | None:
        """What is decided of each chunk, as targets are made; None where nothing is of any."""
        given = [observation.committed for observation in observations]
        if all(commands is None for commands in given):
            return None
        actions = torch.zeros(len(given), self.horizon, self.interface.action)
        for i, (observation, commands) in enumerate(zip(observations, given, strict=True)):
            if commands is not None:
                scaled = robot.scaled(torch.from_numpy(observation.state), torch.from_numpy(commands))
                actions[i, : len(scaled), : scaled.shape[1]] = scaled
        return Committed(actions=actions, steps=torch.tensor([0 if c is None else len(c) for c in given]))

    def _images(self, observation: Observation, robot: Embodiment) -> np.ndarray:
        """uint8 (n, y, x, 3): the robot's cameras in their slots, in the size of the model."""
        found = np.zeros((len(robot.cameras), *self.image_size, 3), np.uint8)
        for slot, name in enumerate(robot.cameras):
            if name is not None:
                found[slot] = resize_frame(observation.images[name], self.image_size)
        return found


def _by_robot(arrays: Mapping[str, np.ndarray], b: int) -> list[tuple[int, np.ndarray]]:
    """Each robot of a batch with its rows."""
    embodiment = arrays.get("embodiment")
    if embodiment is None:
        return [(0, np.arange(b))]
    return [(int(number), np.flatnonzero(embodiment == number)) for number in np.unique(embodiment)]


def _written(arrays: Mapping[str, np.ndarray], answers: Answers | None) -> dict[str, Written]:
    """What writers learn from, of what the arrays have."""
    found = {}
    if "answer" in arrays and answers is not None and len(answers[0]):
        number = torch.from_numpy(arrays["answer"])  # -1 is none
        found["answer"] = Written(value=answers[0][number], known=answers[1][number] & (number >= 0)[:, None])
    if "goal" in arrays:
        pictures = torch.from_numpy(arrays["goal"])
        known = torch.from_numpy(arrays["goal_valid"])[:, None].expand(-1, pictures.shape[1])
        found["goal"] = Written(value=pictures, known=known.clone())
    return found


def robot_of(contract: Contract) -> Contract:
    """A contract without its policy part: the robot alone."""
    return dataclasses.replace(contract, policy=None)
