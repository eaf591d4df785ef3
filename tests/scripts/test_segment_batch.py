"""scripts.segment on a batch, whose stages run beside one another: what belongs to a scan stays with it, in order."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import pytest

from bundle.errors import GeometryWarning
from bundle.inference.segmenter import Segmenter

NAMES = ("a", "b", "c", "d", "e")
ODD = ("b", "e")
"""Those whose pixdim differs from their affine by more than rounding, which is a warning."""


@pytest.fixture(scope="module")
def scans(tiny_scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    paths = {name: folder / f"{name}.nii" for name in NAMES}
    image = nib.load(tiny_scan)
    for name, path in paths.items():
        data = image.get_fdata(dtype="float32") * (1 + NAMES.index(name))
        written = nib.Nifti1Image(data, image.affine, image.header)
        if name in ODD:
            written.header["pixdim"][1:4] *= 1.01
        written.to_filename(path)
    paths["c"].write_bytes(paths["c"].read_bytes()[:9000])
    return paths


def test_results_warnings_and_errors_are_those_of_single_runs_in_order(scans, tiny_config, run_main, tmp_path):
    done = run_main(
        "scripts.segment", *scans.values(), "--config", tiny_config, "--device", "cpu", "--output-dir", tmp_path
    )
    assert done.returncode == 1
    assert [line.split("/")[-1][0] for line in done.stdout.splitlines() if "_seg.nii.gz" in line] == [
        "a",
        "b",
        "d",
        "e",
    ]
    said = [line for line in done.stderr.splitlines() if "look twice" not in line]
    kinds = [(line.split(":")[0], name) for line in said for name in NAMES if f"/{name}.nii" in line]
    assert kinds == [("warning", "b"), ("error", "c"), ("warning", "e")]
    assert done.stdout.splitlines()[-1].startswith("4 of 5 scans segmented")
    segmenter = Segmenter(str(tiny_config), output_dir=str(tmp_path / "alone"), device="cpu")
    for name in ("a", "b", "d", "e"):
        if name in ODD:
            with pytest.warns(GeometryWarning, match=rf"/{name}\.nii: found pixdim"):
                alone = segmenter.segment(scans[name])
        else:
            alone = segmenter.segment(scans[name])
        together = tmp_path / name / f"{name}_record.json"
        records = [json.loads(path.read_text()) for path in (alone.record, together)]
        assert [len(record["input"]["warnings"]) for record in records] == [int(name in ODD)] * 2
        stages = records[1]["run"]["stages"]
        assert set(stages) == {"read", "network", "restore", "write"}
        assert all(stage["seconds"] is not None for stage in stages.values())
        for record in records:
            del record["run"]
            del record["config"]  # its overrides differ
        assert records[0] == records[1]


def test_stages_of_the_segmenter_make_what_segment_does(tiny_scan, tiny_config, tmp_path):
    segmenter = Segmenter(str(tiny_config), output_dir=str(tmp_path / "stages"), device="cpu")
    read = segmenter.read(tiny_scan)
    assert not (tmp_path / "stages").exists()
    paths = segmenter.write(segmenter.compute(read))
    whole = Segmenter(str(tiny_config), output_dir=str(tmp_path / "whole"), device="cpu").segment(tiny_scan)
    assert paths.label_map.read_bytes() == whole.label_map.read_bytes()
    assert [path.name for path in sorted(paths.record.parent.iterdir())] == [
        path.name for path in sorted(whole.record.parent.iterdir())
    ]
    shutil.rmtree(tmp_path / "stages")
