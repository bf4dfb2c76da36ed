"""LeRobot datasets: versions 2.1 and 3.0 are read, 3.0 is written."""

from vla.datasets.formats.lerobot.export import export_lerobot
from vla.datasets.formats.lerobot.source import open_lerobot, recognise
from vla.datasets.formats.source import Format

LEROBOT = Format(
    looks="a folder with meta/info.json",
    recognise=recognise,
    open=open_lerobot,
    export=export_lerobot,
    lossless={"use_videos": False},
)
