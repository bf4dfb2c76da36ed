"""A policy in a replica of Ray Serve, wherever the cluster has room, behind this server's own websockets.

Each replica is an application of its own with a handle of its own: requests of one slot always reach the same policy,
which may keep what it likes of an episode. Serve's HTTP proxy is not used: it would add milliseconds (7 to 9 a request
of 300 KB, where a handle takes 4), and speaks no protocol of openpi's.
"""

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from vla.core.contract import Contract
from vla.core.errors import ConfigError, ContractError, VlaError
from vla.core.machine.packages import require_package
from vla.core.machine.ray_cluster import start_ray
from vla.core.machine.stopping import handlers_kept
from vla.core.types import ActionChunk, Observation, Policy
from vla.deploy.engines.engine import Chunks, OnAnswered, PolicyDiedError, PolicyFailedError, chunks_of

_log = logging.getLogger(__name__)
_END_S = 2.0
_Said = tuple[str, Any]
"""What a replica answers: ``done`` and chunks, or ``refused``, ``failed`` or ``unable`` and a line."""


def start_serve() -> None:
    """Ray, started or joined, with Serve and without its proxy."""
    require_package("starlette", "engine ray-serve")
    import ray

    with handlers_kept():
        if not ray.is_initialized():
            start_ray()
        with warnings.catch_warnings(action="ignore"):  # of what Serve itself is built with
            from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})


class RayReplica:
    """Implements `vla.deploy.engines.engine.Engine`; `start_serve` comes before.

    ``make`` must be found by importing a module on the machine that the replica gets.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Policy],
        *,
        start_s: float,
        version: Callable[[], str] = str,
        gpus: float = 0.0,
    ) -> None:
        self._name, self._make, self._version, self._start_s, self._gpus = name, make, version, start_s, gpus
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin()

    @property
    def contract(self) -> Contract:
        """That of the policy in the replica."""
        return self._contract

    @property
    def digest(self) -> str:
        """Of its contract and its version."""
        return f"{self._contract.digest()} {self.version}".strip()

    def act(self, observations: Sequence[Observation | None], resets: Sequence[int], answered: OnAnswered) -> None:
        """Through the handle, which awaits on a thread of Ray's own."""
        task = asyncio.get_running_loop().create_task(self._ask(observations, tuple(resets), answered))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def kill(self) -> bool:
        """Have Serve end the replica."""
        threading.Thread(target=self._end, name="vla-replica-end", daemon=True).start()
        return True

    async def restart(self) -> None:
        """Another replica in its place."""
        await asyncio.to_thread(self._restart)

    def close(self) -> None:
        """End the replica; harmless a second time."""
        if not self._closed:
            self._closed = True
            self._end()

    async def _ask(
        self, observations: Sequence[Observation | None], resets: tuple[int, ...], answered: OnAnswered
    ) -> None:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        live = {slot: seen for slot, seen in enumerate(observations) if seen is not None}
        try:
            said: _Said = await self._handle.act.remote(len(observations), live, resets)
        except (RayError, RayServeException) as error:
            answered(PolicyDiedError(f"the replica {self._name} is gone ({type(error).__name__})"))
        else:
            answered(_chunks(said))

    def _restart(self) -> None:
        if self._closed:
            raise PolicyDiedError("the policy is closed")
        self._end()
        before = self._contract
        self._begin()
        if self._contract.digest() != before.digest():
            raise ContractError("the policy came back with another contract; start the server anew")

    def _begin(self) -> None:
        """Deploy it and hear its contract, within the time for that."""
        from ray import serve

        deployment: Any = serve.deployment(
            _Replica,
            name="policy",
            num_replicas=1,
            max_ongoing_requests=1,
            graceful_shutdown_timeout_s=_END_S,
            ray_actor_options={"num_cpus": 1, "num_gpus": self._gpus},
        )
        application = deployment.bind(self._make, self._version)
        found: dict[str, Any] = {}

        def run() -> None:
            try:
                found["handle"] = serve.run(application, name=self._name, route_prefix=None)
                found["said"] = found["handle"].about.remote().result(timeout_s=self._start_s)
            except Exception as error:  # whatever Serve makes of a constructor that fails
                found["error"] = error

        thread = threading.Thread(target=run, name="vla-replica", daemon=True)
        thread.start()
        thread.join(self._start_s)
        if "said" not in found:
            why = found.get("error") or f"not within {self._start_s:g} s; has the cluster a CPU for it?"
            self._end()
            raise PolicyDiedError(f"the replica {self._name} did not start: {' '.join(str(why).split())[:300]}")
        kind, said = found["said"]
        if kind != "done":
            self._end()
            raise ConfigError(said)
        self._handle = found["handle"]
        self._contract: Contract = said[0]
        self.version: str = said[1]

    def _end(self) -> None:
        from ray import serve

        try:
            serve.delete(self._name, _blocking=True)
        except Exception as error:  # Serve itself may be gone
            _log.info("the replica %s was not deleted: %s", self._name, error)


class _Replica:
    """What Serve runs."""

    def __init__(self, make: Callable[[], Policy], version: Callable[[], str]) -> None:
        self._policy: Policy | None = None
        self._about: _Said
        try:
            said = version()
            self._policy = make()
            self._about = "done", (self._policy.contract, said)
        except VlaError as error:
            self._about = "unable", str(error)

    def about(self) -> _Said:
        """Contract and version of the policy, or why there is none."""
        return self._about

    def act(self, slots: int, seen: dict[int, Observation], resets: tuple[int, ...]) -> _Said:
        """Chunks, by slot."""
        assert self._policy is not None, "a replica without a policy is not asked"
        return chunks_of(self._policy, [seen.get(slot) for slot in range(slots)], resets)


def _chunks(said: _Said) -> Chunks | VlaError:
    kind, value = said
    if kind == "refused":
        return ContractError(value)
    if kind == "failed":
        return PolicyFailedError(value)
    chunks: Sequence[ActionChunk | None] = value
    return chunks
