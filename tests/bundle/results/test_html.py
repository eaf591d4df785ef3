"""Pages load nothing, run nothing that is not theirs, and name other files by addresses that no name can bend."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin

import pytest

from bundle.results.html import PAGES, fingerprint, href, page_head, shown


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


@pytest.mark.parametrize("name", ["a b", "javascript:alert(1)", "a?b#c", '"><script>', "http://x/y", "ä%20", "\udcff"])
def test_an_address_leads_to_the_file_of_that_name(name):
    address = href(name)
    assert not re.search(r"""[<>"'\s]""", address)
    assert urljoin("file:///top/", address).startswith("file:///top/")
    assert unquote(address, errors="surrogateescape") == f"./{name}"
    assert href("../a b/c.html") == "../a%20b/c.html"


def test_text_is_one_line():
    assert shown("a\n\tb\udcff") == "a b\ufffd"
    assert shown(None) == "–"


def test_fingerprint_follows_what_a_page_is_made_of():
    assert fingerprint("a", 1) == fingerprint("a", 1) != fingerprint("a", 2)


def test_a_file_that_is_no_page_has_no_head(tmp_path):
    (tmp_path / "x.html").write_bytes(b"\xff" * 200_000)
    assert page_head(tmp_path / "x.html") == page_head(tmp_path / "none.html") == ("", "")


def test_sources_ask_no_host_and_make_no_markup_from_text():
    for path in PAGES.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//cdn|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|\bimport\b", text), path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            path
        )
        assert not re.search(r"""\son\w+=|style="|\|\s*safe""", text), path
