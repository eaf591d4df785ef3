"""Which images of a BIDS data set are segmented."""

from __future__ import annotations

import json

import pytest

from bundle.bids.entities import anat_scans, is_bids_root, read_filter
from bundle.errors import InputError, MissingError
from tests.bundle.bids.made import T2W, write_bids_set

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
    return [f"{scan.stem}_{scan.suffix}" for scan in anat_scans(data_set[0], **selection)]


def test_raw_t1_images_are_found_and_nothing_else(data_set):
    assert found(data_set) == data_set[1]


def test_images_of_other_suffixes_are_found_where_they_are_asked_for(data_set):
    assert found(data_set, suffixes=["T2w"]) == [T2W]
    assert found(data_set, suffixes=["FLAIR"]) == []
    assert sorted(found(data_set, suffixes=["T1w", "T2w"])) == sorted([*data_set[1], T2W])
    assert found(data_set, suffixes=["T1w", "T2w"], wanted={"t1w": {"run": 9}}) == [T2W]


@pytest.mark.parametrize(
    ("selection", "count"),
    [({"participants": ["02"]}, 3), ({"participants": ["sub-02", "01"], "sessions": ["ses-a"]}, 3),
     ({"wanted": {"t1w": {"acq": "x"}}}, 2), ({"wanted": {"t1w": {"acq": None}}}, 5),
     ({"wanted": {"t1w": {"run": "*"}}}, 2), ({"wanted": {"t1w": {"run": [1, 3]}}}, 1),
     ({"wanted": {"t2w": {"run": 1}}}, 7), ({"sessions": ["c"]}, 0)],
)  # fmt: skip
def test_labels_and_filters_select(data_set, selection, count):
    assert len(found(data_set, **selection)) == count


def test_filter_file_has_the_long_names_of_entities(tmp_path):
    path = tmp_path / "filter.json"
    wanted = {"acquisition": "x", "datatype": "anat", "run": 1}
    path.write_text(json.dumps({"T1w": wanted, "flair": {"session": "a"}, "bold": {"task": "rest"}}))
    assert read_filter(path) == {"t1w": {"acq": "x", "run": 1}, "flair": {"ses": "a"}}
    path.write_text("[1]")
    with pytest.raises(InputError):
        read_filter(path)


def test_unknown_participant_and_other_folders_are_refused(data_set, tmp_path):
    with pytest.raises(MissingError, match="no participant 09"):
        anat_scans(data_set[0], ["09"])
    assert is_bids_root(data_set[0])
    assert not is_bids_root(tmp_path)
    with pytest.raises(MissingError, match="BIDS data set is wanted"):
        anat_scans(tmp_path)
