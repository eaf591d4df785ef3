"""The index of a folder of results in Chromium: sorted, filtered, plotted, with marks."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.results.index_page import Entry, write_index
from bundle.results.page_set import PageSet
from bundle.results.ratings import Rating, read_ratings
from tests.browser.conftest import NAMES

pytestmark = pytest.mark.slow  # a second Chromium, where each worker has a file
COUNT = 14


def entry(index, rating=None):
    """A scan whose numbers follow from its index; the last one's ventricles are ten times as large as any other's."""
    ventricles = 20_000 + 300 * index if index < COUNT - 1 else 240_000
    return Entry(
        id=f"scan {index + 1}",
        href=f"./s{index}/s{index}.html",
        label_map_sha256=f"{index:064d}",
        flags=["cut"] if index == 3 else [],
        quality=0.9 - 0.01 * index if index != 5 else None,
        totals={"intracranial": 1_500_000 - 1000 * index, "ventricles": ventricles, "brain_without_ventricles": None},
        volumes={"Left-<i>A": 500.0 + index},
        asymmetries={"A": 0.01 * index},
        largest_z=("Left-<i>A", -0.1 * index),
        rating=rating,
    )


@pytest.fixture
def index(browser, tmp_path):
    entries = [entry(number) for number in range(COUNT)]
    entries[2] = entry(2, Rating("scan 3", "fail", "moved", "2026-01-01", f"{2:064d}"))
    torn = Entry("torn", status="failed: no <b>voxels</b>")
    assert write_index([*entries, torn], tmp_path / "index.html", "cohort") == [f"scan {COUNT}"]
    return browser.open(tmp_path / "index.html")


def shown(index):
    rows = "[...document.querySelectorAll('#scans tbody tr')]"
    return index.run(f"{rows}.filter((row) => row.offsetParent).map((row) => row.cells[1].textContent)")


def sort_by(index, name):
    index.run(f"[...document.querySelectorAll('#scans th button')].find((b) => b.textContent === '{name}').click()")
    return shown(index)


def test_columns_sort_both_ways_with_what_is_missing_last(index):
    order = [f"scan {number + 1}" for number in range(COUNT)]
    assert sort_by(index, "scan") == [*order, "torn"]  # 2 before 10
    assert sort_by(index, "scan") == ["torn", *order[::-1]]
    by_quality = [name for name in order[::-1] if name != "scan 6"]
    assert sort_by(index, "quality")[:-2] == by_quality
    assert sort_by(index, "quality")[:-2] == by_quality[::-1]
    assert sort_by(index, "intracranial, mL")[0] == f"scan {COUNT}"
    assert sort_by(index, "largest z")[-2] == f"scan {COUNT}"  # by its size
    assert index.run("document.querySelectorAll('th[aria-sort=ascending]').length") == 1


def test_filter_and_kinds_narrow_the_table(index):
    index.find("#filter").send_keys("cut")
    assert shown(index) == ["scan 4"]
    assert index.text("#shown") == f"1 of {COUNT + 1} scans"
    index.run("document.getElementById('filter').value = ''")
    kinds = {"flagged": ["scan 4"], "outliers": [f"scan {COUNT}"], "failed": ["torn"], "fail": ["scan 3"], "pass": []}
    for kind, names in kinds.items():
        index.choose("#kind", kind)
        assert shown(index) == names, kind


def test_plots_show_every_scan_and_link_the_outliers(index):
    index.choose("#y", "ventricles, mL")
    assert index.run("document.querySelectorAll('#scatter circle').length") == COUNT
    heights = index.run(
        "[...document.querySelectorAll('#histogram rect')].map((r) => Number(r.getAttribute('height')))"
    )
    assert np.count_nonzero(heights) == 2
    for plot in ("histogram", "scatter"):
        links = index.run(f"[...document.querySelectorAll('#{plot} a.outlier')].map((a) => a.href.baseVal)")
        assert links == [f"./s{COUNT - 1}/s{COUNT - 1}.html"], plot
    index.choose("#one", "asymmetry A")
    assert index.run("document.querySelectorAll('#histogram a.outlier').length") == 0
    assert "asymmetry A" in index.run("document.getElementById('histogram').textContent")


def test_ratings_of_a_file_go_on_in_the_browser_and_come_back(index):
    assert index.run("document.querySelector('tr[data-scan=\"2\"] .rating').textContent") == "fail"
    path, rows = index.exported()
    assert [row[:3] for row in rows[1:]] == [["scan 3", "fail", "moved"]]
    assert read_ratings([path])["scan 3"].label_map_sha256 == f"{2:064d}"


def test_a_mark_given_on_a_scans_page_is_in_the_table(browser, results):
    browser.open(results / "third" / "third.html").press("p")
    browser.open(results / "index.html")
    assert browser.run("[...document.querySelectorAll('.rating')].map((c) => c.textContent)") == ["", "", "pass"]
    assert browser.run("document.querySelectorAll('#scans img').length") == 3
    assert browser.run("[...document.querySelectorAll('#scans img')].every((i) => i.naturalHeight === 56)")
    browser.find("#scans tbody th a").click()
    browser.wait("document.body.dataset.ready === 'true' && document.title === 'first'")
    assert all(address.startswith(("file:", "data:", "blob:")) for address in browser.requested())


def test_pages_step_through_what_the_index_showed(browser, results):
    browser.open(results / "index.html")
    sort_by(browser, "scan")
    assert sort_by(browser, "scan")[0] == "third"
    browser.find("#filter").send_keys("ir")  # first, third
    browser.find("#scans tbody tr:not(.hidden) th a").click()
    browser.wait("document.body.dataset.ready === 'true' && document.title === 'third'")
    assert browser.text("#place") == "1 of 2 in the list"
    browser.press("b")
    browser.press("n")
    browser.wait("document.body.dataset.ready === 'true' && document.title === 'first'")
    assert not browser.find("#next").is_displayed()
    browser.press("n")
    browser.press("b")
    browser.wait("document.body.dataset.ready === 'true' && document.title === 'third'")
    browser.run("sessionStorage.clear()")
    browser.open(results / "first" / "first.html")
    assert browser.text("#next").startswith("sec")
    assert not browser.text("#place")


def test_page_of_a_participant_leads_to_its_scans_and_to_the_index(browser, results):
    pages = PageSet(results)
    list(pages.write())
    page = results.parent / "sub-1.html"
    pages.write_participant(["third", NAMES[1], "gone"], page)
    browser.driver.get(page.as_uri())
    assert browser.run("[...document.querySelectorAll('tbody th a')].map((a) => a.textContent)") == ["third", NAMES[1]]
    assert browser.run("[...document.querySelectorAll('tbody img')].every((i) => i.naturalHeight === 56)")
    browser.find("tbody th a").click()
    browser.wait("document.body.dataset.ready === 'true' && document.title === 'third'")
    browser.driver.get(page.as_uri())
    browser.find("header a").click()
    browser.wait("document.body.dataset.ready === 'true' && document.querySelectorAll('#scans tbody tr').length === 3")
    assert browser.complaints() == []
    assert all(address.startswith(("file:", "data:", "blob:")) for address in browser.requested())


def test_text_of_a_table_is_no_markup(index):
    assert index.run("document.querySelectorAll('#scans i, #scans b').length") == 0
    assert "no <b>voxels</b>" in index.text("#scans")
    assert index.complaints() == []
