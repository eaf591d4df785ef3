"""What the tests of the picture share."""

from __future__ import annotations

import pytest

from bundle.results import picture as layout


@pytest.fixture
def written(monkeypatch):
    """Collect the text that goes on the page, as (content, x, y)."""
    texts = []
    write = layout.Page.write

    def recording(page, x, y, content, **style):
        texts.append((content, x, y))
        write(page, x, y, content, **style)

    monkeypatch.setattr(layout.Page, "write", recording)
    return texts
