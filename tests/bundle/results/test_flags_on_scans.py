"""Flags on real scans through the real network: none on sound ones, and some on nonsense.

``python -m benchmarks.robustness`` lists the flags of disturbed scans, ``python -m benchmarks.nonsense`` those of
nonsense. Coarser than the model's own voxels, good scans would be flagged too: the network finds less in them.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from benchmarks import nonsense, painted
from benchmarks.disturbances import averaged, biased, turned
from bundle.errors import FlagWarning
from bundle.inference.segmenter import Segmenter
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::bundle.errors.FlagWarning")]
SOUND = {
    "as it is": lambda pair: pair,
    "turned": lambda pair: turned(pair, (20, 0, 0)),
    "1 x 1 x 5 mm": lambda pair: averaged(pair, (1, 1, 5)),
    "biased": lambda pair: biased(pair, 1),
}


NONSENSE = {
    nonsense.upside_down: {"upside_down"},
    nonsense.one_hemisphere: {"one_side", "missing", "not_a_head"},
    nonsense.mask: {"low_confidence", "quality", "one_side"},
    nonsense.noise_in_the_head: {"not_a_head", "low_confidence", "quality"},
    nonsense.lower_half: {"cut"},
}


@pytest.fixture(scope="module")
def flagged(tmp_path_factory):
    """Return the codes of the flags of a scan, and whether a warning said so."""
    folder = tmp_path_factory.mktemp("flagged")
    segmenter = Segmenter(
        ROOT / "configs/inference.json", output_dir=str(folder), bundle_root=str(ROOT), overwrite=True,
        precision="float32", device="cpu",
    )  # fmt: skip

    def run(image, affine):
        scan = nib.Nifti1Image(np.asarray(image, dtype=np.float32), affine)
        scan.header.set_xyzt_units("mm")
        scan.to_filename(folder / "scan.nii.gz")
        record = json.loads(segmenter.segment(folder / "scan.nii.gz").record.read_text())
        return {flag["code"] for flag in record["flags"]}

    return run


def loaded(path):
    scan = nib.load(path)
    return scan.get_fdata(dtype=np.float32), scan.affine


@pytest.mark.parametrize("condition", SOUND)
def test_sound_scan_is_not_flagged(flagged, sample, condition):
    image, affine = loaded(sample)
    image, _, affine = SOUND[condition]((image, np.zeros(image.shape, dtype=np.int16), affine))
    assert flagged(image, affine) == set()


def test_inverted_scan_is_not_flagged(flagged, sample):
    image, affine = loaded(sample)
    case = painted.inverted(painted.Scan(image, np.zeros(image.shape, dtype=np.int16), affine))
    assert flagged(case.image, case.affine) == set()


def test_validation_scan_is_not_flagged(flagged, validation_dir):
    assert flagged(*loaded(validation_dir / "1036_T1.nii.gz")) == set()


@pytest.mark.parametrize("spoil", NONSENSE, ids=lambda spoil: spoil.__name__)
def test_nonsense_is_flagged(flagged, sample, spoil):
    image, affine = loaded(sample)
    case = spoil(painted.Scan(image, np.zeros(image.shape, dtype=np.int16), affine))
    with pytest.warns(FlagWarning, match=r"scan\.nii\.gz: look twice"):
        assert NONSENSE[spoil] <= flagged(case.image, case.affine)
