"""Volumes of structures, counted again voxel by voxel."""

import csv
import itertools

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import ExistsError
from bundle.io.whole import whole_file
from bundle.labels import Label, read_labels
from bundle.results import StructureVolume, structure_volumes, write_volumes
from bundle.results.volumes import count_voxels

TABLE = read_labels()
BLOCKS = [Label(0, 0, "Background", (0, 0, 0)), Label(1, 7, "A", (255, 0, 0)), Label(2, 3, "B", (0, 0, 255))]


def rotation(seed: int) -> np.ndarray:
    """Return a random rotation or reflection, shape (3, 3)."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]


def affine_of(matrix: np.ndarray) -> np.ndarray:
    return nib.affines.from_matvec(matrix, [12.5, -80.0, 33.0])


AFFINES = {
    "isotropic": affine_of(np.eye(3)),
    "anisotropic": affine_of(np.diag([0.4, 0.9, 6.0])),
    "left-handed": affine_of(np.diag([-1.2, 1.0, 1.5])),
    "permuted": affine_of(np.diag([0.8, 1.1, 3.0])[[2, 0, 1]]),
    "oblique": affine_of(rotation(3) @ np.diag([1.0, 1.3, 2.0])),
    "sheared": affine_of(np.array([[1.0, 0.04, 0.0], [0.0, 1.5, 0.03], [0.0, 0.0, -2.0]])),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_volumes_match_brute_force(affine):
    rng = np.random.default_rng()
    labels = rng.choice([label.code for label in TABLE[:20]], size=(7, 5, 6)).astype(np.int16)
    edges = affine[:3, :3].T
    voxel = abs(np.dot(np.cross(edges[0], edges[1]), edges[2]))

    counts = dict.fromkeys((label.code for label in TABLE), 0)
    for index in itertools.product(*map(range, labels.shape)):
        counts[int(labels[index])] += 1
    rows = structure_volumes(labels, affine, TABLE)

    assert [(row.code, row.name) for row in rows] == [(label.code, label.name) for label in TABLE[1:]]
    assert [row.voxels for row in rows] == [counts[row.code] for row in rows]
    np.testing.assert_allclose([row.volume_mm3 for row in rows], [counts[row.code] * voxel for row in rows], rtol=1e-12)
    assert all(type(row.voxels) is int and type(row.touches_border) is bool for row in rows)


def test_fraction_and_asymmetry_match_their_definition():
    labels = np.random.default_rng().choice([label.code for label in TABLE], size=(16, 15, 14)).astype(np.int16)
    labels[np.isin(labels, [18, 54, 44])] = 0  # no amygdala at all, the inferior horn on the left alone
    rows = {row.name: row for row in structure_volumes(labels, AFFINES["oblique"], TABLE)}
    for name, row in rows.items():
        assert row.fraction == pytest.approx((labels == row.code).sum() / (labels > 0).sum())
        side, _, other = name.partition("-")
        if side not in ("Left", "Right"):
            assert row.asymmetry is None
            continue
        left, right = (rows[f"{which}-{other}"].voxels for which in ("Left", "Right"))
        wanted = (left - right) / ((left + right) / 2) if left + right else None
        assert row.asymmetry == pytest.approx(wanted) if wanted is not None else row.asymmetry is None
    assert rows["Left-Inf-Lat-Vent"].asymmetry == 2
    assert rows["Right-Amygdala"].asymmetry is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_volumes_do_not_depend_on_storage(dtype, order):
    labels = np.random.default_rng(1).choice([0, 3, 7], size=(4, 5, 6))
    expected = structure_volumes(labels, np.eye(4), BLOCKS)
    assert structure_volumes(np.asarray(labels, dtype=dtype, order=order), np.eye(4), BLOCKS) == expected


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_border_flag_is_set_on_each_face(axis, end):
    labels = np.zeros((6, 7, 8), dtype=np.int16)
    labels[2:4, 2:4, 2:4] = 7
    where = [3, 3, 3]
    where[axis] = end
    labels[tuple(where)] = 3
    flags = {row.code: row.touches_border for row in structure_volumes(labels, np.eye(4), BLOCKS)}
    assert flags == {7: False, 3: True}


def test_border_flag_is_not_set_one_slice_inside():
    labels = np.zeros((6, 7, 8), dtype=np.int16)
    labels[1:-1, 1:-1, 1:-1] = 7
    assert not structure_volumes(labels, np.eye(4), BLOCKS)[0].touches_border


def test_empty_label_map_gives_zero_rows():
    rows = structure_volumes(np.zeros((3, 3, 3), dtype=np.int16), np.eye(4), BLOCKS)
    assert rows == [StructureVolume(7, "A", 0, 0.0, False), StructureVolume(3, "B", 0, 0.0, False)]


def test_unknown_codes_are_listed():
    labels = np.zeros((3, 3, 3), dtype=np.int16)
    labels[0, 0, 0], labels[1, 1, 1], labels[2, 2, 2] = 255, -4, 7
    with pytest.raises(ValueError, match=r"codes \[-4, 255\] are not in the label table"):
        structure_volumes(labels, np.eye(4), BLOCKS)


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (np.zeros((3, 3, 3)), np.eye(4), "label_map: must be integer codes, found dtype float64"),
        (
            np.zeros((3, 3, 3, 1), dtype=int),
            np.eye(4),
            r"label_map: must have 3 dimensions, found shape \(3, 3, 3, 1\)",
        ),
        (np.zeros((3, 3, 3), dtype=int), np.eye(3), r"affine: must have shape \(4, 4\)"),
        (np.zeros((3, 3, 3), dtype=int), np.diag([1.0, 0.0, 1.0, 1.0]), "affine: must be finite and invertible"),
        (np.zeros((3, 3, 3), dtype=int), np.diag([1.0, np.nan, 1.0, 1.0]), "affine: must be finite and invertible"),
    ],
)
def test_bad_arguments_are_refused(labels, affine, message):
    with pytest.raises(ValueError, match=message):
        structure_volumes(labels, affine, BLOCKS)


def test_written_table_reads_back(tmp_path):
    rows = [
        StructureVolume(
            2, "Left-Cerebral-White-Matter", 1000, 1234.56789, True, 0.25, -0.12345678, 1300.0, 1.2345, 0.98765
        ),
        StructureVolume(3, "B", 0, 0.0, False),
    ]
    path = tmp_path / "volumes.tsv"
    write_volumes(rows, path, flags={2: ["cut", "sides"]})
    assert path.read_bytes().count(b"\r") == 0
    with open(path, newline="") as file:
        assert list(csv.reader(file, delimiter="\t")) == [
            ["code", "name", "voxels", "volume_mm3", "touches_border", "fraction", "asymmetry", "z", "confidence",
             "flags"],
            ["2", "Left-Cerebral-White-Matter", "1000", "1234.568", "true", "0.250000", "-0.1235", "1.23", "0.9877",
             "cut;sides"],
            ["3", "B", "0", "0.000", "false", "", "", "", "", ""],
        ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [path]


def test_existing_table_is_kept_unless_told(tmp_path):
    path = tmp_path / "volumes.tsv"
    path.write_text("mine")
    with pytest.raises(ExistsError) as refusal:
        write_volumes([], path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert path.read_text() == "mine"
    write_volumes([], path, overwrite=True)
    assert path.read_text().startswith("code\tname")


def test_failed_write_leaves_the_old_file_and_no_scraps(tmp_path):
    path = tmp_path / "volumes.tsv"
    path.write_text("old")

    def write_half():
        with whole_file(path, overwrite=True) as unfinished:
            unfinished.write_text("half a fi")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


DRAWING = """
import sys
for name in [name for name in sys.modules if name.startswith("matplotlib")]:
    del sys.modules[name]
import bundle.results.volumes
print("matplotlib.backends.backend_agg" in sys.modules)
"""


def test_results_load_no_drawing_backend(host):
    assert host.run("-c", DRAWING).stdout == "False\n"


@pytest.mark.parametrize("codes", [(0, 3, 7), (-2, 0, 250), (0, 5, 70_000), (0, -(2**40), 2**40)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_voxels_are_counted_whatever_the_codes_and_however_they_lie(codes, order):
    table = [Label(channel, code, str(code), (0, 0, 0)) for channel, code in enumerate(codes)]
    label_map = np.array(np.random.default_rng().choice(codes, size=(6, 7, 5)), order=order)
    assert count_voxels(label_map, table) == {code: int((label_map == code).sum()) for code in codes}
