"""``vla serve``: serve a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, show_config, write_result

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla serve mypackage.policies:Mine
  vla eval --server ws://127.0.0.1:8000 --episodes 20"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve a policy over the openpi websocket protocol, until Ctrl-C."""

    policy: Annotated[str, tyro.conf.Positional]
    """A checkpoint folder, or module:Name of a policy that needs no environment."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need an API key."""
    port: int = 8000
    api_key: str | None = None
    """What clients must send as ``Authorization: Api-Key …``."""
    device: str = "auto"
    """Where a checkpoint computes: auto, cpu, cuda."""
    max_clients: int = 8
    """Connections at a time; their requests share inferences."""
    json: Path | None = None
    """Write the address and the contract to this file once the server is ready."""


def main(argv: list[str]) -> int:
    """Load, warm up, serve."""
    arguments = parse(Arguments, argv, verb="serve", examples=_EXAMPLES)
    show_config("serve", arguments)
    from vla.deploy.server import PolicyServer
    from vla.policies.table import build_policy, find_policy

    policy = build_policy(find_policy(arguments.policy), device=arguments.device)
    server = PolicyServer(
        policy,
        host=arguments.host,
        port=arguments.port,
        api_key=arguments.api_key,
        max_clients=arguments.max_clients,
        name=arguments.policy,
    )

    def ready(address: str) -> None:
        console().print(f"serving {arguments.policy} at {address} (Ctrl-C stops)")
        write_result(arguments.json, {"address": address, "contract": policy.contract.to_json()})

    server.serve_forever(on_ready=ready)
    return 0
