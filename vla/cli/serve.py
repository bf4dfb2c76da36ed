"""``vla serve``: serve policies, or ask again what was served."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vla.cli.command import Cluster, console, parse, show_config, write_result
from vla.core.errors import ConfigError, ServeError
from vla.deploy.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from ssl import SSLContext

    from vla.core.types import Policy
    from vla.deploy.engines.engine import Engine
    from vla.deploy.engines.policy_process import PolicyProcess
    from vla.deploy.recording.shadow import Shadow

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla serve mypackage.policies:Mine
  vla serve place=runs/place/checkpoint new=runs/new/checkpoint
  vla serve runs/place/checkpoint --record runs/served
  vla serve --replay runs/served
  vla serve runs/place/checkpoint --shadow runs/new/checkpoint
  vla serve runs/place/checkpoint --limits.inference-s 2 --limits.clients 8
  vla serve runs/place/checkpoint --host 0.0.0.0 --api-key-file key.txt --tls-cert cert.pem --tls-key key.pem"""

_COMPILING_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve policies over the openpi websocket protocol, until Ctrl-C.

    Each runs in a process of its own, which is ended and begun anew when it hangs or dies. On SIGHUP what is there now
    under a policy's name, such as a newer checkpoint in the same folder, takes its place without dropping a client.
    """

    policies: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """A checkpoint folder, or module:Name of a policy that needs no environment, with settings behind it as in
    hf-pi0,folder=models/pi0,contract=pi0.yaml; several as NAME=POLICY, each of which clients reach at
    ws://HOST:PORT/NAME, and the first without a name."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need an API key and TLS."""
    port: int = 8000
    api_key_file: Path | None = None
    """File with the key that clients must send; by default that in VLA_API_KEY, if it is set."""
    tls_cert: Path | None = None
    """Certificate of this server in PEM, the chain behind it; clients then say wss://."""
    tls_key: Path | None = None
    """Its key, in PEM; by default in the same file."""
    insecure: bool = False
    """Let other machines in without key or TLS, as on a network that nobody else is on."""
    engine: Literal["process", "ray-serve"] = "process"
    """What runs a policy: a process on this machine, or replicas of Ray Serve wherever the cluster has room."""
    replicas: int = 1
    """With ray-serve, of each policy; each takes a CPU, and with --device cuda a GPU."""
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = field(default_factory=Cluster)
    device: str = "auto"
    """Where a checkpoint computes: auto, cpu, cuda."""
    compile: Literal["none", "default", "graphs"] = "none"
    """How a checkpoint computes: as it is written, compiled by TorchInductor, or as CUDA graphs, one for each number of
    requests at once; as the first of each compiles when it comes, limits.inference-s is then at least 120."""
    record: Path | None = None
    """Keep what is asked and answered in this folder, in one of its own for each policy."""
    record_mb: float = 1024.0
    """Most that each of them holds, in megabytes; the oldest goes first."""
    replay: Path | None = None
    """Serve nothing: ask what is kept in this folder again, of the policy that answered or of another, and say where
    the answers are not the same bits, with exit code 1 if any is not."""
    shadow: str | None = None
    """Another policy that is asked what the first one is, beside it; how far apart they are is counted and said."""
    limits: Limits = field(default_factory=Limits)
    json: Path | None = None
    """Write the address and the contract to this file once the server is ready."""


def main(argv: list[str]) -> int:
    """Load, warm up, serve."""
    arguments = parse(Arguments, argv, verb="serve", examples=_EXAMPLES)
    show_config("serve", arguments)
    if arguments.replicas < 1 or (arguments.replicas > 1 and arguments.engine == "process"):
        raise ConfigError("--replicas: expected at least 1, and more than that with --engine ray-serve alone")
    if arguments.replay is not None:
        return _replay(arguments, arguments.replay)
    policies = _named(arguments.policies)
    limits = _limits(arguments)
    from contextlib import ExitStack

    from prometheus_client import CollectorRegistry

    from vla.core.secret import read_api_key
    from vla.deploy.engines.engine import Engine
    from vla.deploy.engines.policy_process import PolicyProcess
    from vla.deploy.recording.record import Recorder
    from vla.deploy.recording.shadow import Shadow, require_comparable
    from vla.deploy.serving.served import Watcher
    from vla.deploy.serving.server import PolicyServer
    from vla.policies.table import version_of

    first, shadows = next(iter(policies)), list[Shadow]()

    def renew(name: str, now: Engine) -> PolicyProcess | None:
        if not isinstance(now, PolicyProcess):
            raise ServeError("replicas are not exchanged while they serve; start another server beside this one")
        known = now.version
        return None if known and known == version_of(policies[name]) else _begin(arguments, policies[name])

    with ExitStack() as stack:
        engines = {name: _engines(arguments, name, policy, stack) for name, policy in policies.items()}
        shadow = stack.enter_context(closing(_begin(arguments, arguments.shadow))) if arguments.shadow else None
        if shadow is not None:
            require_comparable(engines[first][0], shadow)

        def watch(name: str, registry: CollectorRegistry) -> list[Watcher]:
            watchers: list[Watcher] = []
            if arguments.record is not None:
                about: dict[str, Any] = {
                    "policy": policies[name],
                    "contract": engines[name][0].contract,
                    "slots": limits.clients,
                }
                most_bytes = int(arguments.record_mb * 1e6)
                watchers.append(Recorder(arguments.record / name, most_bytes=most_bytes, **about))
            if shadow is not None and name == first:
                shadows.append(Shadow(shadow, name, limits, registry))
                watchers.append(shadows[-1])
            return watchers

        server = PolicyServer(
            engines,
            host=arguments.host,
            port=arguments.port,
            api_key=read_api_key(arguments.api_key_file),
            limits=limits,
            tls=_tls(arguments),
            insecure=arguments.insecure,
            titles=policies,
            renew=renew,
            watch=watch,
        )

        def ready(address: str) -> None:
            console().print(f"serving {', '.join(arguments.policies)} at {address} (Ctrl-C stops)")
            contracts = {name: replicas[0].contract.to_json() for name, replicas in engines.items()}
            write_result(arguments.json, {"address": address, "contract": contracts[first], "contracts": contracts})

        server.serve_forever(on_ready=ready)
        for each in shadows:
            console().print(_apart(each, arguments.shadow or ""))
    return 0


def _engines(arguments: Arguments, name: str, policy: str, stack: "ExitStack") -> "Sequence[Engine]":
    """What runs one of the policies; the stack closes it."""
    if arguments.engine == "process":
        return [stack.enter_context(closing(_begin(arguments, policy)))]
    from vla.deploy.engines.ray_serve import RayReplica, start_serve

    start_serve()
    make, version = _make(arguments, policy)
    settings: dict[str, Any] = {"start_s": arguments.limits.start_s, "version": version}
    settings["gpus"] = 1.0 if arguments.device == "cuda" else 0.0
    names = [f"vla-{name}-{os.getpid()}-{number}" for number in range(arguments.replicas)]
    return [stack.enter_context(closing(RayReplica(each, make, **settings))) for each in names]


def _begin(arguments: Arguments, policy: str, slots: int | None = None) -> "PolicyProcess":
    """A policy in a process of its own."""
    from vla.deploy.engines.policy_process import PolicyProcess

    limits, (make, version) = arguments.limits, _make(arguments, policy)
    return PolicyProcess(make, slots=slots or limits.clients, start_s=limits.start_s, version=version)


def _make(arguments: Arguments, policy: str) -> "tuple[Callable[[], Policy], Callable[[], str]]":
    """What builds a policy where it is to run, and what tells its version there."""
    from functools import partial

    from vla.policies.table import build_policy, find_policy, version_of

    make = partial(build_policy, find_policy(policy), device=arguments.device, compile=arguments.compile)
    return make, partial(version_of, policy)


def _limits(arguments: Arguments) -> Limits:
    limits = arguments.limits
    if arguments.compile != "none":
        return replace(limits, inference_s=max(limits.inference_s, _COMPILING_S))
    return limits


def _tls(arguments: Arguments) -> "SSLContext | None":
    from vla.deploy.serving.exposure import tls_context

    certificate = arguments.tls_cert
    if arguments.tls_key and not certificate:
        raise ConfigError("--tls-key is the key of a certificate; give that too, with --tls-cert")
    return None if certificate is None else tls_context(certificate, arguments.tls_key or certificate)


def _replay(arguments: Arguments, folder: Path) -> int:
    """Ask again what is kept, and say what differs."""
    import asyncio
    from dataclasses import asdict

    from vla.core.contract import require_match
    from vla.deploy.recording.replay import read_about, records_in, replay

    results, policy = {}, arguments.policies[0] if arguments.policies else None
    for name, place in records_in(folder).items():
        about = read_about(place)
        with closing(_begin(arguments, policy or about.policy, about.slots)) as engine:
            fix = "Replay with a policy of the robot that it was recorded with"
            require_match(engine.contract, about.contract, who="the policy", whom=f"the record {place}", fix=fix)
            found = asyncio.run(replay(place, engine, about.slots))
            same = engine.digest in found.digests
        console().print(f"{name}: {found.said(policy or about.policy, same)}")
        results[name] = {**asdict(found), "digests": sorted(found.digests), "same_policy": same}
    write_result(arguments.json, results)
    return 1 if any(result["differing"] for result in results.values()) else 0


def _apart(shadow: "Shadow", policy: str) -> Any:
    """How far apart two policies were, as a table."""
    from rich.table import Table

    title = f"{policy} beside it: {shadow.answers} answers compared, {shadow.dropped} dropped, {shadow.failed} failed"
    table = Table("dimension", "largest", "mean", "unit", title=title, title_justify="left")
    for apart in shadow.report():
        table.add_row(apart.name, f"{apart.largest:.3g}", f"{apart.mean:.3g}", apart.unit)
    return table


def _named(policies: Sequence[str]) -> dict[str, str]:
    """The policies by name; one alone needs none."""
    from vla.deploy.serving.server import DEFAULT, is_name

    named: dict[str, str] = {}
    for given in policies:
        name, equals, policy = given.partition("=")
        if not equals or "," in name or Path(given).is_dir():  # what stands behind a comma is a setting of the policy
            name, policy = DEFAULT, given
            if len(policies) > 1:
                raise ConfigError(f"serve {given}: several policies have names, as in place={given}")
        if not is_name(name) or not policy:
            raise ConfigError(f"serve {given}: expected NAME=POLICY with a name of letters, digits, '-' and '_'")
        if name in named:
            raise ConfigError(f"serve {given}: there is a policy of that name already; choose another")
        named[name] = policy
    if not named:
        raise ConfigError("which policy? give a checkpoint folder, or several as NAME=POLICY")
    return named
