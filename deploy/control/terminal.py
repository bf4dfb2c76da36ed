"""Keys of a terminal, one by one, while a program does something else."""

import contextlib
import os
import re
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

Ask = Callable[[str], str]
"""Shows a prompt and gives the line that is typed."""
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO.|.", re.DOTALL)
_MOST_BYTES = 256


def split_keys(typed: str) -> list[str]:
    """The keys in what a terminal sends: an arrow is one key, as escape alone is."""
    return _KEY.findall(typed)


@contextlib.contextmanager
def listening(on_key: Callable[[str, Ask], None]) -> Iterator[bool]:
    """Hand on each key while the block runs, from a thread, if there is a terminal; gives whether there is."""
    if not sys.stdin.isatty():
        yield False
        return
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    end, ender = os.pipe()
    listener = threading.Thread(target=_listen, args=(on_key, source, end, before), name="vla-keys", daemon=True)
    tty.setcbreak(source, termios.TCSADRAIN)
    try:
        listener.start()
        yield True
    finally:
        os.write(ender, b".")
        listener.join(1.0)
        termios.tcsetattr(source, termios.TCSADRAIN, before)
        os.close(ender)
        os.close(end)


def _listen(on_key: Callable[[str, Ask], None], source: int, end: int, cooked: list[object]) -> None:
    def ask(prompt: str) -> str:
        termios.tcsetattr(source, termios.TCSADRAIN, cooked)  # type: ignore[arg-type]  # what tcgetattr gave
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline().strip()
        tty.setcbreak(source, termios.TCSADRAIN)  # the default forgets what was typed since: it may be a stop
        return line

    while True:
        ready, _, _ = select.select([source, end], [], [])
        if end in ready:
            return
        typed = os.read(source, _MOST_BYTES).decode(errors="ignore")
        if not typed:
            return  # the terminal is gone
        for key in split_keys(typed):
            on_key(key, ask)
