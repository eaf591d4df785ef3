"""Which images of a BIDS data set are segmented."""

from __future__ import annotations

import json

import pytest

from bundle.bids.entities import is_bids_root, read_filter, t1w_scans
from bundle.errors import InputError, MissingError
from tests.bundle.bids.made import write_bids_set

pytest.importorskip("ancpbids")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bids")
    names = write_bids_set(folder)
    for other in ("derivatives/x/sub-01/anat/sub-01_T1w.nii.gz", "sourcedata/sub-01/anat/sub-01_T1w.nii.gz",
                  "sub-01/ses-a/func/sub-01_ses-a_T1w.nii.gz", "sub-01/ses-a/anat/sub-01_ses-a_T1w.txt"):  # fmt: skip
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(b"")
    return folder, names


def found(data_set, **selection):
    return [f"{scan.stem}_T1w" for scan in t1w_scans(data_set[0], **selection)]


def test_raw_t1_images_are_found_and_nothing_else(data_set):
    assert found(data_set) == data_set[1]


@pytest.mark.parametrize(
    ("selection", "count"),
    [({"participants": ["02"]}, 3), ({"participants": ["sub-02", "01"], "sessions": ["ses-a"]}, 3),
     ({"wanted": {"acq": "x"}}, 2), ({"wanted": {"acq": None}}, 5), ({"wanted": {"run": "*"}}, 2),
     ({"wanted": {"run": [1, 3]}}, 1), ({"sessions": ["c"]}, 0)],
)  # fmt: skip
def test_labels_and_filters_select(data_set, selection, count):
    assert len(found(data_set, **selection)) == count


def test_filter_file_has_the_long_names_of_entities(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": {"acquisition": "x", "datatype": "anat", "run": 1}, "bold": {"task": "rest"}}))
    assert read_filter(path) == {"acq": "x", "run": 1}
    path.write_text("[1]")
    with pytest.raises(InputError):
        read_filter(path)


def test_unknown_participant_and_other_folders_are_refused(data_set, tmp_path):
    with pytest.raises(MissingError, match="no participant 09"):
        t1w_scans(data_set[0], ["09"])
    assert is_bids_root(data_set[0])
    assert not is_bids_root(tmp_path)
    with pytest.raises(MissingError, match="BIDS data set is wanted"):
        t1w_scans(tmp_path)
