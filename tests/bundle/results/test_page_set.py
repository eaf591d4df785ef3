"""The pages of a folder of results: all that the records say is in them, and they follow the results."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import ExistsError, InputError, OptionError, WriteError
from bundle.io.orientation import ras_affine
from bundle.io.reading import Reading
from bundle.labels import read_labels
from bundle.results import save_outputs
from bundle.results.finished import find_finished, read_finished
from bundle.results.html import page_head
from bundle.results.page_set import PageSet
from bundle.results.scan_page import write_page
from tests.finished import AFFINE, head, write_result

NAMES = ("a one", "b & <b>", "c")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of three scans, and their scans."""
    root = tmp_path_factory.mktemp("pages")
    for index, name in enumerate(NAMES):
        write_result(root / "out", root / "scans", name, 0.03 * index)
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "r")
    return tmp_path / "r"


def pages_of(root, **options):
    pages = PageSet(root / "out", [root / "scans"], **options)
    return pages, list(pages.write())


def content_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="content" type="application/json">(.*?)</script>', text)[1]), text


def test_a_page_holds_what_the_record_says(root):
    pages, outcomes = pages_of(root)
    assert [outcome.id for outcome in outcomes] == list(NAMES)
    assert all(outcome.written and not outcome.reason for outcome in outcomes)
    content, text = content_of(root / "out" / "c" / "c.html")
    result = read_finished(pages.paths["c"])
    for flag in result.record["flags"]:
        assert flag["reason"] in unescape(text)
    assert {entry["name"]: entry["code"] for entry in content["structures"]} == {
        row.name: row.code for row in result.rows
    }
    assert content["label_map_sha256"] in result.record["outputs"].values()
    assert json.loads(unescape(re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)[1])) == result.record
    assert len(text) < 1_000_000


def test_names_of_files_are_text_and_never_markup(root):
    pages, _ = pages_of(root, title='<img src=x onerror="alert(1)">')
    index, _ = pages.write_index()
    for path in (index, root / "out" / "b & <b>" / "b & <b>.html", root / "out" / "c" / "c.html"):
        text = path.read_text(encoding="utf-8")
        assert "<b>" not in text
        assert "<img src=x" not in text
    assert "b &amp; &lt;b&gt;" in text
    assert 'href="../b%20%26%20%3Cb%3E/b%20%26%20%3Cb%3E.html"' in text


def test_pages_are_linked_in_their_order(root):
    pages_of(root)
    found = {}
    for name in NAMES:
        text = (root / "out" / name / f"{name}.html").read_text(encoding="utf-8")
        found[name] = [bool(re.search(f'id="{link}" rel', text)) for link in ("previous", "next")]
    assert list(found.values()) == [[False, True], [True, True], [True, False]]


def test_a_page_is_written_again_only_for_a_reason(root):
    pages_of(root)
    assert not any(outcome.written for outcome in pages_of(root)[1])
    assert all(outcome.written for outcome in PageSet(root / "out", [root / "scans"]).write(renew=True))
    (root / "scans" / "c.nii.gz").unlink()
    outcome = pages_of(root)[1][2]
    assert outcome.written
    assert outcome.reason == "the scan was not found"
    assert "Labels alone: the scan was not found." in (root / "out/c/c.html").read_text(encoding="utf-8")
    shutil.rmtree(root / "out" / "a one")
    assert [outcome.written for outcome in pages_of(root)[1]] == [True, False]  # its neighbour has gone


def test_results_that_cannot_be_used_cost_their_own_page_alone(root):
    (root / "out" / "a one" / "a one_record.json").write_text("{")
    record = root / "out" / "b & <b>" / "b & <b>_record.json"
    content = json.loads(record.read_text())
    del content["input"]["spacing_mm"]  # of another version, say
    whole = record.read_text()
    record.write_text(json.dumps(content))
    assert [type(outcome.error) for outcome in pages_of(root)[1]] == [InputError, KeyError, type(None)]
    record.write_text(whole)
    label_map = root / "out" / "c" / "c_seg.nii.gz"
    label_map.write_bytes(label_map.read_bytes() + b"\0")
    pages, outcomes = pages_of(root)
    assert [type(outcome.error) for outcome in outcomes] == [InputError, type(None), InputError]
    assert "has changed since its record was written" in str(outcomes[2].error)
    content, text = content_of(pages.write_index()[0])
    assert [scan["failed"] for scan in content["scans"]] == [True, False, True]
    assert "no page: cannot be read as a record" in text


def test_files_of_ones_own_are_not_replaced(root):
    mine = [root / "out" / "index.html", root / "out" / "c" / "c.html", root / "out" / "rated.tsv"]
    for path in mine:
        path.write_text("mine")
    ratings = root / "ratings.tsv"
    ratings.write_text("id\trating\tnote\trated_at\tlabel_map_sha256\n" + "c\tpass\t\t2026\tx\n")
    for renew in (False, True):
        pages = PageSet(root / "out", [root / "scans"], [ratings])
        assert isinstance(list(pages.write(renew))[2].error, ExistsError)
        with pytest.raises(ExistsError, match="index"):
            pages.write_index()
    mine[0].unlink()
    with pytest.raises(ExistsError, match="rated"):
        pages.write_index()
    assert [path.read_text() for path in mine[1:]] == ["mine"] * 2


def test_the_index_has_scans_that_failed_and_ratings_of_a_file(root):
    run = {"segmented": [], "failed": [{"name": "torn.nii.gz", "code": "damaged", "reason": "found <i>no</i> voxels"}]}
    (root / "out" / "run_1.json").write_text(json.dumps(run))
    sha = read_finished(find_finished(root / "out")[2]).label_map_sha256
    ratings = root / "ratings.tsv"
    ratings.write_text(f"id\trating\tnote\trated_at\tlabel_map_sha256\nc\tfail\tcut\t2026-01-01\t{sha}\n")
    pages, _ = pages_of(root, ratings=[ratings])
    content, text = content_of(pages.write_index()[0])
    scans = {scan["id"]: scan for scan in content["scans"]}
    assert scans["torn"]["failed"]
    assert "failed: found &lt;i&gt;no&lt;/i&gt; voxels" in text
    assert scans["c"]["rating"]["rating"] == "fail"
    assert page_head(root / "out/c/c.html")[1] in text
    rows = (root / "out" / "rated.tsv").read_text().splitlines()
    assert [row.split("\t")[:2] for row in rows[1:]] == [["a one", ""], ["b & <b>", ""], ["c", "fail"], ["torn", ""]]
    with pytest.raises(OptionError, match=r"rated\.tsv of the results itself"):
        PageSet(root / "out", ratings=[root / "out" / "rated.tsv"])


def test_the_id_of_a_cohort_names_the_scan_and_its_path_leads_to_it(root):
    (root / "out" / "sub-1").mkdir()
    (root / "out" / "c").rename(root / "out" / "sub-1" / "c")
    (root / "out" / "cohort.tsv").write_text(f"id\tpath\tstatus\nsub-1\t{root / 'scans' / 'c.nii.gz'}\tdone\n")
    pages = PageSet(root / "out")
    outcomes = {outcome.id: outcome for outcome in pages.write()}
    assert not outcomes["sub-1"].reason
    assert outcomes["c" if "c" in outcomes else "a one"].reason
    assert 'href="../../index.html"' in outcomes["sub-1"].page.read_text(encoding="utf-8")


def test_one_page_is_written_without_the_others(root):
    result = read_finished(find_finished(root / "out")[0])
    assert write_page(result, root / "alone.html", scan=root / "scans" / "a one.nii.gz")
    assert 'rel="next"' not in (root / "alone.html").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="the scan of the label map is wanted"):
        _write_with_other_scan(result, root)


def _write_with_other_scan(result, root):
    nib.Nifti1Image(np.random.default_rng(0).random((5, 6, 7)).astype(np.float32), np.eye(4)).to_filename(
        root / "o.nii"
    )
    write_page(result, root / "other.html", scan=root / "o.nii")


@pytest.mark.parametrize("geometry", ["assumed", "trusted"])
def test_a_scan_is_read_as_it_was_when_it_was_segmented(tmp_path, geometry):
    image, codes = head()
    scan = nib.Nifti1Image(image, AFFINE)
    if geometry == "assumed":
        scan.header.set_sform(None, 0)
        scan.header.set_qform(None, 0)
        reading = Reading(affine_source="assumed")
    else:
        scan.header.set_sform(AFFINE @ np.diag([-1, 1, 1, 1]), 1)  # left and right exchanged
        scan.header.set_qform(AFFINE, 1)
        reading = Reading(trust="qform")
    (tmp_path / "odd.nii").write_bytes(scan.header.binaryblock + b"\0" * 4 + image.tobytes(order="F"))
    save_outputs(codes, tmp_path / "odd.nii", tmp_path / "out", read_labels(), reading=reading)
    (outcome,) = PageSet(tmp_path / "out", [tmp_path]).write()
    assert (outcome.error, outcome.reason) == (None, "")
    affine = content_of(outcome.page)[0]["volume"]["affine"]
    used = np.array(read_finished(find_finished(tmp_path / "out")[0]).record["input"]["affine"])
    assert np.allclose(affine, ras_affine(used, codes.shape))


def test_a_place_that_cannot_be_written_is_named(root):
    (root / "file").write_text("")
    result = read_finished(find_finished(root / "out")[0])
    with pytest.raises((WriteError, OSError)):
        write_page(result, root / "file" / "page.html")
