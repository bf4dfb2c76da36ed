import numpy as np
import pytest

from vla.core.contract import Contract
from vla.core.errors import ServeError
from vla.core.types import ActionChunk
from vla.deploy.requests import neutral_observation, read_request, write_answer, write_metadata
from vla.deploy.wire import pack, unpack


@pytest.fixture
def contract(policy):
    return policy.contract


def test_flat_and_nested_forms_give_the_same_observation(contract, observation):
    flat = observation()
    nested = {
        "images": {"front": flat["observation/front"], "wrist": flat["observation/wrist"]},
        "state": flat["observation/state"],
        "prompt": flat["prompt"],
    }
    a = read_request(pack(flat), contract).observation
    b = read_request(pack(nested), contract).observation
    assert list(a.images) == list(b.images) == ["front", "wrist"]
    for name in a.images:
        np.testing.assert_array_equal(a.images[name], b.images[name])
    np.testing.assert_array_equal(a.state, b.state)
    assert a.instruction == b.instruction == "reach"
    assert a.time_ns > 0


def test_optional_keys(contract, observation):
    request = read_request(pack({**observation(), "time_ns": 12, "reset": True}), contract)
    assert request.reset
    assert request.observation.time_ns == 12
    alone = read_request(pack({"reset": True}), contract)
    assert alone.reset
    assert alone.observation is None


def test_double_precision_state_is_taken(contract, observation):
    request = read_request(pack({**observation(), "observation/state": np.array([0.1, 0.2, 0.3])}), contract)
    assert request.observation.state.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"observation/top": np.zeros((8, 6, 3), np.uint8)}, "unknown camera 'top'; expected front, wrist"),
        ({"images": {"front": 1}}, "camera 'front' is given twice"),
        ({"images": [1]}, "images: expected a map from camera to image, got list"),
        ({"images": {5: 1}}, "expected one msgpack value"),
        ({"images": {b"front": 1}}, "unknown camera b'front'"),
        ({"observation/front": None}, "expected cameras front, wrist, got wrist; send front"),
        (
            {"observation/front": np.zeros((3, 8, 6), np.uint8)},
            r"front: expected uint8 \(8, 6, 3\), got uint8 \(3, 8, 6\); put the channels last",
        ),
        ({"observation/front": np.zeros((8, 6, 3), np.float32)}, r"expected uint8 .* got float32 \(8, 6, 3\)"),
        ({"observation/front": [1]}, "front: expected uint8 .* got list"),
        ({"observation/state": None}, r"expected observation/state or state \(shoulder \[rad\].*, got neither"),
        ({"state": np.zeros(3, np.float32)}, "got both"),
        ({"observation/state": np.zeros(4, np.float32)}, r"float32 \(3,\) .* got float32 \(4,\)"),
        ({"observation/state": np.zeros(3, np.int64)}, "got int64"),
        ({"observation/state": [0.0, 0.0, 0.0]}, "got list"),
        ({"observation/state": np.array([0, np.nan, 0])}, "got NaN or infinity for elbow"),
        ({"observation/state": np.array([0, 0, 1e300])}, "got NaN or infinity for gripper"),
        ({"prompt": None}, "expected prompt, .* got no such key"),
        ({"prompt": b"reach"}, "prompt: expected a string, got bytes"),
        ({"reset": 1}, "reset: expected true or false, got int"),
        ({"time_ns": 1.5}, "time_ns: expected an integer, got float"),
        ({"gripper": 1.0}, "unknown key 'gripper'; expected observation/<camera>"),
        ({"x" * 1000: 1.0}, "unknown key 'xxx.*\\.\\.\\.; expected"),
    ],
)
def test_wrong_requests_name_expected_and_got(contract, observation, changes, says):
    message = {k: v for k, v in {**observation(), **changes}.items() if v is not None}
    with pytest.raises(ServeError, match=says):
        read_request(_pack_any(message), contract)


@pytest.mark.parametrize(
    ("frame", "says"),
    [("hello", "got a text frame"), (pack([1]), "expected a map, got list"), (pack(np.zeros(2)), "got float64")],
)
def test_frames_that_are_no_map_are_refused(contract, frame, says):
    with pytest.raises(ServeError, match=says):
        read_request(frame, contract)


def test_only_actions_travel_as_an_array():
    signals = {"place": np.array([1, 2], np.float32)}
    answer = write_answer(ActionChunk(actions=np.zeros((4, 2), np.float32), time_ns=3, signals=signals))
    assert [key for key, value in answer.items() if isinstance(value, np.ndarray)] == ["actions"]
    assert answer["signals"] == {"place": [1.0, 2.0]}
    assert "signals" not in write_answer(ActionChunk(actions=np.zeros((4, 2), np.float32), time_ns=3))


def test_metadata_carries_the_contract(contract):
    metadata = unpack(pack(write_metadata(contract, policy="p", action_horizon=4, places=3, version=1, digest="ab")))
    assert Contract.from_json(metadata["contract"], where="test").digest() == contract.digest()
    assert metadata["protocol"] == "openpi"


def test_the_neutral_observation_fits_its_contract(contract):
    neutral = neutral_observation(contract)
    message = {"images": dict(neutral.images), "state": neutral.state, "prompt": neutral.instruction}
    assert read_request(pack(message), contract).observation is not None


def _pack_any(message: dict) -> bytes:
    from openpi_client import msgpack_numpy

    return msgpack_numpy.packb(message)
