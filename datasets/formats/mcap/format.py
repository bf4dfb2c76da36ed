"""MCAP recordings of ROS 1, ROS 2, Foxglove and JSON: read, not written."""

from vla.datasets.formats.mcap.source import open_mcap, recognise
from vla.datasets.formats.mcap.topics import McapTopics
from vla.datasets.formats.source import Format

MCAP = Format(
    looks="an .mcap file, or a folder of them",
    recognise=recognise,
    open=open_mcap,
    options=McapTopics,
    extra="mcap",
)
