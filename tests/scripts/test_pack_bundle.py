"""The zip for the model zoo: same bytes each time, and complete once unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.labels import read_labels
from scripts import pack_bundle
from scripts.pack_bundle import NAME, main
from tests.conftest import ROOT


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def python(host):
    """Run Python in an unpacked bundle, so that its own packages are imported."""

    def run(folder: Path, *arguments: object) -> None:
        done = host.run(*arguments, folder=folder, path=[folder])
        assert done.returncode == 0, done.stderr[-3000:]

    return run


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A git checkout of the files as they are now, with one that git does not track."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("git says which files belong to the bundle, and this is no checkout")
    folder = tmp_path_factory.mktemp("checkout")
    for name in filter(None, git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    (folder / "bundle" / "draft.py").write_text("untracked = True\n")
    return folder


@pytest.fixture
def pack(checkout, monkeypatch, capsys):
    """Run the program on the checkout and return the zip, what it printed and its notes."""

    def run(output_dir: Path) -> tuple[Path, str, str]:
        monkeypatch.setattr(pack_bundle, "ROOT", checkout)
        assert main(["--output-dir", str(output_dir)]) == 0
        printed = capsys.readouterr()
        return Path(printed.out.split("  ")[0]), printed.out, printed.err

    return run


@pytest.fixture
def unpacked(pack, tmp_path):
    archive, *_ = pack(tmp_path / "dist")
    shutil.unpack_archive(archive, tmp_path / "anywhere")
    return tmp_path / "anywhere" / NAME


def test_two_runs_give_the_same_bytes_whatever_the_files_times_and_modes(pack, checkout, tmp_path):
    first, *_ = pack(tmp_path / "a")
    os.utime(checkout / "LICENSE", (1e9, 1e9))
    (checkout / "README.md").chmod(0o600)
    second, *_ = pack(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    stamp = second.stat().st_ino
    pack(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert second.stat().st_ino != stamp, "the zip is replaced, not written into"
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [second.name, f"{second.name}.sha256"]


def test_name_has_the_version_and_the_hash_is_printed_and_beside_it(pack, tmp_path):
    archive, printed, notes = pack(tmp_path)
    version = json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert archive.name == f"{NAME}_v{version}.zip"
    assert printed.splitlines()[-1] == f"sha256 {digest}"
    assert (tmp_path / f"{archive.name}.sha256").read_text() == f"{digest}  {archive.name}\n"
    assert notes == "note: left out, since git does not track them: bundle/draft.py\n"


def test_entries_are_sorted_tracked_and_of_the_bundle_alone(pack, tmp_path):
    archive, *_ = pack(tmp_path)
    with zipfile.ZipFile(archive) as entries:
        names = entries.namelist()
        assert {entry.compress_type for entry in entries.infolist()} == {zipfile.ZIP_STORED}
        assert not any(entry.external_attr >> 16 & 0o120000 == 0o120000 for entry in entries.infolist()), "a link"
    assert names == sorted(names)
    inside = [name.removeprefix(f"{NAME}/") for name in names]
    assert not any(name == whole for name, whole in zip(inside, names, strict=True)), "one folder at the top"
    assert "bundle/draft.py" not in inside
    assert {"models/model.pt", "models/model.json", "docs/README.md", "SHA256SUMS", "metadata.json"} <= set(inside)
    assert not {name.split("/")[0] for name in inside} & {"tests", "benchmarks", ".ci", ".gitignore", "Makefile"}


def test_checksums_list_every_other_file_and_agree(unpacked):
    listed = dict(reversed(line.split("  ")) for line in (unpacked / "SHA256SUMS").read_text().splitlines())
    found = {
        path.relative_to(unpacked).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in unpacked.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert listed == found
    assert (unpacked / "metadata.json").read_bytes() == (unpacked / "configs/metadata.json").read_bytes()


@pytest.mark.slow
def test_unpacked_bundle_segments_a_scan(python, unpacked, small_scan, tmp_path):
    python(
        unpacked, "monai.bundle", "run", "--config_file", "configs/inference.json",
        "--datalist", [str(small_scan)], "--output_dir", tmp_path / "out", "--pixdim", [3.0, 3.0, 3.0],
    )  # fmt: skip
    found = set(np.unique(np.asarray(nib.load(tmp_path / "out/small/small_seg.nii.gz").dataobj)))
    assert {0, 2, 3, 41, 42} <= found <= {label.code for label in read_labels()}


@pytest.mark.slow
def test_unit_test_for_the_zoo_passes_where_the_zoo_runs_it(python, unpacked, tmp_path):
    zoo = tmp_path / "zoo"
    (zoo / "ci" / "unit_tests").mkdir(parents=True)
    (zoo / "models").mkdir()
    shutil.move(unpacked, zoo / "models" / NAME)
    shutil.copy(zoo / "models" / NAME / "examples" / f"test_{NAME}.py", zoo / "ci/unit_tests")
    python(zoo, "unittest", f"ci/unit_tests/test_{NAME}.py")


LOAD = """
import sys, networks, torch
from monai.bundle import load
name, arguments = sys.argv[1:]
options = {"bundle_dir": "..", "load_ts_module": False, "device": "cpu"}
built = load(name, workflow_type="inference", args_file=arguments, **options)
filled = load(name, model=networks.TransformerUNet(attention="pooled"), **options)
state = torch.load("models/model.pt", weights_only=True)
for network in (built, filled):
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
"""


@pytest.mark.slow
def test_monai_loads_the_unpacked_bundle(python, unpacked, tmp_path):
    (tmp_path / "arguments.json").write_text('{"datalist": ["scan.nii.gz"]}')
    python(unpacked, "-c", LOAD, NAME, tmp_path / "arguments.json")


def test_outside_a_checkout_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pack_bundle, "ROOT", tmp_path)
    assert main(["--output-dir", str(tmp_path / "dist")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}: ")
    assert "checkout" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "dist").exists()


def test_checkout_of_something_else_is_refused(checkout, tmp_path, monkeypatch, capsys):
    git(tmp_path, "init", "-q")
    monkeypatch.setattr(pack_bundle, "ROOT", tmp_path)
    assert main(["--output-dir", str(tmp_path / "dist")]) == 1
    assert "git does not track LICENSE, configs/inference.json" in capsys.readouterr().err
