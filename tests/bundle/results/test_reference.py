"""Reference volumes: the table reads back, says what is wrong with it, and holds what its label maps hold."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from benchmarks.reference_volumes import measure_head, references
from bundle.errors import ExistsError, InputError, MissingError
from bundle.labels import read_labels
from bundle.results.reference import COLUMNS, DEFAULT_REFERENCES, Reference, read_references, write_references
from bundle.results.totals import REGIONS
from bundle.synthesis.tissues import read_tissues
from tests.conftest import SHARED_DATA
from tests.heads import AFFINE, CODES, head_codes

TABLE = read_labels()


def test_shipped_table_covers_the_label_table_and_adds_up_to_the_inside_of_the_skull():
    rows = read_references()
    assert {row.code: row.name for row in rows.values()} == {label.code: label.name for label in TABLE[1:]}
    assert sum(row.fraction for row in rows.values()) == pytest.approx(1, abs=1e-4)
    assert {row.heads for row in rows.values()} == {20}
    assert all(row.source and row.log_sd > 0.05 for row in rows.values())
    np.testing.assert_allclose(np.sum([row.centre for row in rows.values()], axis=0), 0, atol=2)


def test_z_is_of_the_logarithm():
    row = Reference(17, "Left-Hippocampus", 2, 0.002, 0.001, np.log(0.002), 0.25, (0, 0, 0), "made")
    assert row.z(5.0, 5.0) == 0
    assert row.z(10.0, 5.0) == pytest.approx(-row.z(2.5, 5.0)) == pytest.approx(np.log(2) / 0.25)
    assert row.z(0.0, 5.0) is None
    assert row.typical == pytest.approx(0.002)


def test_table_reads_back(tmp_path):
    row = Reference(17, "Left-Hippocampus", 2, 0.002, 0.001, -6.2, 0.25, (-1.5, 2.0, 3.5), "made")
    write_references([row], tmp_path / "own.tsv")
    assert read_references(tmp_path / "own.tsv") == {17: row}
    with pytest.raises(ExistsError):
        write_references([row], tmp_path / "own.tsv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("log_sd", "log_spread"), "cannot be read as reference volumes"),
        (("0.25", "0"), "Left-Hippocampus: shares and spreads above 0 are wanted"),
        (("-6.2", "nan"), "above 0 are wanted"),
        (("17", "x"), "cannot be read"),
    ],
)
def test_unusable_table_is_one_line(tmp_path, change, message):
    path = tmp_path / "own.tsv"
    row = Reference(17, "Left-Hippocampus", 2, 0.002, 0.001, -6.2, 0.25, (-1.5, 2.0, 3.5), "made")
    write_references([row], path)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=rf"^{path}: .*{message}"):
        read_references(path)
    with pytest.raises(MissingError):
        read_references(tmp_path / "none.tsv")


def test_program_measures_shares_and_places_of_label_maps(tmp_path):
    heads, shares = [], []
    for number, scale in enumerate((1.0, 1.1)):
        codes = head_codes()
        choroid = np.argwhere(codes == CODES["Left-Lateral-Ventricle"])[: 2 + number]
        codes[tuple(choroid.T)] = 31 + 105  # choroid plexus, part of the ventricle
        codes[0] = 511  # skin, outside
        codes = codes.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        affine = np.diag([scale] * 3 + [1.0]) @ AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
        nib.Nifti1Image(codes, affine).to_filename(tmp_path / f"{number}.nii.gz")
        heads.append(measure_head(tmp_path / f"{number}.nii.gz"))
        inside = np.isin(head_codes(), list(CODES.values())) & (head_codes() > 0)
        shares.append((head_codes() == CODES["Left-Lateral-Ventricle"]).sum() / inside.sum())
        shares.append((head_codes() == CODES["Right-Lateral-Ventricle"]).sum() / inside.sum())
    rows = {row.code: row for row in references(heads, "made")}
    for code in (4, 43):
        assert rows[code].fraction == pytest.approx(np.mean(shares))
        assert rows[code].log_mean == pytest.approx(np.log(shares).mean())
        assert rows[code].log_sd == pytest.approx(np.log(shares).std(ddof=1), abs=1e-12)
    offset = np.subtract(rows[42].centre, rows[3].centre)
    places = [nib.affines.apply_affine(AFFINE, np.argwhere(head_codes() == code)).mean(axis=0) for code in (3, 42)]
    np.testing.assert_allclose(offset, 1.05 * (places[1] - places[0]), atol=0.1)


@pytest.mark.slow
def test_shipped_rows_are_those_of_the_training_label_maps():
    folder = SHARED_DATA / "label_maps"
    if not folder.is_dir():
        pytest.skip("the label maps are not here; docs/training.md says where they come from")
    tissues, known = read_tissues(), {label.code for label in TABLE if label.region in REGIONS}
    logs = {2: [], 17: [], 24: []}
    for path in sorted(folder.glob("*.nii.gz")):
        counts = np.bincount(np.asarray(nib.load(path).dataobj)[::2, ::2, ::2].ravel().astype(np.int64))
        volumes = dict.fromkeys(known, 0)
        for code in np.flatnonzero(counts).tolist():
            if tissues[code].part_of in known:
                volumes[tissues[code].part_of] += counts[code]
        for code, partner in ((2, 41), (17, 53), (24, 24)):
            logs[code] += [np.log(volumes[side] / sum(volumes.values())) for side in (code, partner)]
    rows = read_references(DEFAULT_REFERENCES)
    for code, found in logs.items():
        assert len(found) == 40
        assert rows[code].log_mean == pytest.approx(np.mean(found), abs=0.01)
        assert rows[code].log_sd == pytest.approx(np.std(found), abs=0.02)


def test_columns_are_those_that_the_file_starts_with():
    assert DEFAULT_REFERENCES.read_text().splitlines()[0].split("\t") == list(COLUMNS)
