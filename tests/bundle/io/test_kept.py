"""The scan that was read last, for whoever writes its results."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

import bundle.io.kept as kept
from bundle.errors import InputError
from bundle.io.kept import read_again, read_and_keep
from bundle.io.read import read_volume
from bundle.io.reading import AS_STORED, Reading
from bundle.warned import warnings_kept
from tests.geometries import patch_header


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.nii.gz"
    write(path, 0)
    return path


def write(path, seed):
    data = np.random.default_rng(seed).integers(0, 900, (9, 8, 7)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0])), path)


@pytest.fixture
def readings(monkeypatch):
    """Paths that are read from now on."""
    paths = []

    def counted(path, *options):
        paths.append(path)
        return read_volume(path, *options)

    monkeypatch.setattr(kept, "read_volume", counted)
    return paths


def test_what_was_read_last_is_not_read_again(scan, readings):
    first = read_and_keep(scan)
    expected = first.data.copy()
    first.data[:] = -1  # as a transform may
    volume, warned = read_again(scan, AS_STORED)
    assert readings == [scan]
    assert np.array_equal(volume.data, expected)
    assert volume.data.flags.f_contiguous
    assert (volume.path, volume.filled, warned) == (first.path, 0, [])
    assert np.array_equal(read_again(scan, AS_STORED)[0].data, expected)  # kept no longer
    assert len(readings) == 2


@pytest.mark.parametrize("reading", [Reading(fill_nonfinite=True), Reading(trust="qform")])
def test_other_options_read_it(scan, readings, reading):
    read_and_keep(scan)
    read_again(scan, reading)
    assert len(readings) == 2


def test_a_file_that_has_changed_is_read(scan, readings):
    read_and_keep(scan)
    write(scan, 1)
    volume, _ = read_again(scan, AS_STORED)
    assert len(readings) == 2
    assert np.array_equal(volume.data, nib.load(scan).get_fdata())
    read_and_keep(scan)
    os.unlink(scan)
    with pytest.raises(InputError, match="no such file"):
        read_again(scan, AS_STORED)


def test_another_scan_and_a_large_one_are_read(scan, readings, monkeypatch):
    other = scan.with_name("other.nii.gz")
    write(other, 2)
    read_and_keep(scan)
    assert np.array_equal(read_again(other, AS_STORED)[0].data, nib.load(other).get_fdata())
    monkeypatch.setattr(kept, "LARGEST", 9 * 8 * 7 * 4 - 1)
    read_and_keep(scan)
    read_again(scan, AS_STORED)
    assert len(readings) == 4


def test_warnings_are_given_once_and_kept_for_the_record(scan):
    patch_header(scan, pixdim=[1, 1.015, 2, 3, 1, 1, 1, 1])
    with warnings_kept() as expected:
        read_volume(scan)
    assert expected
    with warnings_kept() as given:
        read_and_keep(scan)
    with warnings_kept() as more:
        _, warned = read_again(scan, AS_STORED)
    assert [str(one) for one in given] == [str(one) for one in warned] == [str(one) for one in expected]
    assert more == []
