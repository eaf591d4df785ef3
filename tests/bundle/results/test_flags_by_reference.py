"""Flags that need more than the labels: what is usual, how sure the network was, what lies deep, what was assumed."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import FlagWarning
from bundle.io import NiftiReader
from bundle.io.reading import reading_of
from bundle.results import SaveOutputsd, save_outputs, structure_volumes
from bundle.results.evidence import Evidence
from bundle.results.flags import find_flags, read_limits
from bundle.results.record import Notes
from bundle.results.reference import Reference
from tests.heads import AFFINE, CODES, TABLE, head_codes, head_image, write_head

LIMITS = read_limits()
SPREAD = 0.1


def usual(codes, spacing=AFFINE):
    """Return references that a label map is the mean of."""
    rows = structure_volumes(codes, spacing, TABLE)
    centre = {row.code: np.argwhere(codes == row.code).mean(axis=0) * 4 for row in rows}
    return {
        row.code: Reference(row.code, row.name, 1, row.fraction, 0.1 * row.fraction, np.log(row.fraction), SPREAD,
                            tuple(centre[row.code]), "made")
        for row in rows
    }  # fmt: skip


USUAL = usual(head_codes())
SURE = dict.fromkeys(USUAL, 0.9)


def found(codes, image=None, affine=AFFINE, confidence=SURE, source="sform"):
    """Return value and structure of the flags by code."""
    rows = structure_volumes(codes, affine, TABLE, USUAL, confidence)
    image = head_image(codes) if image is None else image
    flags = {}
    for flag in find_flags(Evidence(image, codes, affine, TABLE, rows, references=USUAL, affine_source=source), LIMITS):
        flags.setdefault(flag.code, {})[flag.structure] = flag.value
    return flags


def test_usual_head_has_no_flag():
    assert found(head_codes()) == {}


def test_structure_that_the_network_is_unsure_of_is_flagged_by_the_threshold_of_its_region():
    unsure = SURE | {17: 0.3, 2: 0.6, 24: 0.1, 5: 0.1}
    assert found(head_codes(), confidence=unsure) == {
        "low_confidence": {"Left-Hippocampus": 0.3, "Left-Cerebral-White-Matter": 0.6}
    }
    assert found(head_codes(), confidence={}) == {}  # nobody measured it


def test_structure_under_a_fifth_of_its_usual_share_is_small_and_its_volume_unlike():
    codes = head_codes()
    names = [f"{side}-Cerebellum-White-Matter" for side in ("Left", "Right")]
    total = (codes == CODES[names[0]]).sum()
    for name in names:
        voxels = np.argwhere(codes == CODES[name])
        codes[tuple(voxels[total // 10 :].T)] = CODES[name.replace("White-Matter", "Cortex")]
    flags = found(codes)
    share = (total // 10) / total
    assert flags["small"] == {name: pytest.approx(share, abs=1e-3) for name in names}
    assert flags["volume"][names[0]] == pytest.approx(np.log(share) / SPREAD, abs=0.05)
    assert {name for by_structure in flags.values() for name in by_structure} == set(names)


def test_share_counts_and_not_the_size_of_the_head():
    assert set(found(head_codes(), affine=np.diag([1.15, 1.15, 1.15, 1]) @ AFFINE)) == set()


def test_fluid_that_a_stripping_tool_took_makes_no_tissue_large():
    stripped = np.where(head_codes() == CODES["CSF"], 0, head_codes()).astype(np.int16)
    rows = {row.name: row for row in structure_volumes(stripped, AFFINE, TABLE, USUAL)}
    assert rows["CSF"].z is None
    assert all(row.z == pytest.approx(0, abs=1e-6) for row in rows.values() if row.name != "CSF")
    swollen = head_codes()
    swollen[swollen == 0] = CODES["CSF"]  # more fluid than usual, as in atrophy, is inside the skull
    rows = {row.name: row for row in structure_volumes(swollen, AFFINE, TABLE, USUAL)}
    row = rows["Left-Putamen"]
    assert row.z == pytest.approx(np.log(row.fraction / USUAL[row.code].fraction) / SPREAD)
    assert row.expected_mm3 > row.volume_mm3


def test_structures_in_disorder_are_no_head():
    codes = head_codes()
    rng = np.random.default_rng()
    deep = [
        label.code for label in TABLE[1:] if label.region in ("subcortical grey matter", "ventricles", "brain stem")
    ]
    exchange = np.arange(codes.max() + 1)
    exchange[deep] = np.roll(deep, int(rng.integers(5, len(deep) - 5)))
    assert found(exchange[codes].astype(np.int16))["not_a_head"][None] > LIMITS["not_a_head"].threshold()
    assert "not_a_head" in found(np.zeros_like(codes))


def test_brain_that_is_dark_inside_is_flagged_though_what_is_bright_is_called_white_matter():
    codes = head_codes()
    x, y, z = np.moveaxis(nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices(codes.shape), 0, -1)), -1, 0)
    radius = np.sqrt((x / 64) ** 2 + ((y + 20) / 84) ** 2 + ((z - 15) / 56) ** 2)
    image = np.where(codes > 0, 0.2 + 0.6 * np.clip(radius, 0, 1), 0)
    cerebrum = np.isin(codes, [2, 3, 41, 42])
    bright = image > np.median(image[cerebrum])
    for white, cortex in ((2, 3), (41, 42)):
        side = np.isin(codes, [white, cortex])
        codes[side] = np.where(bright, white, cortex)[side]
    flags = found(codes, image)
    assert "contrast_white" not in flags
    assert flags["contrast_depth"][None] < 0


def test_depth_counts_as_a_share_of_the_contrast_whatever_units_and_voxels():
    codes = head_codes()
    coarse = Evidence(head_image(codes), codes, AFFINE, TABLE, structure_volumes(codes, AFFINE, TABLE))
    fine_codes = codes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    fine_affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    rows = structure_volumes(fine_codes, fine_affine, TABLE)
    fine = Evidence(1000 * head_image(fine_codes) - 70, fine_codes, fine_affine, TABLE, rows)
    assert fine.depth_contrast() == pytest.approx(coarse.depth_contrast(), abs=0.05)
    assert 0.3 < coarse.depth_contrast() < 0.7


def test_assumed_affine_leaves_sides_unknown():
    assert found(head_codes(), source="assumed") == {"orientation_unknown": {None: 1.0}}


def test_scan_without_an_affine_is_flagged_when_one_was_assumed(tmp_path):
    codes = head_codes()
    scan = nib.Nifti1Image(head_image(codes), None)
    scan.header["pixdim"][1:4] = 4
    scan.header.set_xyzt_units("mm")
    scan.header["sform_code"] = scan.header["qform_code"] = 0
    scan.to_filename(tmp_path / "head.nii")
    reader = NiftiReader(assume_affine=True)
    _, meta = reader.get_data(reader.read(str(tmp_path / "head.nii")))
    with pytest.warns(FlagWarning, match="orientation_unknown: the header does not say where left and right are"):
        paths = save_outputs(codes, tmp_path / "head.nii", tmp_path, TABLE, limits=LIMITS, reading=reading_of(meta))
    record = json.loads(paths.record.read_text())
    assert record["input"]["affine_source"] == "assumed"
    assert "orientation_unknown" in {flag["code"] for flag in record["flags"]}


def test_table_and_record_say_z_and_confidence(tmp_path):
    codes = write_head(tmp_path / "head.nii.gz")
    notes = Notes(confidence=SURE | {17: 0.31234})
    with pytest.warns(FlagWarning, match=r"low_confidence: .* \(Left-Hippocampus\)"):
        paths = save_outputs(
            codes, tmp_path / "head.nii.gz", tmp_path, TABLE, notes=notes, limits=LIMITS, references=USUAL
        )
    record = json.loads(paths.record.read_text())
    assert record["structures"]["Left-Hippocampus"]["confidence"] == 0.3123
    assert record["structures"]["Left-Hippocampus"]["z"] == pytest.approx(0, abs=0.01)
    assert set(record["structures"]) == {label.name for label in TABLE[1:]}
    header, *rows = (line.split("\t") for line in paths.volumes.read_text().splitlines())
    row = dict(zip(header, next(row for row in rows if row[1] == "Left-Hippocampus"), strict=True))
    assert (row["z"], row["confidence"], row["flags"]) == ("0.00", "0.3123", "low_confidence")


def test_config_may_name_other_reference_volumes_or_none():
    assert SaveOutputsd("pred", "out", reference_volumes=None).references == {}
    assert len(SaveOutputsd("pred", "out").references) == len(TABLE) - 1
