"""Pages from templates, whose policy allows their own script and style, and nothing else."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup


def read(package: str, name: str) -> str:
    """Return a text file that belongs to a package, by its path there."""
    return (files(package) / name).read_text("utf-8")


def render(template: str, **values: Any) -> str:
    """Fill a template; all values are escaped but those that are `Markup`, None is nothing."""
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: "" if value is None else value,
    )
    return environment.from_string(template).render(values)


def with_script(template: str, script: str, style: str, *, connects: bool, **values: Any) -> str:
    """Fill a template of a page that has a script and a style, and may ask its own server."""
    policy = "; ".join(
        [
            "default-src 'none'",
            *["connect-src 'self'"] * connects,
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    texts = {"policy": policy, "style": Markup(style), "script": Markup(script)}
    return render(template, **texts, **values)


def _hash(text: str) -> str:
    """Return what a Content-Security-Policy calls an inline script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
