"""The page of a scan in Chromium, from file://: view, names, opacity, marks, keys, and nothing asked of any host."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from bundle.labels import make_labels
from bundle.results import save_outputs
from scripts.page import main
from tests.browser.conftest import NAMES
from tests.finished import AFFINE, HIGH, HIPPOCAMPUS, LOW, head
from tests.labelled import write_nifti

SHAPE = (64, 72, 60)
AXES = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}
"""Those that run to the right and up in each view."""
CENTRE = [(low + high - 1) // 2 for low, high in zip(LOW, HIGH, strict=True)]
"""A voxel of the hippocampus."""


@pytest.fixture
def page(browser, results):
    return browser.open(results / "first" / "first.html")


def pixels(page, plane):
    """Return the pixels of a view, shape (height, width, 4)."""
    script = f"""(() => {{
        const canvas = document.querySelector('canvas[data-plane={plane}]');
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let text = '';
        for (let start = 0; start < data.length; start += 8192)
            text += String.fromCharCode(...data.subarray(start, start + 8192));
        return [canvas.width, canvas.height, btoa(text)];
    }})()"""
    width, height, text = page.run(script)
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(height, width, 4)


def painted(page):
    """Wait for the next frame."""
    page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def coloured(picture):
    """Return which pixels are not grey."""
    colours = picture[:, :, :3].astype(int)
    return colours.max(axis=2) - colours.min(axis=2) > 12


def where(voxel, right, up):
    """Return where a voxel lies in a view, as shares from the left and from the top."""
    return (voxel[right] + 0.5) / SHAPE[right], 1 - (voxel[up] + 0.5) / SHAPE[up]


def click_on(page, plane, voxel):
    right, up = AXES[plane]
    page.click_at(f"canvas[data-plane={plane}]", *where(voxel, right, up))


def test_views_show_the_scan_and_its_labels_where_they_are(page):
    page.press("x")  # no cross
    click_on(page, "axial", CENTRE)
    painted(page)
    picture = pixels(page, "axial")
    _, codes = head()
    expected = codes[:, ::-1, CENTRE[2]].T > 0
    height, width = picture.shape[:2]
    rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip((height, width), expected.shape, strict=True))
    expected = expected[rows.astype(int)][:, columns.astype(int)]
    # White matter is nearly white in the table of colours, so grey is expected there.
    assert (coloured(picture) & ~expected).mean() < 0.01
    assert coloured(picture)[expected].mean() > 0.2
    page.press("l")
    painted(page)
    assert not coloured(pixels(page, "axial")).any()


def test_name_of_a_structure_is_shown_on_click_and_under_the_cursor(page):
    click_on(page, "axial", [*CENTRE[:2], 0])
    click_on(page, "coronal", CENTRE)
    click_on(page, "axial", CENTRE)
    assert page.text("#readout").startswith("Left-Hippocampus (17), 2.59 mL")
    world = [-96 + 3 * CENTRE[0], -108 + 3 * CENTRE[1], -90 + 3 * CENTRE[2]]
    assert "x {:.1f}, y {:.1f}, z {:.1f} mm".format(*world) in page.text("#readout")
    assert page.text("#under").startswith("under the cursor: Left-Hippocampus (17)")
    assert page.text("tr.chosen th") == "Left-Hippocampus"
    click_on(page, "axial", [1, 1, 0])
    assert page.text("#readout").startswith("no structure; x -93.0, y -105.0")


def test_row_of_a_structure_leads_to_it(page):
    page.find("tr[data-channel] button.goto").click()
    assert page.text("#readout").startswith("Left-Cerebral-White-Matter (2)")


@pytest.mark.parametrize(
    ("plane", "key", "axis", "by"),
    [("sagittal", "\ue014", 1, 3), ("coronal", "\ue013", 2, 3), ("axial", "\ue012", 0, -3), ("axial", "\ue00e", 2, 3)],
)
def test_arrow_and_page_keys_move_through_the_voxels(page, plane, key, axis, by):
    click_on(page, "axial", CENTRE)
    click_on(page, "coronal", CENTRE)

    def place():
        return [float(part.split()[1]) for part in page.text("#readout").split("; ")[1].removesuffix(" mm").split(", ")]

    before = place()
    page.press(key, on=f"canvas[data-plane={plane}]")
    assert np.subtract(place(), before)[axis] == by


def test_opacity_changes_what_is_seen(page):
    page.press("x")
    seen = []
    for value in (0, 40, 100):
        page.choose("#opacity", str(value))
        painted(page)
        assert page.text("#opacity-value") == f"{value} %"
        picture = pixels(page, "axial")[:, :, :3].astype(int)
        seen.append(float((picture.max(axis=2) - picture.min(axis=2)).mean()))
    assert seen[0] == 0
    assert 1.5 * seen[1] < seen[2]
    page.press("-", "-")
    assert page.text("#opacity-value") == "80 %"


def test_outlines_and_one_structure_alone_where_it_lies(page):
    page.press("x")
    click_on(page, "axial", CENTRE)
    click_on(page, "coronal", CENTRE)
    painted(page)
    everything = coloured(pixels(page, "axial")).sum()
    page.press("o")
    painted(page)
    outlined = coloured(pixels(page, "axial")).sum()
    assert 0 < outlined < 0.6 * everything
    page.press("o")
    page.choose("#only", "Left-Hippocampus")
    painted(page)
    for plane, (right, up) in AXES.items():
        rows, columns = np.nonzero(coloured(pixels(page, plane)))
        height, width = pixels(page, plane).shape[:2]
        found = [
            columns.min() / width,
            (columns.max() + 1) / width,
            1 - (rows.max() + 1) / height,
            1 - rows.min() / height,
        ]
        sides = [LOW[right] / SHAPE[right], HIGH[right] / SHAPE[right], LOW[up] / SHAPE[up], HIGH[up] / SHAPE[up]]
        assert np.allclose(found, sides, atol=0.5 / max(SHAPE)), plane


def test_marks_are_kept_and_exported(page, results):
    page.press("p")
    assert page.text("#rating") == "marked: pass"
    page.press("f")
    assert page.find("#fail").get_attribute("aria-pressed") == "true"
    page.find("#note").send_keys("cut at the npflxu top")  # letters that are keys elsewhere
    page.find("h1").click()
    page.open(results / "third" / "third.html").press("p")
    path, rows = page.exported()
    assert rows[0] == ["id", "rating", "note", "rated_at", "label_map_sha256"]
    assert [row[:2] for row in rows[1:]] == [["first", "fail"], ["third", "pass"]]
    assert len(rows[1][4]) == 64
    page.open(results / "first" / "first.html")
    assert page.text("#rating") == "marked: fail"
    page.press("u")
    assert page.text("#rating") == "not marked"
    assert page.text("#count") == "2"  # its note is still there
    assert path.is_file()


def test_keys_step_through_the_scans(page, results):
    page.press("b")  # there is none before it
    page.press("n")
    page.wait("document.body.dataset.ready === 'true' && document.title.startsWith('sec')")
    page.press("n")
    page.wait("document.body.dataset.ready === 'true' && document.title === 'third'")
    page.press("b")
    page.wait("document.body.dataset.ready === 'true' && document.title.startsWith('sec')")
    page.press("i")
    page.wait("document.body.dataset.ready === 'true' && document.getElementById('scans') !== null")


def test_no_host_is_asked_and_no_name_runs(browser, results):
    name = NAMES[1]
    browser.open(results / name / f"{name}.html")
    browser.press("p")
    browser.exported()
    asked = browser.requested()
    assert asked
    assert all(address.startswith(("file:", "data:", "blob:")) for address in asked), asked
    assert browser.run("window.hit === undefined")
    assert browser.text("h1") == name
    assert browser.complaints() == []
    # The policy holds even where something was put into the page.
    browser.add("script", textContent="window.hit = 2")
    browser.add("img", src="http://127.0.0.1:9/x.png")
    assert browser.run("window.hit === undefined")
    assert all("Content Security Policy" in line for line in browser.complaints())


def test_every_control_is_reached_by_the_keyboard(page):
    seen = set()
    for _ in range(60):
        page.press("\ue004", on="body") if not seen else page.driver.switch_to.active_element.send_keys("\ue004")
        seen.add(
            page.run(
                "document.activeElement.id || document.activeElement.dataset.plane || document.activeElement.className"
            )
        )
    assert {"index", "next", "pass", "fail", "note", "export", "opacity", "shown", "outline", "cross", "only"} <= seen
    assert {"sagittal", "coronal", "axial", "goto"} <= seen


def test_printed_page_has_the_tables_and_the_mark_and_no_controls(page):
    from selenium.webdriver.common.print_page_options import PrintOptions

    pdf = base64.b64decode(page.driver.print_page(PrintOptions()))
    assert pdf.startswith(b"%PDF")
    page.press("f")
    assert not page.find("#printed").is_displayed()
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = {
            name: page.find(name).is_displayed()
            for name in ("nav", "#opacity", "#volumes", "h1", "#views canvas", "details")
        }
        assert page.text("#printed") == "fail"
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == {
        "nav": False,
        "#opacity": False,
        "#volumes": True,
        "h1": True,
        "#views canvas": True,
        "details": False,
    }


def test_more_structures_than_a_byte_tells_apart_are_shown_and_named(browser, tmp_path):
    table = make_labels({code: f"part-{code}" for code in range(1, 301)})
    image, codes = head()
    codes = np.select([codes == HIPPOCAMPUS, codes > 0], [299, 3]).astype(np.int16)
    scan = write_nifti(tmp_path / "scans" / "many.nii.gz", image, AFFINE)
    save_outputs(codes, scan, tmp_path / "out", table)
    assert main([str(tmp_path / "out"), "--scans", str(tmp_path / "scans")]) == 0
    page = browser.open(next((tmp_path / "out").rglob("many.html")))
    click_on(page, "axial", CENTRE)
    click_on(page, "coronal", CENTRE)
    click_on(page, "axial", CENTRE)
    assert page.text("#readout").startswith("part-299 (299), 2.59 mL")
    assert page.text("tr.chosen th") == "part-299"
