"""Other programs that tests begin."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def running(command: Sequence[Any], **settings: Any) -> Iterator[subprocess.Popen[Any]]:
    """`subprocess.Popen`, ended where the block fails: it would be waited for, and the failure never told."""
    with subprocess.Popen(command, **settings) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
