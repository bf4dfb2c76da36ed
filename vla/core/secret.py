"""The key of a policy server: from a file or the environment, never from the command line, and never shown.

What is said on a command line stands in the list of processes, in the shell's history and in every provenance.
"""

import os
from pathlib import Path

from vla.core.errors import ConfigError

VARIABLE = "VLA_API_KEY"
TLS_VARIABLE = "VLA_TLS_CA"


def read_api_key(file: Path | None = None) -> str | None:
    """The key in ``file``, else that of ``VLA_API_KEY``, else None; `ConfigError` for one that cannot be sent."""
    if file is not None:
        try:
            return _checked(file.read_text(encoding="utf-8"), str(file))
        except UnicodeDecodeError:
            raise ConfigError(f"API key: {file} is no text; write the key alone into it") from None
        except OSError as error:
            raise ConfigError(f"API key: cannot read {file} ({error.strerror}); write the key into it") from None
    return _checked(os.environ[VARIABLE], VARIABLE) if VARIABLE in os.environ else None


def hand_on(file: Path | None, tls_ca: Path | None = None) -> None:
    """Give the key in ``file``, and ``tls_ca``, if they are named, to this process and to those that it starts."""
    if (key := read_api_key(file)) is not None:
        os.environ[VARIABLE] = key
    if tls_ca is not None:
        os.environ[TLS_VARIABLE] = str(tls_ca.absolute())


def read_tls_ca() -> Path | None:
    """The file that ``VLA_TLS_CA`` names: certificates that servers are checked against."""
    named = os.environ.get(TLS_VARIABLE)
    return Path(named) if named else None


def _checked(text: str, where: str) -> str:
    """One word of visible ASCII: it travels in a line of HTTP. No error quotes it."""
    key = text.strip()
    if not key:
        raise ConfigError(f"API key: {where} is empty; write a key into it, or leave it out to need none")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(f"API key: {where} must hold one word of visible ASCII characters; write another key")
    return key
