"""Results are read back as they were written, and scans are found by name and content."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bundle.errors import InputError, MissingError
from bundle.labels import read_labels
from bundle.results.finished import ScanFinder, find_finished, read_finished
from tests.finished import HIGH, LOW, write_result


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("finished")
    return root / "out", root / "scans" / "deep", write_result(root / "out", root / "scans" / "deep", "head")


def change(paths, folder, edit):
    """Copy the results of a scan with another record."""
    target = folder / "head"
    target.mkdir()
    for path in (paths.label_map, paths.volumes):
        (target / path.name).write_bytes(path.read_bytes())
    record = json.loads(paths.record.read_text())
    (target / paths.record.name).write_text(edit(record))
    return find_finished(folder)[0]


def test_what_was_written_is_read(written):
    result = read_finished(written[2])
    assert [row.name for row in result.rows] == [label.name for label in read_labels()[1:]]
    hippocampus = next(row for row in result.rows if row.code == 17)
    assert hippocampus.volume_mm3 == np.prod(np.subtract(HIGH, LOW)) * 27
    assert hippocampus.expected_mm3 == result.record["structures"]["Left-Hippocampus"]["expected_mm3"] > 0
    assert result.name == "head"
    assert [label.colour for label in result.labels] == [label.colour for label in read_labels()[1:]]


@pytest.mark.parametrize(
    ("quality", "expected"), [(None, None), (0.8, 0.8), ({"cortex": 0.9, "thalamus": 0.6}, 0.6), ({}, None)]
)
def test_quality_is_the_lowest_of_the_groups(written, tmp_path, quality, expected):
    paths = change(written[2], tmp_path, lambda record: json.dumps({**record, "quality": quality}))
    assert read_finished(paths).quality == expected


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"structures": 3}'])
def test_a_record_that_is_none_is_named(written, tmp_path, content):
    paths = change(written[2], tmp_path, lambda record: content)
    with pytest.raises(InputError, match=r"head_record\.json: cannot be read as a record"):
        read_finished(paths)


def test_a_folder_without_results_is_named(tmp_path):
    (tmp_path / "stray_record.json").write_text("{}")
    with pytest.raises(MissingError, match="found no NAME/NAME_record"):
        find_finished(tmp_path)
    with pytest.raises(MissingError, match="not found"):
        find_finished(tmp_path / "nowhere")


def test_a_scan_is_found_in_a_folder_inside_the_one_given(written):
    out, scans, paths = written
    result = read_finished(paths)
    assert ScanFinder([scans.parent]).find(result) == (scans / "head.nii.gz", "")
    assert ScanFinder((), {"head": str(scans / "head.nii.gz")}).find(result) == (scans / "head.nii.gz", "")
    assert ScanFinder([out]).find(result) == (None, "the scan was not found")


def test_a_file_of_the_scans_name_with_other_bytes_is_not_taken(written, tmp_path):
    (tmp_path / "head.nii.gz").write_bytes(b"another")
    result = read_finished(written[2])
    assert ScanFinder([tmp_path]).find(result) == (None, "the file of the scan's name has changed since")
    assert ScanFinder([tmp_path, written[1]]).find(result)[0] == written[1] / "head.nii.gz"
