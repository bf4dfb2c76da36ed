"""What contracts of version 1 said: read by the commands that upgrade datasets and checkpoints, and by nothing else.

They had one vector ``grounding``, whose entries of unit ``image`` are the signal ``pointing`` now, and the others the
signal ``grounding``.
"""

from collections.abc import Mapping
from typing import Any

from vla.core.contract import CONTRACT_VERSION, Contract


def upgraded_contract(value: Mapping[str, Any], *, where: str) -> Contract:
    """The robot of a contract of version 1, without its policy part."""
    entries = value.get("grounding", ())
    signals = {name: [entries[i] for i in columns] for name, columns in signal_columns(value).items()}
    rest = {key: item for key, item in value.items() if key not in ("grounding", "policy")}
    return Contract.from_json({**rest, "contract_version": CONTRACT_VERSION, "signals": signals}, where=where)


def signal_columns(contract: Mapping[str, Any]) -> dict[str, list[int]]:
    """Which entries of ``grounding`` belong to each signal."""
    columns: dict[str, list[int]] = {"grounding": [], "pointing": []}
    for i, entry in enumerate(contract.get("grounding", ())):
        columns["pointing" if entry["unit"] == "image" else "grounding"].append(i)
    return {name: found for name, found in columns.items() if found}
