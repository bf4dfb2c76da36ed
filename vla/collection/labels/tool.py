"""Where the tool is at each step: said by the state, computed from the robot's description, or a posture alone.

A simulator is not asked: a description (MJCF) is the robot's geometry, which makers publish for real arms.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vla.collection.labels.settings import LabelConfig
from vla.core.contract import Dimension
from vla.core.errors import ConfigError
from vla.datasets.dataset import Dataset

TOOLS = ("tool", "tcp", "grip_site", "grip", "hand", "eef", "ee", "end_effector", "attachment_site")
"""What a tool is called where nobody says so, the surest name first."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the tool is at each step of a dataset."""

    dimensions: tuple[Dimension, ...]
    """Names (``x`` or that of a joint), units, and the least and greatest of the dataset, a little widened."""
    rows: Float64[np.ndarray, "t k"]
    metric: bool
    """Whether they are positions, in m, and not angles of joints."""
    source: str
    """Where they come from, for people."""

    @property
    def travel(self) -> float:
        """The diagonal of all that was reached, in the unit of the rows."""
        return float(np.linalg.norm(np.ptp(self.rows, axis=0))) if len(self.rows) else 0.0


def tool_places(dataset: Dataset, config: LabelConfig) -> Places:
    """From the first that there is: three dimensions of the state, a description, all of the state but the gripper."""
    contract = dataset.contract
    if config.description is None and (columns := _said(contract.state, config.tool)) is not None:
        found = list(columns.values())
        prefix = contract.state[found[0]].name.removesuffix("_x")
        return _places("xyz", ("m",) * 3, dataset.state[:, found], f"{prefix}_x, _y, _z of the state")
    described = _description(dataset, config)
    if described is not None:
        xml, source = described
        rows, site = _forward(xml, contract.state, np.asarray(dataset.state, np.float64), config.tool, source)
        return _places("xyz", ("m",) * 3, rows, f"{site} of {source}")
    if config.tool:
        known = ", ".join(d.name for d in contract.state)
        raise ConfigError(
            f"label: tool={config.tool!r}: expected {config.tool}_x, _y and _z in m among the state ({known}), "
            "or a description that has it; give --description ROBOT.xml"
        )
    kept = [i for i, d in enumerate(contract.state) if d.name != contract.gripper]
    if not kept:
        raise ConfigError(f"label: dataset {dataset.url} has no state but its gripper: nothing says where the tool is")
    chosen = [contract.state[i] for i in kept]
    source = "the state itself, since no description of the robot is known,"
    rows = dataset.state[:, kept]
    return _places([d.name for d in chosen], [d.unit for d in chosen], rows, source, metric=False)


def _places(names: Sequence[str], units: Sequence[str], rows: np.ndarray, source: str, metric: bool = True) -> Places:
    rows = np.asarray(rows, np.float64)
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin = np.maximum(0.05 * (high - low), 1e-3)
    dimensions = tuple(
        Dimension(name=name, unit=unit, low=round(float(a), 4), high=round(float(b), 4))
        for name, unit, a, b in zip(names, units, low - margin, high + margin, strict=True)
    )
    return Places(dimensions=dimensions, rows=rows, metric=metric, source=source)


def _said(state: Sequence[Dimension], tool: str) -> dict[str, int] | None:
    """The columns of the x, y and z of a tool, where the state has exactly one that can be meant."""
    index = {d.name: i for i, d in enumerate(state) if d.unit == "m"}
    prefixes = [n[:-2] for n in index if n.endswith("_x") and {n[:-1] + "y", n[:-1] + "z"} <= index.keys()]
    if tool:
        chosen = [prefix for prefix in prefixes if prefix == tool]
    else:
        chosen = [prefix for name in TOOLS for prefix in prefixes if prefix == name]
    return {axis: index[f"{chosen[0]}_{axis}"] for axis in "xyz"} if chosen else None


def _tabletop() -> str:
    from vla.envs.tabletop.scene.mjcf import Scene, build_mjcf

    return build_mjcf(Scene())


DESCRIPTIONS: Mapping[str, Callable[[], str]] = {"tabletop-panda": _tabletop}
"""MJCF of robots that come with vla, by the name in their contract."""


def _description(dataset: Dataset, config: LabelConfig) -> tuple[str, str] | None:
    """MJCF, and what to call it: a file, what came with the recording, or what comes with vla."""
    if config.description is not None:
        try:
            return config.description.read_text(encoding="utf-8"), str(config.description)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"label: description {config.description} cannot be read: {error}") from None
    if len(dataset.episodes) and (model := dataset.read_rows(0).model):
        return model, "the model that was recorded"
    if (make := DESCRIPTIONS.get(dataset.contract.robot)) is not None:
        return make(), f"the description of {dataset.contract.robot}"
    return None


def _forward(
    xml: str, state: Sequence[Dimension], rows: Float64[np.ndarray, "t s"], tool: str, source: str
) -> tuple[Float64[np.ndarray, "t 3"], str]:
    """Positions of the tool in m at all states, in the frame of the description's world; and the name of its site."""
    import mujoco

    try:
        model = mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        raise ConfigError(f"label: {source} is no MJCF: {' '.join(str(error).split())[:300]}") from None
    joints = {model.joint(i).name: int(model.joint(i).qposadr[0]) for i in range(model.njnt)}
    turns = [(i, d.name) for i, d in enumerate(state) if d.unit == "rad"]
    addresses = _addresses([name for _, name in turns], joints, source)
    sites = {model.site(i).name: i for i in range(model.nsite)}
    site = _tool_site(tool, sites, source)
    data = mujoco.MjData(model)
    columns, found = [i for i, _ in turns], np.empty((len(rows), 3))
    for row, angles in enumerate(rows[:, columns]):
        data.qpos[addresses] = angles
        mujoco.mj_kinematics(model, data)
        found[row] = data.site_xpos[sites[site]]
    return found, site


def _addresses(names: Sequence[str], joints: Mapping[str, int], source: str) -> list[int]:
    """Of the joints that are called so, all with one prefix (``robot0_joint1``)."""
    suffix = names[0] if names else ""
    prefixes = [joint.removesuffix(suffix) for joint in joints if names and joint.endswith(suffix)]
    fits = [prefix for prefix in prefixes if all(prefix + name in joints for name in names)]
    if len(fits) != 1:
        raise ConfigError(
            f"label: {source}: expected its joints to be called as the dimensions of the state in rad, "
            f"{', '.join(names) or 'of which there are none'}, got {', '.join(list(joints)[:20])}; call these as it "
            "does "
            "where the data is imported (vla data convert --describe)"
        )
    return [joints[fits[0] + name] for name in names]


def _tool_site(tool: str, sites: Mapping[str, int], source: str) -> str:
    for name in (tool,) if tool else TOOLS:
        for site in sites:
            if site == name or site.endswith(f"_{name}"):
                return site
    what = tool or "that is called as tools are"
    raise ConfigError(f"label: {source} has no site {what}, only {list(sites)[:20]}; say --tool SITE")
