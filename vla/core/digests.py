"""Names for contents: the same files have the same digest wherever they lie."""

import hashlib
from pathlib import Path


def folder_digest(path: Path) -> str:
    """Sixteen hexadecimal digits of all files below ``path``, their names and what is in them.

    Only where it comes from (``provenance.json``: command, date) is left out: the same content made twice is the same.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "provenance.json":
            name = file.relative_to(path).as_posix()
            digest.update(f"{len(name)} {name} {file.stat().st_size} ".encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
