"""The sidecar of a label map says in the words of BIDS what the record says, and nothing else."""

from __future__ import annotations

import json

import numpy as np

from bundle.provenance import bundle_version
from bundle.results import save_outputs
from bundle.results.sidecar import bids_sidecar
from tests.heads import TABLE, write_head

DSEG_KEYS = {"Description", "Sources", "SpatialReference", "Manual", "CoordinateReportStrategy"}
"""Keys of the BIDS specification (1.9 and later) for segmentations among the derivatives that are not deprecated."""


def test_sidecar_follows_from_the_record_and_has_keys_of_bids(tmp_path):
    folder = tmp_path / "ward_7_jane_doe"
    folder.mkdir()
    codes = write_head(folder / "head.nii.gz", text="DOE^JANE")
    paths = save_outputs(codes, folder / "head.nii.gz", tmp_path / "out", TABLE)
    sidecar = json.loads(paths.sidecar.read_text())
    assert paths.sidecar.name == paths.label_map.name.replace(".nii.gz", ".json")
    assert sidecar == bids_sidecar(json.loads(paths.record.read_text()))
    assert sidecar.keys() - {"GeneratedBy"} <= DSEG_KEYS
    assert (sidecar["Sources"], sidecar["SpatialReference"], sidecar["Manual"]) == (["head.nii.gz"], "orig", False)
    (maker,) = sidecar["GeneratedBy"]
    assert (maker["Version"], bool(maker["Name"])) == (bundle_version(), True)
    assert b"jane" not in paths.sidecar.read_bytes().lower()


def test_sidecar_is_the_same_from_run_to_run(tmp_path):
    codes = write_head(tmp_path / "head.nii.gz")
    written = [save_outputs(codes, tmp_path / "head.nii.gz", tmp_path / name, TABLE).sidecar for name in "ab"]
    assert written[0].read_bytes() == written[1].read_bytes()
    assert np.any(codes)
