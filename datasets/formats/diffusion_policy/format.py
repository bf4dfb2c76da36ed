"""Zarr replay buffers of diffusion_policy and UMI, which are read, and of diffusion_policy, which are written."""

from vla.datasets.formats.diffusion_policy.export import export_diffusion_policy
from vla.datasets.formats.diffusion_policy.source import open_diffusion_policy, recognise
from vla.datasets.formats.source import Format

DIFFUSION_POLICY = Format(
    looks="a .zarr folder or .zarr.zip file with meta/episode_ends",
    recognise=recognise,
    open=open_diffusion_policy,
    export=export_diffusion_policy,
)
