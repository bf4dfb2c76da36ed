"""``vla serve``: serve a policy."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vla.cli.command import console, parse, show_config, write_result
from vla.deploy.limits import Limits

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla serve mypackage.policies:Mine
  vla serve place=runs/place/checkpoint push=runs/push/checkpoint    # ws://HOST:PORT/push
  vla serve runs/place/checkpoint --limits.inference-s 2 --limits.clients 8
  vla serve runs/place/checkpoint --host 0.0.0.0 --api-key-file key.txt --tls-cert cert.pem --tls-key key.pem"""

_COMPILING_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve policies over the openpi websocket protocol, until Ctrl-C.

    Each runs in a process of its own, which is ended and begun anew when it hangs or dies. On SIGHUP what is there now
    under a policy's name, such as a newer checkpoint in the same folder, takes its place without dropping a client.
    """

    policies: Annotated[tuple[str, ...], tyro.conf.Positional]
    """A checkpoint folder, or module:Name of a policy that needs no environment; several as NAME=POLICY, each of which
    clients reach at ws://HOST:PORT/NAME, and the first without a name."""
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
    device: str = "auto"
    """Where a checkpoint computes: auto, cpu, cuda."""
    compile: Literal["none", "default", "graphs"] = "none"
    """How a checkpoint computes: as it is written, compiled by TorchInductor, or as CUDA graphs, one for each number of
    requests at once; as the first of each compiles when it comes, limits.inference-s is then at least 120."""
    limits: Limits = field(default_factory=Limits)
    json: Path | None = None
    """Write the address and the contract to this file once the server is ready."""


def main(argv: list[str]) -> int:
    """Load, warm up, serve."""
    arguments = parse(Arguments, argv, verb="serve", examples=_EXAMPLES)
    show_config("serve", arguments)
    from contextlib import ExitStack
    from functools import partial

    from vla.core.errors import ConfigError
    from vla.core.secret import read_api_key
    from vla.deploy.engines.engine import Engine
    from vla.deploy.engines.policy_process import PolicyProcess
    from vla.deploy.serving.exposure import tls_context
    from vla.deploy.serving.server import PolicyServer
    from vla.policies.table import build_policy, find_policy, version_of

    if arguments.tls_key and not arguments.tls_cert:
        raise ConfigError("--tls-key is the key of a certificate; give that too, with --tls-cert")
    certificate = arguments.tls_cert
    tls = None if certificate is None else tls_context(certificate, arguments.tls_key or certificate)
    limits = arguments.limits
    if arguments.compile != "none":
        limits = replace(limits, inference_s=max(limits.inference_s, _COMPILING_S))
    policies = _named(arguments.policies)

    def begin(name: str) -> PolicyProcess:
        policy = policies[name]
        make = partial(build_policy, find_policy(policy), device=arguments.device, compile=arguments.compile)
        version = partial(version_of, policy)
        return PolicyProcess(make, slots=limits.clients, start_s=limits.start_s, version=version)

    def renew(name: str, now: Engine) -> PolicyProcess | None:
        known = now.version if isinstance(now, PolicyProcess) else ""
        return None if known and known == version_of(policies[name]) else begin(name)

    with ExitStack() as stack:
        engines = {}
        for name in policies:
            engines[name] = begin(name)
            stack.callback(engines[name].close)
        server = PolicyServer(
            engines,
            host=arguments.host,
            port=arguments.port,
            api_key=read_api_key(arguments.api_key_file),
            limits=limits,
            tls=tls,
            insecure=arguments.insecure,
            titles=policies,
            renew=renew,
        )

        def ready(address: str) -> None:
            console().print(f"serving {', '.join(arguments.policies)} at {address} (Ctrl-C stops)")
            contracts = {name: engine.contract.to_json() for name, engine in engines.items()}
            first = next(iter(contracts.values()))
            write_result(arguments.json, {"address": address, "contract": first, "contracts": contracts})

        server.serve_forever(on_ready=ready)
    return 0


def _named(policies: Sequence[str]) -> dict[str, str]:
    """The policies by name; one alone needs none."""
    from vla.core.errors import ConfigError
    from vla.deploy.serving.server import DEFAULT, is_name

    named: dict[str, str] = {}
    for given in policies:
        name, equals, policy = given.partition("=")
        if not equals or Path(given).is_dir():
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
