"""HDF5's filters that this machine lacks: each packs arrays, and is a plug-in that has to be installed."""

import contextlib
from typing import Any

_PLUGIN = "pip install hdf5plugin"
_KNOWN = {
    4: ("szip", "an h5py built with libaec: conda install -c conda-forge h5py"),
    305: ("LZO", "pip install tables, and pack the file anew with ptrepack"),
    307: ("bzip2", _PLUGIN),
    32001: ("Blosc", _PLUGIN),
    32004: ("LZ4", _PLUGIN),
    32008: ("Bitshuffle", _PLUGIN),
    32013: ("ZFP", _PLUGIN),
    32015: ("Zstandard", _PLUGIN),
    32017: ("SZ", _PLUGIN),
    32018: ("FCIDECOMP", _PLUGIN),
    32024: ("SZ3", _PLUGIN),
    32026: ("Blosc2", _PLUGIN),
    32028: ("SPERR", _PLUGIN),
}
"""By their number in HDF5's registry: a name, and where the plug-in comes from."""


def missing_filters(array: Any) -> str | None:
    """What has to be installed before an array can be read; None where nothing has."""
    properties = array.id.get_create_plist()
    lacking = [
        (int(code), bytes(name).rstrip(b"\0").decode(errors="replace"))
        for code, _, _, name in map(properties.get_filter, range(properties.get_nfilters()))
        if not _available(int(code))
    ]
    if not lacking:
        return None
    code, written = lacking[0]
    name, source = _KNOWN.get(code, (written or "unknown", "its plug-in, and set HDF5_PLUGIN_PATH to its folder"))
    return f"packed with the HDF5 filter {code} ({name}), which is not installed here: {_install(source)}"


def _install(source: str) -> str:
    return source if source.startswith("pip install") else f"install {source}"


def _available(code: int) -> bool:
    from h5py import h5z

    if not h5z.filter_avail(code):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  # registers its filters with HDF5
    return bool(h5z.filter_avail(code))
