"""Each odd input through the reader: refused in one line that says what helps, or read as nibabel reads it."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import CODES, GeometryWarning, InputError
from bundle.io import read_volume
from bundle.io.names import header_and_image, volume_suffix
from tests.conftest import ROOT
from tests.inputs.case import AFFINE, NIFTI1_VOXELS, Case, head
from tests.inputs.corpus import ACCEPTED, ALL, DOCUMENT, table
from tests.inputs.places import both, turned

NOBODY = 65534
LEAST_CASES = 130
REFUSED = [case for case in ALL if case.code]
MOST_MEMORY = 1.2e9


@contextlib.contextmanager
def rights_of(case: Case) -> Iterator[None]:
    """Give up root's rights for a moment, where there are such."""
    if not case.as_nobody or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def nibabel_image(path: Path, case: Case) -> nib.spatialimages.SpatialImage:
    """Load a file with nibabel, under a name whose case it knows."""
    folder = path.parent / "reference"
    folder.mkdir()
    for half in {*header_and_image(path)}:
        content = half.read_bytes()
        if case.file == "offset_0.nii.gz":  # nibabel would take the header for voxels
            content = gzip.decompress(content)
            content = gzip.compress(content[:108] + np.float32(NIFTI1_VOXELS).tobytes() + content[112:])
        (folder / f"reference{volume_suffix(half)}").write_bytes(content)
    return nib.load(folder / f"reference{volume_suffix(path)}")


def nibabel_data(image: nib.spatialimages.SpatialImage, case: Case) -> np.ndarray:
    """Return what nibabel reads, with the case's options applied by hand."""
    data = np.asarray(image.dataobj, dtype=np.float64)
    frame = case.reading.get("frame") or 0
    data = data.reshape(*data.shape[:3], -1, order="F")[..., frame]
    return (np.where(np.isfinite(data), data, 0) if case.reading.get("fill_nonfinite") else data).astype(np.float32)


def nibabel_affine(image: nib.spatialimages.SpatialImage, case: Case) -> np.ndarray:
    return image.get_qform() if case.reading.get("trust") == "qform" else image.affine


def test_corpus_is_large_and_its_names_differ():
    assert len(ALL) >= LEAST_CASES
    assert len({case.name for case in ALL}) == len(ALL)
    assert {case.code for case in REFUSED} < set(CODES)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
@pytest.mark.filterwarnings("error")
def test_refused_in_one_line(tmp_path, case):
    path = case.write(tmp_path / "in") if "/" not in case.file else tmp_path / case.file
    if "/" in case.file:
        path.parent.write_bytes(b"a file, no folder")
    with rights_of(case), pytest.raises(InputError) as caught:
        read_volume(path, **case.reading)
    message = str(caught.value)
    assert caught.value.code == case.code, message
    assert case.says in message
    assert message.startswith(str(path.parent / path.name.split(".")[0]))
    assert "; " in message
    assert message.endswith((" wanted", " is wanted"))
    assert "\n" not in message


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_read_as_nibabel_reads_it(tmp_path, case):
    path = case.write(tmp_path)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always", GeometryWarning)
        volume = read_volume(path, **case.reading)
    told = [warning for warning in given if warning.category is GeometryWarning]
    assert len(told) == case.says.startswith("warned of")
    image = nibabel_image(path, case)
    wanted = nibabel_affine(image, case)
    np.testing.assert_array_equal(volume.data, nibabel_data(image, case))
    np.testing.assert_allclose(volume.affine, wanted, rtol=1e-6, atol=1e-4)
    assert nib.aff2axcodes(volume.affine) == nib.aff2axcodes(wanted)
    assert volume.grid.shape == volume.data.shape


def test_filled_voxels_are_counted(tmp_path):
    case = next(case for case in ACCEPTED if case.reading.get("fill_nonfinite"))
    volume = read_volume(case.write(tmp_path), **case.reading)
    assert volume.filled == 3
    assert volume.data[0, 0, :3].tolist() == [0, 0, 0]
    sound = next(case for case in ACCEPTED if not case.reading)
    assert read_volume(sound.write(tmp_path), fill_nonfinite=True).filled == 0


def test_rotation_and_shift_between_the_forms_are_recorded(tmp_path):
    both(AFFINE, turned("z", 7.5), 4, 1)(tmp_path / "turned.nii")
    both(AFFINE, AFFINE + np.eye(4, k=3) * 3, 4, 1)(tmp_path / "moved.nii")
    both(AFFINE, AFFINE)(tmp_path / "same.nii")
    difference = {
        name: read_volume(tmp_path / f"{name}.nii").grid.form_difference for name in ("turned", "moved", "same")
    }
    centre = AFFINE @ [*(np.array(head().shape) - 1) / 2, 1]
    assert difference["turned"].degrees == pytest.approx(7.5, abs=1e-3)
    assert difference["turned"].mm == pytest.approx(
        np.linalg.norm((turned("z", 7.5) @ np.linalg.inv(AFFINE) - np.eye(4)) @ centre), abs=1e-2
    )
    assert difference["moved"].degrees == pytest.approx(0, abs=1e-3)
    assert difference["moved"].mm == pytest.approx(3, abs=1e-3)
    assert (difference["same"].degrees, difference["same"].mm) == pytest.approx((0, 0), abs=1e-3)
    assert not difference["same"].mirrored
    case = next(case for case in ACCEPTED if case.name == "sform trusted")
    assert read_volume(case.write(tmp_path), trust="sform").grid.form_difference.mirrored


def test_no_refusal_takes_much_memory(tmp_path):
    """One process refuses them all; its peak is that of the largest."""
    paths = [
        case.write(tmp_path / str(i)) for i, case in enumerate(REFUSED) if "/" not in case.file and not case.reading
    ]
    program = (
        "import sys\nfrom bundle.io import read_volume\n"
        "for path in sys.argv[1:]:\n"
        "    try: read_volume(path)\n"
        "    except ValueError: pass\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM:'))\n"
        "print(int(peak.split()[1]) * 1024)\n"  # getrusage counts what this process holds, which it is forked from
    )
    done = subprocess.run([sys.executable, "-c", program, *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < MOST_MEMORY
    assert done.stderr == ""


def test_document_is_that_of_the_corpus():
    assert DOCUMENT.read_text(encoding="utf-8") == table(), "python -m tests.inputs.corpus writes it"
