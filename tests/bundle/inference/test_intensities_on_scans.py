"""Labels of real scans whose intensities were disturbed, through the real network: as good as those of the scan itself.

At 2 mm, for time; ``python -m benchmarks.intensities`` has more ways, at the model's own voxel size.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from benchmarks.disturbances import INTENSITIES
from benchmarks.intensities import CSF
from benchmarks.overlap import dice_by_code, voxels
from bundle.errors import IntensityWarning
from bundle.inference.segmenter import Segmenter
from bundle.labels import read_labels
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::bundle.errors.FlagWarning")]
CODES = [label.code for label in read_labels()[1:] if label.code != CSF]
BARS = {
    "standardised in its mask": (0.97, "not black"),
    "-1024 around": (0.97, "not black"),
    "rim 1.5 mm, 3 x": (0.87, "what shines around the brain"),
}


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """Return the label map of an image, and what the record says of its intensities."""
    folder = tmp_path_factory.mktemp("intensities")
    segmenter = Segmenter(
        ROOT / "configs/inference.json", output_dir=str(folder), bundle_root=str(ROOT), overwrite=True,
        pixdim=[2.0, 2.0, 2.0], precision="float32", device="cpu",
    )  # fmt: skip

    def run(image, affine):
        scan = nib.Nifti1Image(np.asarray(image, dtype=np.float32), affine)
        scan.header.set_xyzt_units("mm")
        scan.to_filename(folder / "scan.nii")
        outputs = segmenter.segment(folder / "scan.nii")
        return voxels(outputs.label_map), json.loads(outputs.record.read_text())["steps"]["intensities"]

    return run


@pytest.fixture(scope="module")
def clean(segment, sample):
    scan = nib.load(sample)
    image = scan.get_fdata(dtype=np.float32)
    labels, scale = segment(image, scan.affine)
    assert (scale["source"], scale["background"]) == ("percentiles", None)
    return image, labels, scan.affine


@pytest.mark.parametrize("condition", BARS)
def test_disturbed_scan_keeps_the_labels_of_the_scan(segment, clean, condition):
    bar, warned = BARS[condition]
    image, reference, affine = INTENSITIES[condition](clean, 0)
    with pytest.warns(IntensityWarning, match=warned):
        labels, scale = segment(image, affine)
    assert np.nanmean(dice_by_code(labels, reference, CODES)) >= bar
    assert (scale["source"] == "inside") == ("3 x" in condition)
    assert (scale["background"] is not None) == ("3 x" not in condition)
