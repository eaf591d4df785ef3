"""Pages that a browser opens from a folder: one file each, which loads nothing and runs nothing but its own script.

A policy in the page's head (CSP) allows its own style and script, by their hashes, and pictures inside the page: no
request leaves it, and text that was meant as text cannot run. Templates escape everything. What a page was made of
stands in its head, so that one that is up to date is left alone. ``tests/bundle/results/test_html.py`` holds it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from bundle.errors import ExistsError
from bundle.io.names import printable
from bundle.io.whole import whole_file
from bundle.provenance import bundle_name, bundle_version

PAGES = Path(__file__).resolve().parent / "pages"
"""Templates, styles and scripts."""
HEAD_BYTES = 64 * 1024
"""Of a page, in which its head lies: the style is 6 KB, a thumbnail 3 KB."""
MADE_OF = re.compile(r'<meta name="made-of" content="([0-9a-f]{64})">')
THUMBNAIL = re.compile(r'<link rel="icon" href="(data:image/png;base64,[A-Za-z0-9+/=]+)">')
POLICY = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)


def write_html(template: str, scripts: Sequence[str], path: Path, **values: Any) -> None:
    """Write a page; an earlier one is replaced, and no other file.

    Args:
        template: its name in ``PAGES``.
        scripts: names of the scripts in ``PAGES``, in their order.
        path: the page.
        values: what the template asks for; ``made_of`` is the page's fingerprint, see :func:`fingerprint`.

    Raises:
        ExistsError: when a file that is no page of this bundle is in its place.
        WriteError: when it cannot be written.
    """
    if os.path.lexists(path) and not page_head(path)[0]:
        raise ExistsError(path, wanted="a free name, or a page of this bundle, is wanted")
    style = _asset("page.css")
    script = "".join(_asset(name) for name in scripts)
    page = (
        _environment()
        .get_template(template)
        .render(
            policy=POLICY.format(style=_hash(style), script=_hash(script)),
            generator=f"{bundle_name()} {bundle_version()}",
            # Markup: both are files of this bundle, and their hashes are taken over what stands between the tags.
            style=Markup(style),
            script=Markup(script),
            **values,
        )
    )
    with whole_file(path, overwrite=True) as unfinished:
        unfinished.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def fingerprint(*parts: Any) -> str:
    """Return a hash of what a page is made of, the templates and the bundle's version included."""
    files = [_asset(path.name) for path in sorted(PAGES.iterdir()) if path.is_file()]
    content = json.dumps([bundle_version(), files, parts], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def page_head(path: Path) -> tuple[str, str]:
    """Return the fingerprint of a page and its thumbnail's address; empty where there is none."""
    if not path.is_file():
        return "", ""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES).decode("utf-8", "replace")
    found = [pattern.search(head) for pattern in (MADE_OF, THUMBNAIL)]
    made_of, thumbnail = ("" if match is None else unescape(match[1]) for match in found)
    return made_of, thumbnail


def href(path: str) -> str:
    """Return the address of a file by its path, relative to the page: no name can be taken for a scheme or a query."""
    return quote(path if path.startswith(("./", "../")) else f"./{path}", safe="/", errors="surrogateescape")


def shown(value: object) -> str:
    """Return a value as text in one line; ``–`` where nobody knew."""
    return "–" if value is None or value == "" else printable(" ".join(str(value).split()))


def plain(value: float | None, digits: int | None = None) -> str:
    """Return a number as text: with so many digits behind the point, or as short as it can be said."""
    if value is None:
        return ""
    value = value if digits is None else round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:.{digits}f}" if digits is not None else f"{value:.6g}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment


@functools.cache
def _asset(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression of a style or a script in a policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def described(facts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return facts as pairs of text, those that nobody knew left out."""
    return [(name, shown(value)) for name, value in facts.items() if value not in (None, "", [], {})]
