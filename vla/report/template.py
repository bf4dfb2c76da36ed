"""How pages are made of their templates: escaped, and strict about names."""

from pathlib import Path
from typing import Any


def render(template: str, view: dict[str, Any], **functions: Any) -> str:
    """Fill a template of this folder; ``functions`` are what it may call."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(functions)
    return environment.get_template(template).render(**view)
