"""HDF5 demonstrations of robomimic, robosuite, LIBERO, robocasa, MimicGen and Isaac Lab; robomimic's are written."""

from vla.datasets.formats.robomimic.export import export_robomimic
from vla.datasets.formats.robomimic.source import open_robomimic, recognise
from vla.datasets.formats.source import Format

ROBOMIMIC = Format(
    looks="a .hdf5 file with /data/demo_0/actions (robomimic, robosuite, LIBERO, Isaac Lab), or a folder of such files",
    recognise=recognise,
    open=open_robomimic,
    export=export_robomimic,
    orients=True,
)
