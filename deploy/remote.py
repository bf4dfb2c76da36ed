"""A policy that runs somewhere else, behind a policy server.

It lives here and not in ``policies/`` because a policy may not import ``deploy``.
"""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.core.contract import Contract, differences
from vla.core.errors import ContractError, PlacesTakenError, ServeError
from vla.core.fit import check_actions, check_chunk
from vla.core.types import ActionChunk, Observation
from vla.deploy.client import PolicyClient

_WAIT_S = 3.0
"""For a place on a full server."""


class RemotePolicy:
    """Implements `vla.core.types.Policy` through one connection for each slot, opened when the slot is first used.

    A lost connection fails the episode; the next `reset` of its slot opens a new one. Whether the contract fits the
    environment is for the caller to check.
    """

    def __init__(
        self, uri: str, api_key: str | None = None, timeout_s: float = 30.0, *, tls_ca: Path | None = None
    ) -> None:
        self._uri, self._api_key, self._timeout_s, self._tls_ca = uri, api_key, timeout_s, tls_ca
        self._clients: dict[int, PolicyClient] = {}
        self._new_episode: set[int] = set()
        first = self._connect()
        try:
            self._contract = _contract(first, uri)
        except BaseException:
            first.close()
            raise
        self._clients[0] = first

    @property
    def contract(self) -> Contract:
        """What the server published when the first connection opened."""
        return self._contract

    def reset(self, slot: int) -> None:
        """Note a new episode; the server hears of it with the next observation."""
        self._new_episode.add(slot)
        client = self._clients.get(slot)
        if client is not None and client.closed:
            del self._clients[slot]

    def act(self, observations: Sequence[Observation | None]) -> list[ActionChunk | None]:
        """Send all observations, then wait for all answers, so that the server can batch them."""
        asked = {slot: observation for slot, observation in enumerate(observations) if observation is not None}
        clients = {slot: self._client(slot) for slot in asked}
        errors: list[ServeError] = []
        sent = []
        for slot, observation in asked.items():
            try:
                clients[slot].send(self._request(slot, observation))
                sent.append(slot)
            except ServeError as error:
                errors.append(error)
        chunks: list[ActionChunk | None] = [None] * len(observations)
        for slot in sent:  # every answer is taken in, even after an error: it would be read as the next one
            try:
                chunks[slot] = _chunk(clients[slot].receive(), asked[slot], self._contract)
                self._new_episode.discard(slot)
            except ServeError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return chunks

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def _client(self, slot: int) -> PolicyClient:
        client = self._clients.get(slot)
        if client is not None:
            return client
        client = self._connect()
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            if lines := differences(self._contract, _contract(client, self._uri), scope="execution"):
                said = "; ".join(lines)
                raise ServeError(f"{self._uri} now serves a policy with another contract; start again ({said})")
            stack.pop_all()
        self._clients[slot] = client
        return client

    def _connect(self) -> PolicyClient:
        """A new connection; a place that somebody is just leaving is waited for."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                return PolicyClient(self._uri, self._api_key, self._timeout_s, tls_ca=self._tls_ca)
            except PlacesTakenError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _request(self, slot: int, observation: Observation) -> dict[str, Any]:
        request: dict[str, Any] = {
            "images": dict(observation.images),
            "state": observation.state,
            "prompt": observation.instruction,
            "time_ns": int(observation.time_ns),
        }
        if observation.committed is not None:
            request["committed"] = observation.committed
        if observation.speech is not None:
            request["speech"] = observation.speech
        if slot in self._new_episode:
            request["reset"] = True
        return request


def _contract(client: PolicyClient, uri: str) -> Contract:
    value = client.metadata.get("contract")
    if not isinstance(value, dict):
        raise ServeError(f"{uri} publishes no contract; start it with: vla serve CHECKPOINT")
    return Contract.from_json(value, where=uri)


def _chunk(answer: dict[str, Any], observation: Observation, contract: Contract) -> ActionChunk:
    """The client has held the actions against the limits already."""
    try:
        check_actions(answer.get("actions"), contract, who="the server's answer")
        signals = {
            str(name): np.asarray(signal, np.float32) for name, signal in dict(answer.get("signals", {})).items()
        }
        clipped = tuple(int(step) for step in answer.get("clipped", ()))
    except ContractError as error:
        raise ServeError(str(error)) from None
    except (TypeError, ValueError, OverflowError):
        raise ServeError("the server's answer: signals or clipped steps are not lists of numbers") from None
    chunk = ActionChunk(actions=answer["actions"], time_ns=observation.time_ns, signals=signals, clipped=clipped)
    return check_chunk(chunk, contract, who="the server's answer")
