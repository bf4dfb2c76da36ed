"""Ray: one of our own on this machine, or a cluster that is there, as the user says."""

import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from vla.core.errors import VlaError
from vla.core.machine.packages import require_package
from vla.core.machine.places import free_shared_memory, use_writable_folders

ADDRESS = "RAY_ADDRESS"
"""Ray's own variable: HOST:PORT, ray://HOST:PORT, ``auto``, or ``local`` for a Ray of our own, which is the default."""
OBJECT_STORE, LEAST_OBJECT_STORE = 200 * 2**20, 80 * 2**20
_CONNECT_S = 5.0
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}


class RayError(VlaError):
    """Ray cannot be started or joined here."""


def start_ray() -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start a local Ray with this process's CPUs; `RayError` if not.

    Another cluster on this machine is joined only if it is asked for.
    """
    check_ray()
    address = _address()
    local = address == "local"
    _prepare(local)
    import ray

    where = "Ray cannot be started" if local else f"Ray at {address} cannot be joined"
    try:
        _start(ray) if local else _join(ray, address)
    except RayError:
        raise
    except (Exception, SystemExit) as error:  # Ray raises whatever its services and the system lead to
        reason = " ".join(str(error).split()) or type(error).__name__
        fix = "" if local else f"; unset {ADDRESS}, or give --address local, for a Ray of your own"
        raise RayError(f"{where}: {reason}{fix}") from error


def check_ray() -> None:
    """`VlaError` where Ray is not installed, or nobody listens at ``RAY_ADDRESS``: at once, and nothing is started."""
    require_package("ray", "engine ray")
    if _address() != "local":
        _require_listener(_address())


def _address() -> str:
    return os.environ.get(ADDRESS, "").strip() or "local"


def _prepare(local: bool) -> None:
    """The environment that Ray reads while it is imported."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    if local:
        use_writable_folders()
        os.environ.setdefault("RAY_worker_niceness", "0")  # its default of 15 lets any other process go first
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # by default it is a file in the home folder
    elif "RAY_AUTH_MODE" not in os.environ and _has_token():  # Ray itself looks only where it is asked for auto
        os.environ["RAY_AUTH_MODE"] = "token"


def _start(ray: Any) -> None:
    store: dict[str, Any] = {"object_store_memory": OBJECT_STORE}
    if free_shared_memory() < 1.1 * OBJECT_STORE:  # containers have 64 MB, less than Ray takes
        os.environ["RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"] = "1"
        store = {"object_store_memory": LEAST_OBJECT_STORE, "_plasma_directory": os.environ.get("TMPDIR", "/tmp")}
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        **store,
        **_QUIET,
    )


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, **_QUIET)
    except ConnectionError as error:
        if address == "auto" and "any running" in str(error):
            raise
        raise RayError(
            f"Ray at {address} cannot be joined: it answers, and not as Ray {ray.__version__} with this token does "
            f"({' '.join(str(error).split())}); check the port, the version there, and RAY_AUTH_TOKEN"
        ) from error


def _require_listener(address: str) -> None:
    """Ray itself tries for minutes before it says that nobody is there."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        raise RayError(f"Ray address {address!r}: expected HOST:PORT of its head, ray://HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise RayError(
            f"no Ray at {address}: {reason}; start one there (ray start --head), "
            f"or unset {ADDRESS} or give --address local for one of your own"
        ) from error


def _has_token() -> bool:
    try:
        default = Path.home() / ".ray" / "auth_token"
    except RuntimeError:
        return "RAY_AUTH_TOKEN" in os.environ
    return "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ or default.is_file()
