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


def test_bids_data_set_gives_its_t1_images_alone(tmp_path):
    pytest.importorskip("ancpbids")
    for name in (
        "sub-1/anat/sub-1_T1w.nii.gz",
        "sub-1/anat/sub-1_T2w.nii.gz",
        "derivatives/x/sub-1/anat/sub-1_T1w.nii",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    assert ids(find_cases([tmp_path])) == ["sub-1_T1w"]


def test_shards_share_the_scans_out_and_report_what_is_refused_once(scans):
    cohort = find_cases([scans], recursive=True)
    parts = [cohort.part(number, 2) for number in (1, 2)]
    assert sorted(name for part in parts for name in ids(part)) == sorted(ids(cohort))
    assert [len(part.refused) for part in parts] == [1, 0]
    with pytest.raises(OptionError, match="I from 1 to N"):
        cohort.part(3, 2)
