"""scripts.segment on good and bad files."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest


def _missing(path, _):
    pass


def _empty(path, _):
    path.write_bytes(b"")


def _truncated(path, scan):
    path.write_bytes(scan.read_bytes()[:20_000])


def _two_dimensional(path, _):
    nib.Nifti1Image(np.ones((20, 20), dtype=np.float32), np.eye(4)).to_filename(path)


def _four_dimensional(path, _):
    nib.Nifti1Image(np.random.default_rng(0).random((12, 12, 12, 3), dtype=np.float32), np.eye(4)).to_filename(path)


def _text(path, _):
    path.write_text("patient: none\n")


def _gzipped_text(path, _):
    path.write_bytes(gzip.compress(b"patient: none\n" * 100))


def _nan(path, scan):
    data = nib.load(scan).get_fdata(dtype=np.float32)
    data[3, 4, 5] = np.nan
    nib.Nifti1Image(data, nib.load(scan).affine).to_filename(path)


BAD = {
    "missing": (_missing, "no such file"),
    "empty": (_empty, "empty"),
    "truncated": (_truncated, "complete"),
    "two_dimensional": (_two_dimensional, "shape"),
    "four_dimensional": (_four_dimensional, "shape"),
    "text": (_text, "NIfTI"),
    "gzipped_text": (_gzipped_text, "NIfTI"),
    "nan": (_nan, "NaN"),
}


@pytest.fixture(scope="module")
def batch(run_module, small_scan, tmp_path_factory):
    """One run over all bad files, with a good one in their midst."""
    folder = tmp_path_factory.mktemp("batch")
    paths = []
    for name, (spoil, _) in BAD.items():
        paths.append(folder / f"{name}.nii.gz")
        spoil(paths[-1], small_scan)
    paths.insert(4, small_scan)
    return folder, run_module("scripts.segment", *paths, "--output-dir", folder / "out")


def test_one_bad_scan_does_not_stop_the_others(batch):
    folder, done = batch
    assert done.returncode == 1
    assert f"1 of {len(BAD) + 1} scans segmented" in done.stdout
    assert [path.name for path in (folder / "out").iterdir()] == ["small"]
    assert len(list((folder / "out" / "small").iterdir())) == 3


@pytest.mark.parametrize("name", BAD)
def test_bad_scan_is_one_line_with_its_name_and_the_reason(batch, name):
    folder, done = batch
    lines = [line for line in done.stderr.splitlines() if f"/{name}.nii.gz" in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"error: {folder / name}.nii.gz: ")
    assert BAD[name][1] in lines[0]
    assert "Traceback" not in done.stderr


def test_volumes_table_agrees_with_the_label_map(batch, small_scan):
    folder, _ = batch
    labels = np.asarray(nib.load(folder / "out/small/small_seg.nii.gz").dataobj)
    header, *rows = (folder / "out/small/small_volumes.tsv").read_text().splitlines()
    assert header.split("\t")[:4] == ["code", "name", "voxels", "volume_mm3"]
    assert len(rows) == 32
    for row in rows:
        code, _, voxels, volume, _ = row.split("\t")
        assert int(voxels) == (labels == int(code)).sum()
        assert float(volume) == pytest.approx(27 * int(voxels), rel=1e-5)


def test_existing_output_is_kept_unless_overwriting(batch, run_module, small_scan):
    folder, _ = batch
    table = folder / "out/small/small_volumes.tsv"
    table.write_text("mine")
    refused = run_module("scripts.segment", small_scan, "--output-dir", folder / "out")
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert table.read_text() == "mine"
    replaced = run_module(
        "scripts.segment", small_scan, "--output-dir", folder / "out", "--overwrite", "--device", "cpu"
    )
    assert replaced.returncode == 0, replaced.stderr
    assert table.read_text().startswith("code\t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "none.pt"], "none.pt: not found"),
        (["--device", "warp:0"], "warp"),
        (["--config", "none.json"], "none.json"),
    ],
)
def test_wrong_option_is_one_line(run_module, small_scan, tmp_path, arguments, message):
    done = run_module("scripts.segment", small_scan, "--output-dir", tmp_path / "out", *arguments)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert not (tmp_path / "out").exists()


def test_two_scans_of_one_name_are_refused(run_module, small_scan, tmp_path):
    done = run_module("scripts.segment", small_scan, tmp_path / small_scan.name, "--output-dir", tmp_path / "out")
    assert done.returncode == 1
    assert "one output for each scan is wanted" in done.stderr


def test_slightly_stale_pixdim_is_a_warning(run_module, small_scan, tmp_path):
    scan = nib.load(small_scan)
    scan.header["pixdim"][1] *= 1.005
    stale = tmp_path / "stale.nii"
    raw = bytearray(nib.Nifti1Image(scan.get_fdata(dtype=np.float32), scan.affine).to_bytes())
    raw[76:92] = scan.header["pixdim"][:4].tobytes()
    stale.write_bytes(raw)
    done = run_module("scripts.segment", stale, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "stale.nii: found pixdim" in warnings[0]
