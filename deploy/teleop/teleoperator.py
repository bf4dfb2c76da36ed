"""What a person who drives is to the control loop: a policy that answers chunks of one step."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Keyed(Protocol):
    """A teleoperator that is moved by keys: it gets those that mean nothing to the session."""

    @property
    def help(self) -> str:
        """What its keys do, in a line or a few."""

    def press(self, key: str) -> None:
        """One key, as often as the terminal repeats it; from any thread."""
