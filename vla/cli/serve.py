"""``vla serve``: serve a policy."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vla.cli.command import console, parse, show_config, write_result
from vla.deploy.limits import Limits

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla serve mypackage.policies:Mine
  vla serve runs/place/checkpoint --limits.inference-s 2 --limits.clients 8
  vla serve runs/place/checkpoint --host 0.0.0.0 --api-key-file key.txt --tls-cert cert.pem --tls-key key.pem"""

_COMPILING_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve a policy over the openpi websocket protocol, until Ctrl-C.

    It runs in a process of its own, which is ended and begun anew when it hangs or dies.
    """

    policy: Annotated[str, tyro.conf.Positional]
    """A checkpoint folder, or module:Name of a policy that needs no environment."""
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
    from contextlib import closing
    from functools import partial

    from vla.core.errors import ConfigError
    from vla.core.secret import read_api_key
    from vla.deploy.engines.policy_process import PolicyProcess
    from vla.deploy.serving.server import PolicyServer, tls_context
    from vla.policies.table import build_policy, find_policy

    if arguments.tls_key and not arguments.tls_cert:
        raise ConfigError("--tls-key is the key of a certificate; give that too, with --tls-cert")
    certificate = arguments.tls_cert
    tls = None if certificate is None else tls_context(certificate, arguments.tls_key or certificate)
    limits = arguments.limits
    if arguments.compile != "none":
        limits = replace(limits, inference_s=max(limits.inference_s, _COMPILING_S))
    make = partial(build_policy, find_policy(arguments.policy), device=arguments.device, compile=arguments.compile)
    with closing(PolicyProcess(make, slots=limits.clients, start_s=limits.start_s)) as policy:
        server = PolicyServer(
            policy,
            host=arguments.host,
            port=arguments.port,
            api_key=read_api_key(arguments.api_key_file),
            limits=limits,
            tls=tls,
            insecure=arguments.insecure,
            name=arguments.policy,
        )

        def ready(address: str) -> None:
            console().print(f"serving {arguments.policy} at {address} (Ctrl-C stops)")
            write_result(arguments.json, {"address": address, "contract": policy.contract.to_json()})

        server.serve_forever(on_ready=ready)
    return 0
