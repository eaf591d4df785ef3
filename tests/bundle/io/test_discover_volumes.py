"""Which scans a folder or a datalist stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundle.errors import InputError, OptionError
from bundle.io import Listing, datalist_items, find_volumes, list_inputs
from bundle.io.names import header_and_image, volume_stem


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_volumes_are_listed_sorted_without_outputs_and_hidden_files(tmp_path):
    touch(
        tmp_path, "b.nii.gz", "a.nii", "c.NII.GZ", "a_seg.nii.gz", ".d.nii.gz", "._b.nii.gz", "notes.txt", "e.nii.bz2"
    )
    touch(tmp_path / "f.nii", "inside.nii.gz")
    assert find_volumes(tmp_path) == [str(tmp_path / name) for name in ("a.nii", "b.nii.gz", "c.NII.GZ")]


def test_other_formats_are_listed_and_a_pair_once(tmp_path):
    touch(tmp_path, "a.hdr", "a.img", "b.mgz", "c.MGH", "d.hdr.gz", "d.img.gz", "E.HDR", "E.IMG", "f.img", "g.mgh.bak")
    wanted = ("E.HDR", "a.hdr", "b.mgz", "c.MGH", "d.hdr.gz", "f.img")
    assert find_volumes(tmp_path) == [str(tmp_path / name) for name in wanted]


@pytest.mark.parametrize(
    ("name", "stem", "halves"),
    [
        ("a.nii", "a", ("a.nii", "a.nii")),
        ("a.b.MGZ", "a.b", ("a.b.MGZ", "a.b.MGZ")),
        ("a.hdr", "a", ("a.hdr", "a.img")),
        ("a.img.gz", "a", ("a.hdr.gz", "a.img.gz")),
        ("A.IMG", "A", ("A.HDR", "A.IMG")),
        ("a.hdr.nii.gz", "a.hdr", ("a.hdr.nii.gz", "a.hdr.nii.gz")),
    ],
)
def test_stem_and_halves_of_a_name(name, stem, halves):
    assert volume_stem(name) == stem
    assert tuple(map(str, header_and_image(name))) == halves


def test_missing_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; .* wanted$"):
        find_volumes(tmp_path / "nowhere")


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["a_seg.nii.gz"]])
def test_folder_without_scans_is_an_input_error(tmp_path, names):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=f"^{tmp_path}: found no scan; .* wanted$"):
        find_volumes(tmp_path)
    with pytest.raises(InputError, match="found no scan"):
        datalist_items(None, tmp_path)


def test_no_datalist_means_the_folder(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nii")
    assert datalist_items(None, tmp_path) == [{"image": str(tmp_path / "a.nii")}, {"image": str(tmp_path / "b.nii.gz")}]


def test_relative_entries_are_looked_up_here_then_in_the_dataset(tmp_path, monkeypatch):
    here, dataset = tmp_path / "here", tmp_path / "dataset"
    touch(here, "both.nii.gz", "here.nii.gz")
    touch(dataset, "both.nii.gz", "there.nii.gz")
    monkeypatch.chdir(here)
    items = datalist_items(["both.nii.gz", Path("here.nii.gz"), "there.nii.gz", "none.nii.gz"], dataset)
    wanted = ["both.nii.gz", "here.nii.gz", str(dataset / "there.nii.gz"), "none.nii.gz"]
    assert [item["image"] for item in items] == wanted


def test_absolute_entries_stay_as_they_are(tmp_path):
    touch(tmp_path / "a", "scan.nii.gz")
    path = str(tmp_path / "a" / "scan.nii.gz")
    assert datalist_items([path], tmp_path / "missing") == [{"image": path}]


@pytest.mark.parametrize("entry", ["scan.nii.gz", Path("scan.nii.gz")])
def test_single_path_is_a_list_of_one(tmp_path, entry):
    assert datalist_items(entry, tmp_path) == [{"image": "scan.nii.gz"}]


def test_items_pass_through(tmp_path):
    items = [{"image": "a.nii.gz", "label": "b.nii.gz"}, {"image": Path("c.nii.gz")}]
    assert datalist_items(items, tmp_path) == items


def test_item_without_an_image_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"^datalist: found an item with the keys \['label'\]; an image is wanted$"):
        datalist_items([{"label": "a.nii.gz"}], tmp_path)


def test_empty_datalist_is_refused(tmp_path):
    touch(tmp_path, "a.nii.gz")
    with pytest.raises(OptionError, match=r"^datalist: found no entry; .* wanted$"):
        datalist_items([], tmp_path)


@pytest.fixture
def mixed(tmp_path):
    """A folder with one of everything."""
    touch(tmp_path, "a.nii", "b.nii.gz", "a_seg.nii.gz", ".hidden.nii", "notes.txt", "two\nlines.txt")
    touch(tmp_path / "sub" / "deeper", "c.nii.gz")
    (tmp_path / "void").mkdir()
    (tmp_path / "gone.nii.gz").symlink_to("/nowhere/gone.nii.gz")
    (tmp_path / "annexed.nii.gz").symlink_to(".git/annex/objects/x/annexed.nii.gz")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.nii")
    return tmp_path


def relative(folder: Path, listing: Listing) -> tuple[list[str], dict[str, str]]:
    scans = [os.path.relpath(path, folder) for path in listing.scans]
    return scans, {os.path.relpath(path, folder): reason for path, reason in listing.left_out}


def test_folder_names_what_it_leaves_out(mixed):
    scans, left_out = relative(mixed, listing := list_inputs([mixed]))
    assert scans == ["a.nii", "b.nii.gz"]
    sub = "a sub-folder (scripts.segment --recursive walks it)"
    assert left_out == {
        ".hidden.nii": "hidden", "a_seg.nii.gz": "an earlier result", "notes.txt": "of another format",
        "two\nlines.txt": "of another format", "pipe.nii": "no regular file", "loop": sub, "sub": sub, "void": sub,
    }  # fmt: skip
    assert len(listing.lines()) == len("\n".join(listing.lines()).splitlines()) == 8
    assert f"left out: {mixed}/notes.txt: of another format" in listing.lines()


def test_link_without_its_file_is_an_error_and_no_skip(mixed):
    errors = sorted(str(error) for error in list_inputs([mixed]).errors)
    assert errors == [
        f"{mixed}/annexed.nii.gz: found a link to .git/annex/objects/x/annexed.nii.gz, which is not there; "
        "git annex get",
        f"{mixed}/gone.nii.gz: found a link to /nowhere/gone.nii.gz, which is not there; its file is wanted",
    ]
    assert {f"{mixed}/gone.nii.gz", f"{mixed}/annexed.nii.gz"} < set(find_volumes(mixed))  # the reader refuses them


def test_recursive_walks_folders_and_not_links_to_them(mixed):
    scans, left_out = relative(mixed, list_inputs([mixed], recursive=True))
    assert scans == ["a.nii", "b.nii.gz", "sub/deeper/c.nii.gz"]
    assert (left_out["void"], left_out["loop"]) == ("an empty folder", "a link to a folder")
    assert "sub" not in left_out


def test_folder_without_a_scan_does_not_stop_the_others(mixed, tmp_path):
    listing = list_inputs([mixed / "void", mixed / "sub", tmp_path / "single.nii"])
    assert [str(error) for error in listing.errors] == [
        f"{mixed / name}: found no scan; at least one .nii or .nii.gz file is wanted" for name in ("void", "sub")
    ]
    assert listing.scans == [str(tmp_path / "single.nii")]


def test_dataset_of_monai_logs_what_it_leaves_out(mixed, caplog):
    assert len(datalist_items(None, mixed)) == 4
    assert f"left out: {mixed}/notes.txt: of another format" in caplog.messages
