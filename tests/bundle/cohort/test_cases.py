"""What inputs stand for, and which id each scan has."""

from __future__ import annotations

import json

import pytest

from bundle.cohort.cases import find_cases
from bundle.errors import InputError, OptionError


@pytest.fixture
def scans(tmp_path):
    for name in ("b/T1.nii.gz", "a/T1.nii.gz", "x.nii", "notes.md"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "scans"


def ids(cohort):
    return [case.id for case in cohort.cases]


def test_folder_gives_its_volumes_and_says_what_it_leaves_out(scans):
    cohort = find_cases([scans])
    assert ids(cohort) == ["x"]
    assert len(cohort.left_out) == 3


def test_scans_of_one_name_are_refused_but_for_the_first(scans):
    cohort = find_cases([scans], recursive=True)
    assert ids(cohort) == ["x", "T1"]
    assert [error.code for _, error in cohort.refused] == ["pairs"]
    assert "columns id and image" in str(cohort.refused[0][1])


def test_table_gives_ids_and_paths_relative_to_itself(scans, tmp_path):
    table = tmp_path / "scans.tsv"
    table.write_text("id\timage\n" + "".join(f"{name}\tscans/{name}/T1.nii.gz\n" for name in ("a", "b")))
    cohort = find_cases([table])
    assert ids(cohort) == ["a", "b"]
    assert [case.image for case in cohort.cases] == [str(scans / name / "T1.nii.gz") for name in ("a", "b")]
    assert [case.folder("out").name for case in cohort.cases] == ["a", "b"]


def test_results_of_a_scan_with_its_own_name_lie_where_one_run_puts_them(scans):
    assert find_cases([scans / "x.nii"]).cases[0].folder("out").name == "out"


def test_list_has_a_path_a_line(scans, tmp_path):
    (tmp_path / "list.txt").write_text(f"scans/x.nii\n\n{scans}/a/T1.nii.gz\n")
    assert ids(find_cases([tmp_path / "list.txt"])) == ["x", "T1"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("path\nx\n", "columns"), ("", "columns"), ("id\timage\n../up\tx.nii\n", "id '../up'"), ("image\n\n", "columns"),
     ("id\timage\n.hidden\tx.nii\n", "id '.hidden'"), ("id\timage\na\t\n", "no image")],
)  # fmt: skip
def test_table_that_cannot_be_used_is_one_line(tmp_path, text, found):
    (tmp_path / "scans.tsv").write_text(text)
    with pytest.raises(InputError, match=found):
        find_cases([tmp_path / "scans.tsv"])


@pytest.fixture
def bids_set(tmp_path):
    """A BIDS data set of empty images."""
    pytest.importorskip("ancpbids")
    for name in (
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/anat/sub-1_T2w.nii.gz",
        "sub-2/anat/sub-2_T2w.nii.gz",
        "derivatives/x/sub-1/anat/sub-1_T1w.nii",
    ):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "set/dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    return tmp_path / "set"


def test_bids_data_set_gives_its_t1_images_or_those_of_the_kinds_asked_for(bids_set, scans):
    assert ids(find_cases([bids_set])) == ["sub-1_T1w"]
    assert ids(find_cases([bids_set], suffixes=["T2w"])) == ["sub-1_T2w", "sub-2_T2w"]
    assert ids(find_cases([scans / "x.nii", bids_set], suffixes=["T2w", "T1w"]))[1:] == [
        "sub-1_T1w", "sub-1_T2w", "sub-2_T2w"
    ]  # fmt: skip


def test_data_set_without_an_image_asked_for_is_refused_and_other_inputs_go_on(bids_set, scans):
    cohort = find_cases([bids_set, scans / "x.nii"], suffixes=["FLAIR"])
    assert ids(cohort) == ["x"]
    ((case, error),) = cohort.refused
    assert case.id == "set"
    assert str(error).endswith(
        "found no _FLAIR image that is asked for; at least one is wanted; --suffix takes other kinds of images"
    )
    assert error.code == "missing"


def test_kinds_of_images_without_a_data_set_that_has_them_are_refused(scans):
    with pytest.raises(OptionError, match="suffix: found no BIDS data set"):
        find_cases([scans], suffixes=["T2w"])


def test_list_of_nothing_is_one_line(tmp_path):
    (tmp_path / "list.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"list\.txt: found no path; the path of a scan in each line is wanted"):
        find_cases([tmp_path / "list.txt"])


def test_shards_share_the_scans_out_and_report_what_is_refused_once(scans):
    cohort = find_cases([scans], recursive=True)
    parts = [cohort.part(number, 2) for number in (1, 2)]
    assert sorted(name for part in parts for name in ids(part)) == sorted(ids(cohort))
    assert [len(part.refused) for part in parts] == [1, 0]
    with pytest.raises(OptionError, match="I from 1 to N"):
        cohort.part(3, 2)
