"""The benches of the server measure what they say, on a small scale."""

import itertools

import pytest

from vla.bench.measure import Row
from vla.bench.serving.fuzz import bench_fuzz
from vla.bench.serving.messages import KINDS, hostile_messages
from vla.bench.serving.policies import CONTRACT, request
from vla.bench.serving.server import bench_server
from vla.bench.settings import FuzzConfig, ServerConfig
from vla.core.errors import ConfigError, ServeError
from vla.deploy.limits import Limits
from vla.deploy.requests import read_request
from vla.deploy.wire import pack


def test_hostile_messages_are_drawn_by_their_seed_and_most_are_refused() -> None:
    first, again, other = (list(itertools.islice(hostile_messages(seed), 440)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(KINDS) == 11
    refused = [said for said in map(_refusal, first) if said]
    assert len(refused) > 350
    assert max(map(len, refused)) < 1000
    assert read_request(pack(request()), CONTRACT, Limits()).observation is not None


def _refusal(message: bytes | str) -> str:
    try:
        read_request(message, CONTRACT, Limits())
    except ServeError as error:
        return str(error)
    return ""


def _by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def test_the_server_bench_has_its_rows() -> None:
    rows = _by_name(bench_server(ServerConfig(requests=20, clients=2, many=3, seconds=0.3), lambda text: None))
    assert rows["p50 beyond that of a plain websockets server"].bar == 0.5
    assert rows["p99 of 2 clients against a server that blocks"].bar == 2.0
    batched = rows["requests of 3 clients, batched"]
    assert batched.ratio is not None
    assert batched.ratio > 1.2
    sizes = [rows[f"{way}: message"].value for way in ("raw", "PNG", "JPEG")]
    assert sizes == sorted(sizes, reverse=True)
    assert 300 < sizes[0] < 303
    assert all(rows[f"{way}: {what} in"].value > 0 for way in ("raw", "JPEG", "PNG") for what in ("encoded", "decoded"))
    with pytest.raises(ConfigError, match="bench server: clients"):
        ServerConfig(clients=0)


def test_the_server_survives_a_little_fuzz() -> None:
    rows = _by_name(bench_fuzz(FuzzConfig(frames=200, clients=2, seconds=0.5), lambda text: None))
    assert rows["hostile messages sent, of those to be sent"].value == 1
    assert rows["policies that had to be begun anew"].value == 0
    assert rows["descriptors left open"].value <= 0
    assert rows["requests of it that failed"].value == 0
    assert rows["a newcomer's wait while idle clients hold all places"].passes
