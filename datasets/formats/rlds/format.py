"""RLDS datasets, as Open X-Embodiment and DROID use them: read, not written."""

from vla.datasets.formats.rlds.layout import RldsKeys
from vla.datasets.formats.rlds.source import open_rlds, recognise
from vla.datasets.formats.source import Format

RLDS = Format(
    looks="a folder with features.json, dataset_info.json and .tfrecord files",
    recognise=recognise,
    open=open_rlds,
    options=RldsKeys,
)
