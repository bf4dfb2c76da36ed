"""``vla serve``: serve a policy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vla.cli.command import console, parse, show_config, write_result

_EXAMPLES = """  vla serve runs/place/checkpoint --port 8000
  vla eval --server ws://127.0.0.1:8000 --episodes 20"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Serve a checkpoint over the openpi websocket protocol, until Ctrl-C."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of the checkpoint."""
    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need an API key."""
    port: int = 8000
    api_key: str | None = None
    """What clients must send as ``Authorization: Api-Key …``."""
    max_clients: int = 8
    """Connections at a time; their requests share inferences."""
    json: Path | None = None
    """Write the address and the contract to this file once the server is ready."""


def main(argv: list[str]) -> int:
    """Load, warm up, serve."""
    arguments = parse(Arguments, argv, verb="serve", examples=_EXAMPLES)
    show_config("serve", arguments)
    from vla.deploy.server import PolicyServer
    from vla.policies.learned import LearnedPolicy

    policy = LearnedPolicy(arguments.checkpoint)
    server = PolicyServer(
        policy,
        host=arguments.host,
        port=arguments.port,
        api_key=arguments.api_key,
        max_clients=arguments.max_clients,
        name=str(arguments.checkpoint),
    )

    def ready(address: str) -> None:
        console().print(f"serving {arguments.checkpoint} at {address} (Ctrl-C stops)")
        write_result(arguments.json, {"address": address, "contract": policy.contract.to_json()})

    server.serve_forever(on_ready=ready)
    return 0
