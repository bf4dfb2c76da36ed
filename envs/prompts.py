"""How success is said in words: sentences that a picture of the end fits, and others that it fits where it failed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vla.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Of what instructions are about, which is a ``{name}`` in all of these sentences."""

    instructions: tuple[str, ...]
    """What is to be done: "put the {block} on the {plate}"."""
    success: tuple[str, ...]
    """What is seen when it is done: "a {block} on a {plate}"."""
    failure: tuple[str, ...]
    """What may be seen else: "a {block} held", "a {block} on a {other}"."""
    others: tuple[str, ...] = ()
    """Each of these takes the place of ``{other}``, for what the thing that is meant may be mistaken for."""

    def __post_init__(self) -> None:
        for name in ("instructions", "success", "failure"):
            if not getattr(self, name):
                raise ConfigError(
                    f"prompts: {name} has no sentence; what fits a success is told from what fits a failure, so give "
                    "some of each"
                )

    def filled(self, instruction: str) -> tuple[Sequence[str], Sequence[str]]:
        """The sentences of a success and of a failure; an instruction of another form is a `ConfigError`."""
        for form in self.instructions:
            named = re.fullmatch(_pattern(form), instruction)
            if named is None:
                continue
            try:
                success = [text.format(**named.groupdict()) for text in self.success]
                failure = [
                    text.format(**named.groupdict(), other=other)
                    for text in self.failure
                    for other in (self.others if "{other}" in text else ("",))
                ]
            except (KeyError, IndexError) as error:
                raise ConfigError(f"prompts: nothing in {form!r} is called {error}; name it there") from None
            failure = [text for text in dict.fromkeys(failure) if text not in success]
            if not failure:
                raise ConfigError(
                    f"prompts: of {instruction!r} no sentence of failure is left; give one without {{other}}"
                )
            return success, failure
        raise ConfigError(
            f"prompts: the instruction {instruction!r} has none of the forms {', '.join(map(repr, self.instructions))}"
            "; add its form to instructions"
        )


def _pattern(form: str) -> str:
    """The form as a regular expression, each name a group of one word or two; a second time the same words."""
    literal, *named = re.split(r"\{(\w+)\}", form)
    found = re.escape(literal)
    for name, text in zip(named[::2], named[1::2], strict=True):
        group = f"(?P={name})" if f"<{name}>" in found else f"(?P<{name}>\\w+(?: \\w+)?)"
        found += group + re.escape(text)
    return found
