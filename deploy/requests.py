"""What a client may ask and what it is answered: openpi's flat maps, checked against the policy's contract."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.core.contract import Contract
from vla.core.errors import ContractError, ServeError
from vla.core.fit import check_committed, check_images, check_speech, check_state, describe
from vla.core.fit import limits as limits_of
from vla.core.types import ActionChunk, Observation
from vla.deploy.limits import Limits
from vla.deploy.pictures import decode_picture
from vla.deploy.wire import unpack

_LIMITS = Limits()
_PREFIX = "observation/"
_STATE_KEYS = ("observation/state", "state")
_OPTIONAL = ("prompt", "time_ns", "reset", "sequence", "committed", "supersede", "speech")
"""Keys that a request may leave out; the prompt if the episode has one, or if there is speech."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One message of a client: an observation to act on, an episode boundary, or both."""

    observation: Observation | None
    reset: bool
    sequence: int | None = None
    """The client's own count, which the answer repeats: no older answer can be taken for it."""
    state_clipped: bool = False
    """Its state was a little outside of its limits, and was brought inside."""
    prompt: str | None = None
    """The instruction, if the message has one: the episode keeps it for those that have none."""
    speech: np.ndarray | None = None
    """The same said aloud, float32 (a,), likewise; who says one of them anew takes back the other."""
    supersede: bool = False
    """Whether the next message, if it comes before the answer, takes the place of this one."""


def read_request(
    frame: bytes | str,
    contract: Contract,
    limits: Limits = _LIMITS,
    instruction: str | None = None,
    speech: np.ndarray | None = None,
) -> Request:
    """Decode and check one frame; `ServeError` names the key, what was expected and what came."""
    return request_of(read_message(frame, limits), contract, limits, instruction, speech)


def read_message(frame: bytes | str, limits: Limits = _LIMITS) -> dict[str, Any]:
    """First half of `read_request`: the map, of known keys; its arrays are views of what was received."""
    if isinstance(frame, str):
        raise ServeError("expected a binary frame with a msgpack map, got a text frame")
    message = unpack(frame, depth=limits.depth, rank=limits.rank, items=limits.items, copy=False)
    if not isinstance(message, dict):
        raise ServeError(f"expected a map, got {describe(message)}")
    _refuse_unknown_keys(message)
    return message


def has_pictures(message: Mapping[str, Any]) -> bool:
    """Whether images have to be decoded, which takes milliseconds."""
    images = message.get("images")
    return any(
        isinstance(v, bytes) for v in (*message.values(), *(images.values() if isinstance(images, dict) else ()))
    )


def request_of(
    message: Mapping[str, Any],
    contract: Contract,
    limits: Limits = _LIMITS,
    instruction: str | None = None,
    speech: np.ndarray | None = None,
) -> Request:
    """Second half of `read_request`: what the map asks.

    ``instruction`` and ``speech`` are those of the episode, as far as it was told.
    """
    reset, sequence = _read_flag(message, "reset"), _read_whole(message, "sequence")
    prompt, spoken = _read_prompt(message, limits.instruction_chars), _read_speech(message, contract)
    if reset and message.keys() <= {"reset", "sequence", "prompt", "speech"}:
        return Request(observation=None, reset=True, sequence=sequence, prompt=prompt, speech=spoken)
    anew = reset or prompt is not None or spoken is not None
    told, heard = (prompt, spoken) if anew else (instruction, speech)
    if told is None and heard is not None:
        told = ""
    if told is None:
        raise ServeError("expected prompt, the instruction as a string, got no such key, and the episode has none")
    images, state = _read_images(message, contract), _read_state(message, contract)
    committed = _float32(message.get("committed"))
    try:
        check_images(images, contract, who="the request")
        inside = check_state(state, contract, who="the request")
        if committed is not None:
            check_committed(committed, contract, who="the request")
    except ContractError as error:
        raise ServeError(str(error)) from None
    observation = Observation(
        images={camera.name: images[camera.name] for camera in contract.cameras},
        state=inside,
        instruction=told,
        time_ns=time.time_ns() if (time_ns := _read_whole(message, "time_ns")) is None else time_ns,
        committed=committed,
        speech=heard,
    )
    return Request(
        observation=observation,
        reset=reset,
        sequence=sequence,
        state_clipped=inside is not state,
        prompt=prompt,
        speech=spoken,
        supersede=_read_flag(message, "supersede"),
    )


def write_answer(chunk: ActionChunk) -> dict[str, Any]:
    """The response map, without timing.

    ``actions`` is the only array: openpi's ActionChunkBroker slices every array of a response by the step, so
    anything that has no row for each step travels as a list.
    """
    answer: dict[str, Any] = {"actions": chunk.actions, "time_ns": chunk.time_ns}
    if chunk.clipped:
        answer["clipped"] = list(chunk.clipped)
    if chunk.signals:
        answer["signals"] = {name: [float(value) for value in signal] for name, signal in chunk.signals.items()}
    return answer


def write_metadata(
    contract: Contract, *, policy: str, action_horizon: int, places: int, version: int, digest: str
) -> dict[str, Any]:
    """The first frame that a server sends."""
    return {
        "protocol": "openpi",
        "policy": policy,
        "action_horizon": action_horizon,
        "places": places,
        "policy_version": version,
        "policy_digest": digest,
        "sequence": True,
        "optional": list(_OPTIONAL),
        "contract": contract.to_json(),
    }


def neutral_observation(contract: Contract) -> Observation:
    """Black images and the state nearest to zero within its limits: what a policy is warmed up with."""
    low, high = limits_of(contract.state)
    state = np.zeros(len(contract.state), np.float32).clip(low, high)
    images = {camera.name: np.zeros(camera.shape, camera.dtype) for camera in contract.cameras}
    return Observation(images=images, state=state, instruction="warm up", time_ns=time.time_ns())


def _refuse_unknown_keys(message: Mapping[Any, Any]) -> None:
    known = {"images", "state", *_OPTIONAL}
    for key in message:
        if not isinstance(key, str) or not (key in known or key.startswith(_PREFIX)):
            raise ServeError(
                f"unknown key {_quote(key)}; expected observation/<camera> or images, observation/state or state, "
                f"and optionally {', '.join(_OPTIONAL)}"
            )


def _read_images(message: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    images = message.get("images", {})
    if not isinstance(images, dict):
        raise ServeError(f"images: expected a map from camera to image, got {describe(images)}")
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
        if isinstance(given[name], bytes):
            given[name] = decode_picture(given[name], expected[name])
    return given


def _read_state(message: Mapping[str, Any], contract: Contract) -> Any:
    keys = [key for key in _STATE_KEYS if key in message]
    if len(keys) != 1:
        names = ", ".join(f"{s.name} [{s.unit}]" for s in contract.state)
        raise ServeError(f"expected observation/state or state ({names}), got {'both' if keys else 'neither'}")
    return _float32(message[keys[0]])


def _float32(value: Any) -> Any:
    """Of float64: openpi clients send either precision, whatever their robot's driver gives."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return value
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return value.astype(np.float32)


def _read_prompt(message: Mapping[str, Any], most: int) -> str | None:
    if "prompt" not in message:
        return None
    prompt = message["prompt"]
    if not isinstance(prompt, str):
        raise ServeError(f"prompt: expected a string, got {describe(prompt)}")
    if len(prompt) > most:
        raise ServeError(f"prompt: expected at most {most} characters, got {len(prompt)}")
    return prompt


def _read_speech(message: Mapping[str, Any], contract: Contract) -> np.ndarray | None:
    """A copy: an episode keeps it longer than the message."""
    if message.get("speech") is None:
        return None
    samples = _float32(message["speech"])
    try:
        check_speech(samples, contract, who="the request")
    except ContractError as error:
        raise ServeError(str(error)) from None
    return np.array(samples)


def _read_flag(message: Mapping[str, Any], key: str) -> bool:
    value = message.get(key, False)
    if isinstance(value, bool):
        return value
    raise ServeError(f"{key}: expected true or false, got {describe(value)}")


def _read_whole(message: Mapping[str, Any], key: str) -> int | None:
    value = message.get(key)
    if value is None or type(value) is int:
        return value
    raise ServeError(f"{key}: expected an integer, got {describe(value)}")


def _quote(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 64 else text[:61] + "..."
