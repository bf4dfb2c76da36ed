"""Memory of many tasks is measured task by task, and is that of one."""

from vla.bench.envs.memory import bench_memory, peaks_bytes
from vla.bench.measure import in_fresh_process
from vla.bench.settings import EnvConfig


def test_memory_of_several_tasks_is_that_of_the_largest() -> None:
    """Each is built alone: what one leaves behind would make the second, of the same size, half as large again."""
    names = ["metaworld/box-close", "metaworld/hammer", "metaworld/reach"]
    peaks = in_fresh_process(peaks_bytes, names, 96)
    assert list(peaks) == names
    assert peaks["metaworld/box-close"] > 300e6
    assert max(peaks.values()) < 1.2 * peaks["metaworld/box-close"]


def test_no_tasks_no_rows() -> None:
    assert not list(bench_memory(EnvConfig(tasks=0), lambda text: None))
