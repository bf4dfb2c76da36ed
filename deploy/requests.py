"""What a client may ask and what it is answered: openpi's flat maps, checked against the policy's contract."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from vla.core.contract import Camera, Contract
from vla.core.errors import ServeError
from vla.core.types import ActionChunk, Observation
from vla.deploy.wire import unpack

Array = NDArray[Any]

_PREFIX = "observation/"
_STATE_KEYS = ("observation/state", "state")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One message of a client: an observation to act on, an episode boundary, or both."""

    observation: Observation | None
    reset: bool


def read_request(frame: bytes | str, contract: Contract) -> Request:
    """Decode and check one frame; `ServeError` names the key, what was expected and what came."""
    if isinstance(frame, str):
        raise ServeError("expected a binary frame with a msgpack map, got a text frame")
    message = unpack(frame)
    if not isinstance(message, dict):
        raise ServeError(f"expected a map, got {_describe(message)}")
    _refuse_unknown_keys(message)
    reset = message.get("reset", False)
    if not isinstance(reset, bool):
        raise ServeError(f"reset: expected true or false, got {_describe(reset)}")
    if reset and message.keys() == {"reset"}:
        return Request(observation=None, reset=True)
    observation = Observation(
        images=_read_images(message, contract),
        state=_read_state(message, contract),
        instruction=_read_prompt(message),
        time_ns=_read_time(message),
    )
    return Request(observation=observation, reset=reset)


def write_answer(chunk: ActionChunk) -> dict[str, Any]:
    """The response map, without timing.

    ``actions`` is the only array: openpi's ActionChunkBroker slices every array of a response by the step, so
    anything that has no row for each step travels as a list.
    """
    answer: dict[str, Any] = {"actions": chunk.actions, "time_ns": chunk.time_ns}
    if chunk.signals:
        answer["signals"] = {name: [float(value) for value in signal] for name, signal in chunk.signals.items()}
    return answer


def write_metadata(contract: Contract, *, policy: str, action_horizon: int) -> dict[str, Any]:
    """The first frame that a server sends."""
    return {
        "protocol": "openpi",
        "policy": policy,
        "action_horizon": action_horizon,
        "contract": contract.to_json(),
    }


def neutral_observation(contract: Contract) -> Observation:
    """Black images and the state nearest to zero within its limits: what a policy is warmed up with."""
    state = np.array([min(max(0.0, s.low), s.high) for s in contract.state], np.float32)
    images = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in contract.cameras}
    return Observation(images=images, state=state, instruction="warm up", time_ns=time.time_ns())


def _refuse_unknown_keys(message: Mapping[Any, Any]) -> None:
    known = {"images", "state", "prompt", "reset", "time_ns"}
    for key in message:
        if not isinstance(key, str) or not (key in known or key.startswith(_PREFIX)):
            raise ServeError(
                f"unknown key {_quote(key)}; expected observation/<camera> or images, observation/state or state, "
                "prompt, and optionally time_ns and reset"
            )


def _read_images(message: Mapping[str, Any], contract: Contract) -> dict[str, UInt8[Array, "_ _ 3"]]:
    images = message.get("images", {})
    if not isinstance(images, dict):
        raise ServeError(f"images: expected a map from camera to image, got {_describe(images)}")
    given = dict(images)
    for key in message:
        if key.startswith(_PREFIX) and key not in _STATE_KEYS:
            camera = key.removeprefix(_PREFIX)
            if camera in given:
                raise ServeError(f"camera {_quote(camera)} is given twice, in images and as {_quote(key)}; send one")
            given[camera] = message[key]
    expected = {camera.name: camera for camera in contract.cameras}
    for name in given:
        if name not in expected:
            raise ServeError(f"unknown camera {_quote(name)}; expected {', '.join(expected) or 'no camera'}")
    missing = [name for name in expected if name not in given]
    if missing:
        got = ", ".join(given) or "none"
        raise ServeError(
            f"missing image; expected cameras {', '.join(expected)}, got {got}; send observation/{missing[0]}"
        )
    return {name: _read_image(camera, given[name]) for name, camera in expected.items()}


def _read_image(camera: Camera, image: Any) -> UInt8[Array, "y x 3"]:
    shape = (camera.height, camera.width, 3)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == shape:
        return image
    hint = ""
    if isinstance(image, np.ndarray) and image.shape == (3, *shape[:2]):
        hint = "; put the channels last"
    raise ServeError(f"image of camera {camera.name}: expected uint8 {shape}, got {_describe(image)}{hint}")


def _read_state(message: Mapping[str, Any], contract: Contract) -> Float32[Array, " s"]:
    keys = [key for key in _STATE_KEYS if key in message]
    names = ", ".join(f"{s.name} [{s.unit}]" for s in contract.state)
    if len(keys) != 1:
        got = "both" if keys else "neither"
        raise ServeError(f"expected observation/state or state ({names}), got {got}")
    state = message[keys[0]]
    shape = (len(contract.state),)
    # openpi clients send either precision, whatever their robot's driver gives.
    if not isinstance(state, np.ndarray) or state.dtype not in (np.float32, np.float64) or state.shape != shape:
        raise ServeError(f"{keys[0]}: expected float32 or float64 {shape} ({names}), got {_describe(state)}")
    with np.errstate(over="ignore"):
        single = state.astype(np.float32)
    bad = [s.name for s, ok in zip(contract.state, np.isfinite(single), strict=True) if not ok]
    if bad:
        raise ServeError(f"{keys[0]}: expected finite numbers, got NaN or infinity for {', '.join(bad)}")
    return single


def _read_prompt(message: Mapping[str, Any]) -> str:
    if "prompt" not in message:
        raise ServeError("expected prompt, the instruction as a string, got no such key")
    prompt = message["prompt"]
    if not isinstance(prompt, str):
        raise ServeError(f"prompt: expected a string, got {_describe(prompt)}")
    return prompt


def _read_time(message: Mapping[str, Any]) -> int:
    time_ns = message.get("time_ns")
    if time_ns is None:
        return time.time_ns()
    if type(time_ns) is not int:
        raise ServeError(f"time_ns: expected integer nanoseconds, got {_describe(time_ns)}")
    return time_ns


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape}"
    return type(value).__name__


def _quote(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 64 else text[:61] + "..."
