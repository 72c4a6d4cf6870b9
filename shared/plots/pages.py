"""What all HTML pages share: their style, and pictures inside them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

SHOWN = 0.78
"""CSS pixels to a pixel of a picture: letters of a figure are as large as those of a caption, and sharp."""


def page_template(package: str, name: str) -> Template:
    """A template of a package, in which `page.css.jinja` can be included, and `minus` and `embed` are filters."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("shared.plots", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"embed": embed, "minus": minus}
    return environment.get_template(name)


def minus(text: str) -> str:
    """The minus of print where a number is negative."""
    return re.sub(r"(?<![^\s\[(])-(?=\d)", "−", text)


def embed(path: Path) -> tuple[str, int]:
    """A PNG as the address of its own content, and how wide it is shown at most, in CSS pixels."""
    content = path.read_bytes()
    width = int.from_bytes(content[16:20], "big")  # of the PNG's first chunk
    return f"data:image/png;base64,{base64.b64encode(content).decode()}", round(width * SHOWN)
