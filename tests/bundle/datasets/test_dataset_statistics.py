"""Statistics of a data set, against numpy, and the cache that keeps them."""

from __future__ import annotations

import json
import os

import nibabel as nib
import numpy as np
import pytest

import bundle.datasets.statistics as module
from bundle.datasets import compute_statistics, dataset_statistics, grid_extents, prepare_dataset, read_dataset
from tests.labelled import affine_of, make_pair, write_msd, write_nifti


@pytest.fixture
def folder(tmp_path):
    """Six cases, one of them stored with its axes in another order and 2 mm apart along one of them."""
    write_msd(tmp_path / "data")
    turned = np.array([[0, 2.0, 0, 3], [-1, 0, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    for kind, data in zip(("imagesTr", "labelsTr"), make_pair(5), strict=True):
        write_nifti(tmp_path / "data" / kind / "case_05.nii.gz", data, turned)
    return tmp_path / "data"


def pooled(folder):
    values = {}
    for kind in ("imagesTr", "labelsTr"):
        files = sorted((folder / kind).iterdir())
        values[kind] = np.concatenate([np.asarray(nib.load(path).dataobj, np.float64).ravel() for path in files])
    return values["imagesTr"], values["labelsTr"]


def test_statistics_equal_those_of_all_voxels_together(folder):
    statistics = compute_statistics(read_dataset(folder))
    image, label = pooled(folder)
    for found, wanted in ((statistics.image, image), (statistics.foreground, image[label > 0])):
        assert found.voxels == wanted.size
        assert found.mean == pytest.approx(wanted.mean(), rel=1e-9)
        assert found.sd == pytest.approx(wanted.std(), rel=1e-9)
        assert (found.minimum, found.maximum) == (wanted.min(), wanted.max())
        for q, value in found.percentiles.items():
            assert value == pytest.approx(np.percentile(wanted, float(q)), rel=1e-6)
    assert statistics.class_voxels == {str(code): int((label == code).sum()) for code in (0, 3, 7)}
    assert statistics.class_cases == {"0": 6, "3": 6, "7": 6}
    assert statistics.cases == 6


def test_spacing_and_shape_are_along_right_anterior_superior(folder):
    statistics = compute_statistics(read_dataset(folder))
    assert statistics.spacing.minimum == statistics.spacing.median == (1, 1, 1)
    assert statistics.spacing.maximum == (2, 1, 1)
    assert statistics.shape.minimum == (14, 14, 12)  # the turned case is 16 x 14 x 12
    assert statistics.shape.maximum == (16, 16, 12)
    assert grid_extents(read_dataset(folder)) == (statistics.spacing, statistics.shape)


def test_percentiles_of_large_cases_are_estimated(folder, monkeypatch):
    monkeypatch.setattr(module, "SAMPLED_VOXELS", 1000)
    statistics = compute_statistics(read_dataset(folder))
    image, _ = pooled(folder)
    assert statistics.image.percentiles["50"] == pytest.approx(np.median(image), abs=1.0)
    assert statistics.image.mean == pytest.approx(image.mean(), rel=1e-9)
    assert statistics == compute_statistics(read_dataset(folder))


def test_cache_is_used_until_a_file_changes(folder, tmp_path):
    cache = tmp_path / "cache"
    path = cache / "dataset_statistics.json"
    first = dataset_statistics(read_dataset(folder), cache)
    content = json.loads(path.read_text())
    content["statistics"]["image"]["mean"] = -1.0  # marks what comes from the file
    path.write_text(json.dumps(content))
    assert dataset_statistics(read_dataset(folder), cache).image.mean == -1.0

    image = folder / "imagesTr" / "case_01.nii.gz"
    write_nifti(image, make_pair(1)[0] + 10)
    os.utime(image, ns=(1, 1))
    changed = dataset_statistics(read_dataset(folder), cache)
    assert changed.image.mean == pytest.approx(first.image.mean + 10 / 6, abs=0.01)
    assert json.loads(path.read_text())["statistics"]["image"]["mean"] == changed.image.mean

    before = json.loads(path.read_text())["fingerprint"]
    os.utime(image, ns=(2, 2))  # as large as before, written anew
    dataset_statistics(read_dataset(folder), cache)
    assert json.loads(path.read_text())["fingerprint"] != before
    assert [file.name for file in cache.iterdir()] == ["dataset_statistics.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"fingerprint": 1}', "[]"])
def test_damaged_cache_is_computed_anew(folder, tmp_path, content):
    (tmp_path / "dataset_statistics.json").write_text(content)
    assert dataset_statistics(read_dataset(folder), tmp_path) == compute_statistics(read_dataset(folder))


def test_cache_within_the_dataset_is_refused(folder):
    with pytest.raises(ValueError, match="lies within the data set"):
        dataset_statistics(read_dataset(folder), folder / "cache")
    assert not (folder / "cache").exists()


def test_prepared_dataset_leaves_statistics_and_is_read_once(folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    dataset = prepare_dataset(folder, run)
    assert [path.name for path in run.iterdir()] == ["dataset_statistics.json"]
    opened = []
    monkeypatch.setattr("bundle.datasets.check.read_voxels", lambda path: opened.append(path))
    assert prepare_dataset(folder, run) == dataset
    assert opened == []


def test_unsound_file_is_found_after_a_sound_run(folder, tmp_path):
    prepare_dataset(folder, tmp_path / "run")
    write_nifti(folder / "labelsTr" / "case_01.nii.gz", make_pair(1)[1], affine_of(origin=4))
    with pytest.raises(ValueError, match=r"found 1 problem, .*case_01"):
        prepare_dataset(folder, tmp_path / "run")
    (folder / "labelsTr" / "case_01.nii.gz").unlink()
    with pytest.raises(ValueError, match="no such file"):
        prepare_dataset(folder, tmp_path / "run")


def test_extents_of_structures_are_boxes_in_mm_towards_right_anterior_superior(tmp_path):
    label = np.zeros((20, 24, 16), dtype=np.uint8)
    label[2:12, 3:8, 4:7], label[15:17, 20:23, 10:11] = 3, 7
    affine = np.array([[0, 0, 1.5, 0], [2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])  # axes towards A, S, R
    names = write_msd(tmp_path, 1)
    for folder, data in (("imagesTr", make_pair(0, label.shape)[0]), ("labelsTr", label)):
        write_nifti(tmp_path / folder / f"{names[0]}.nii.gz", data, affine)
    extents = compute_statistics(read_dataset(tmp_path)).class_extents
    assert set(extents) == {"3", "7"}
    assert extents["3"].median == (3 * 1.5, 10 * 2.0, 5 * 1.0)
    assert extents["7"].maximum == (1 * 1.5, 2 * 2.0, 3 * 1.0)
