"""Being asked to stop: Ctrl-C, ``kill`` and a closed terminal are one request, told apart by the exit code alone."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """One of `REQUESTS` arrived."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(*([text] if text else []))
        self.number = number


def interrupt(number: int) -> None:
    """Raise `Interrupted`, so that whatever cleans up after Ctrl-C does so after the others."""
    raise Interrupted(number)


@contextmanager
def requests_go_to(handler: Callable[[int], None]) -> Iterator[None]:
    """Call ``handler`` with the number of each request; those that are ignored, as under nohup, stay ignored.

    Only the main thread hears of signals; in others this does nothing.
    """
    with handlers_kept():
        if threading.current_thread() is threading.main_thread():
            for number in REQUESTS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, lambda number, frame: handler(number))
        yield


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put back what handles the requests: Ray, for one, takes SIGTERM for itself when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in REQUESTS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def left_to_parent() -> Iterator[None]:
    """Processes that are started meanwhile do not hear of requests, which may go to a group: we decide for them."""
    resource_tracker.ensure_running()  # or it starts now, and unblocks what is blocked
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def exit_code(error: KeyboardInterrupt) -> int:
    """As shells have it, 128 and the number of the signal that ``error`` comes from: Ctrl-C where none is named."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Interrupted):
            return 128 + cause.number
        cause = cause.__cause__ or cause.__context__
    return 128 + signal.SIGINT
