"""What could not be written is refused before a network runs, and harms no other scan."""

from __future__ import annotations

import os
import tempfile
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import BundleError, InputError, OptionError, WriteError
from bundle.results import Failures, OutputPaths, check_outputs, plan_outputs
from bundle.results.plan import PICTURE_BYTES, VOXELS_PER_BYTE, check_output_dir

SHAPE = (12, 14, 10)
NOBODY = 65534


@pytest.fixture
def scans(tmp_path):
    """Three scans in a folder of their own."""
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{name}.nii.gz" for name in "abc"]
    for path in paths:
        nib.Nifti1Image(np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32), np.eye(4)).to_filename(path)
    return [str(path) for path in paths]


def refusals(plan) -> list[str]:
    return [str(error) for _, error in plan.refused]


def test_all_are_planned_where_nothing_is_in_the_way(scans, tmp_path):
    out = tmp_path / "new" / "out"
    plan = plan_outputs(scans, out, overwrite=False)
    assert (plan.scans, plan.refused) == (scans, [])
    assert not out.exists()


def _file(path: Path) -> None:
    path.write_text("mine")


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    (path.parent / "elsewhere").write_text("mine")
    path.symlink_to("elsewhere")


def _dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize(
    ("put", "kind"),
    [(_folder, "a folder"), (_link, "a link"), (_dangling_link, "a link"), (os.mkfifo, "no regular file")],
)
def test_output_that_is_no_plain_file_is_refused_even_when_overwriting(scans, tmp_path, put, kind, number):
    target = astuple(OutputPaths.of(scans[1], tmp_path / "out"))[number]
    target.parent.mkdir(parents=True)
    put(target)
    plan = plan_outputs(scans, tmp_path / "out", overwrite=True)
    assert plan.scans == [scans[0], scans[2]]
    assert refusals(plan) == [f"{target}: is {kind}; a plain file, or a free name, is wanted"]


@pytest.mark.parametrize(
    ("put", "found"), [(_file, "is no folder"), (_link, "is a link"), (_dangling_link, "is a link")]
)
def test_what_stands_where_the_scans_folder_goes_is_refused(scans, tmp_path, put, found):
    (tmp_path / "out").mkdir()
    put(tmp_path / "out" / "b")
    plan = plan_outputs(scans, tmp_path / "out", overwrite=True)
    assert plan.scans == [scans[0], scans[2]]
    assert refusals(plan) == [f"{tmp_path}/out/b: {found}; a folder, or a free name, is wanted"]


def test_existing_results_are_refused_and_the_others_done(scans, tmp_path):
    mine = OutputPaths.of(scans[0], tmp_path).volumes
    mine.parent.mkdir()
    mine.write_text("mine")
    plan = plan_outputs(scans, tmp_path, overwrite=False)
    assert plan.scans == scans[1:]
    assert refusals(plan) == [f"{mine}: exists already; a free name, or overwrite, is wanted"]
    assert plan_outputs(scans, tmp_path, overwrite=True).scans == scans


@pytest.mark.parametrize("second", ["b/scan.nii.gz", "a/scan.nii", "a/scan.nii.gz", "scan.NII"])
def test_of_two_scans_of_one_name_the_second_is_refused_naming_both(tmp_path, second):
    plan = plan_outputs(["other.nii.gz", "a/scan.nii.gz", second], tmp_path / "out", overwrite=False)
    assert plan.scans == ["other.nii.gz", "a/scan.nii.gz"]
    (error,) = refusals(plan)
    assert error == f"{second}: found the name scan in a/scan.nii.gz too; one output for each scan is wanted"


@pytest.mark.parametrize(("put", "found"), [(_file, "is no folder"), (_dangling_link, "is a link without its target")])
@pytest.mark.parametrize("below", ["", "further/down"])
def test_output_dir_that_is_no_folder_is_refused(scans, tmp_path, put, found, below):
    put(tmp_path / "out")
    with pytest.raises(WriteError) as caught:
        plan_outputs(scans, tmp_path / "out" / below, overwrite=False)
    assert str(caught.value) == f"{tmp_path}/out: {found}; a folder for the results is wanted"


def test_output_dir_may_be_a_link_to_a_folder(scans, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "in")
    assert plan_outputs(scans, tmp_path / "out", overwrite=False).scans == scans


def told_by_an_unprivileged_process(folders: list[Path]) -> list[str]:
    """Return what ``check_output_dir`` says of each folder; root may write everywhere."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setuid(NOBODY)
            for folder in folders:
                try:
                    check_output_dir(folder)
                    os.write(writer, b"fine\n")
                except WriteError as error:
                    os.write(writer, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as told:
        lines = told.read().splitlines()
    os.waitpid(child, 0)
    return lines


def test_output_dir_that_cannot_be_written_is_refused():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is root's alone
        os.chmod(folder, 0o755)
        locked, free = Path(folder, "locked"), Path(folder, "free")
        for path, mode in ((locked, 0o555), (free, 0o777)):
            path.mkdir()
            path.chmod(mode)
        assert told_by_an_unprivileged_process([locked, locked / "new", free / "new"]) == [
            f"{locked}: cannot be written ({locked} may not be changed); a writable folder is wanted",
            f"{locked}/new: cannot be written ({locked} may not be changed); a writable folder is wanted",
            "fine",
        ]


def test_name_too_long_for_the_longest_of_its_files_is_refused(tmp_path):
    room = os.pathconf(tmp_path, "PC_NAME_MAX") - len("_volumes.tsv")
    fits, too_long = "n" * room + ".nii", "\u00fc" * (room // 2 + 1) + ".nii"
    plan = plan_outputs([fits, too_long], tmp_path / "out", overwrite=False)
    assert plan.scans == [fits]
    (error,) = refusals(plan)
    assert error.startswith(f"{too_long}: found a name whose output ")
    assert error.endswith(" bytes; at most 255 is wanted")
    folder = tmp_path.joinpath(*["d" * 200] * 19)
    assert refusals(plan_outputs(["n" * 200 + ".nii"], folder, overwrite=False))


def test_disk_without_room_is_refused(scans, tmp_path, monkeypatch):
    needed = int(np.prod(SHAPE)) // VOXELS_PER_BYTE + PICTURE_BYTES
    for free, planned in ((needed, scans), (needed - 1, [])):
        monkeypatch.setattr("bundle.results.plan.shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        plan = plan_outputs(scans, tmp_path / "out", overwrite=False)
        assert plan.scans == planned
    assert f"found 1.0 MB free for the results of {scans[0]}; 1.0 MB is wanted" in refusals(plan)[0]


def test_output_that_is_an_input_is_refused(scans, tmp_path):
    earlier = OutputPaths.of(scans[0], tmp_path).label_map
    earlier.parent.mkdir()
    os.link(scans[0], earlier)
    plan = plan_outputs([*scans, earlier], tmp_path, overwrite=True)
    assert plan.scans == [*scans[1:], str(earlier)]
    assert refusals(plan) == [f"{earlier}: is an input too ({earlier}); another output folder is wanted"]


def test_refused_scans_leave_the_list_where_failures_collects_them(scans, tmp_path, capsys):
    items = [{"image": scan} for scan in (*scans, scans[0])]
    failures = Failures("skip")
    check_outputs(items, tmp_path, False, failures)
    assert [item["image"] for item in items] == scans
    assert capsys.readouterr().err.startswith(f"error: {scans[0]}: found the name a in {scans[0]} too")
    with pytest.raises(InputError, match=rf"^scans: 1 of 4 failed, the first being {scans[0]}: found the name a"):
        failures.finish()
    with pytest.raises(BundleError, match="found the name a"):
        check_outputs([*items, items[0]], tmp_path, False)


def test_on_error_takes_two_values():
    with pytest.raises(OptionError, match=r"^on_error: found 'ignore'; skip or raise is wanted$"):
        Failures("ignore")
