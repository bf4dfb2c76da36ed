"""``vla serve``: serve a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vla.cli.command import console, parse, show_config, write_result

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla eval --server ws://127.0.0.1:8000 --episodes 20
  vla serve mypackage.policies:Mine
  vla serve runs/place/checkpoint --host 0.0.0.0 --api-key-file key.txt"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve a policy over the openpi websocket protocol, until Ctrl-C."""

    policy: Annotated[str, tyro.conf.Positional]
    """A checkpoint folder, or module:Name of a policy that needs no environment."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need an API key."""
    port: int = 8000
    api_key_file: Path | None = None
    """File with the key that clients must send; by default that in VLA_API_KEY, if it is set."""
    device: str = "auto"
    """Where a checkpoint computes: auto, cpu, cuda."""
    compile: Literal["none", "default", "graphs"] = "none"
    """How a checkpoint computes: as it is written, compiled by TorchInductor, or as CUDA graphs, one for each number of
    requests at once."""
    max_clients: int = 64
    """Connections at a time; their requests share inferences. An evaluation takes one for each episode at a time."""
    json: Path | None = None
    """Write the address and the contract to this file once the server is ready."""


def main(argv: list[str]) -> int:
    """Load, warm up, serve."""
    arguments = parse(Arguments, argv, verb="serve", examples=_EXAMPLES)
    show_config("serve", arguments)
    from vla.core.secret import read_api_key
    from vla.deploy.server import PolicyServer
    from vla.policies.table import build_policy, find_policy

    policy = build_policy(find_policy(arguments.policy), device=arguments.device, compile=arguments.compile)
    server = PolicyServer(
        policy,
        host=arguments.host,
        port=arguments.port,
        api_key=read_api_key(arguments.api_key_file),
        max_clients=arguments.max_clients,
        name=arguments.policy,
    )

    def ready(address: str) -> None:
        console().print(f"serving {arguments.policy} at {address} (Ctrl-C stops)")
        write_result(arguments.json, {"address": address, "contract": policy.contract.to_json()})

    server.serve_forever(on_ready=ready)
    return 0
