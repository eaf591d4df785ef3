"""Small scans with bits flipped, ends cut off and header fields changed: refused in the family, or read right."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from nibabel.nifti1 import header_dtype

from bundle.errors import CODES, InputError
from bundle.io import Volume, read_volume
from tests.inputs.case import NIFTI1_VOXELS, content, head

FAST, FULL = (40, 40, 200), (400, 400, 2000)
"""Bit flips, truncations, header mutations."""
UNCHECKED = {4, 5, 6, 7, 8, 9}
"""Bytes of a gzip header that no checksum covers and that say nothing about the content: time, level, system."""
FLAGS, TEXT = 3, 0
"""The byte of gzip's flags, and the bit in it that only says that the content is text."""
SPECIAL = (0, 1, -1, 2**15 - 1, -(2**15), 2**31 - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 1e-40, 1e38, -1e38, 1e-3, 352.0, 353.0, 2**20, np.inf, -np.inf, np.nan)


def scan_bytes() -> bytes:
    return content(data=head()[4:12, 4:12, 4:12].astype(np.int16), qform=1)


def attempt(path: Path) -> Volume | None:
    """Read a file, or return ``None`` for one that was refused properly; any other error ends the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read_volume(path)
        except InputError as error:
            refusal = error
    message = str(refusal)
    assert message.startswith(f"{path}: ")
    assert message.endswith(" wanted")
    assert "\n" not in message
    assert refusal.code in CODES
    return None


def bounded(count: int):
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def flip_bits(path: Path, count: int) -> None:
    plain, accepted = scan_bytes(), []
    whole = gzip.compress(plain, 6, mtime=0)
    path.write_bytes(whole)
    original = read_volume(path)

    @seed(16)
    @bounded(count)
    @given(st.integers(0, len(whole) * 8 - 1))
    def flip(place: int) -> None:
        byte, bit = divmod(place, 8)
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :])
        volume = attempt(path)
        if volume is None:
            assert byte not in UNCHECKED
            assert (byte, bit) != (FLAGS, TEXT)
        else:  # some bits of a deflate stream say nothing: what comes out is the same, checksum and all
            assert gzip.decompress(path.read_bytes()) == plain, f"bit {bit} of byte {byte}"
            np.testing.assert_array_equal(volume.data, original.data)
            np.testing.assert_array_equal(volume.affine, original.affine)
            accepted.append(byte)

    flip()
    assert len([byte for byte in accepted if byte not in (*UNCHECKED, FLAGS)]) <= count // 50


def cut_off(path: Path, count: int) -> None:
    whole, plain = gzip.compress(scan_bytes(), 6, mtime=0), scan_bytes()

    @seed(16)
    @bounded(count)
    @given(st.booleans(), st.floats(0, 1, exclude_max=True))
    def cut(compressed: bool, share: float) -> None:
        block = whole if compressed else plain
        target = path if compressed else path.with_name("scan.nii")
        target.write_bytes(block[: int(share * len(block))])
        assert attempt(target) is None, share

    cut()


@st.composite
def mutations(draw) -> tuple[str, np.ndarray]:
    """Draw a field of the header and another value of it, any bytes or one of those that programs stumble over."""
    name = draw(st.sampled_from(header_dtype.names))
    field = header_dtype[name]
    values = np.frombuffer(draw(st.binary(min_size=field.itemsize, max_size=field.itemsize)), np.uint8).view(field.base)
    if field.base.kind in "iuf" and draw(st.booleans()):
        chosen = st.sampled_from(REALS if field.base.kind == "f" else SPECIAL) | st.integers(-4, 400)
        values = values.copy()
        index = draw(st.integers(0, len(values) - 1))
        original = np.frombuffer(scan_bytes()[:348], header_dtype)[name].reshape(-1)
        values[:] = original
        with np.errstate(over="ignore"):
            values[index] = np.array(draw(chosen)).astype(field.base)
    return name, values


def read_as_nibabel(path: Path, volume: Volume) -> None:
    """Hold what was read equal to nibabel, which repairs some headers."""
    block = bytearray(path.read_bytes())
    if np.frombuffer(block, "<f4", 1, 108)[0] == 0:  # nibabel would take the header for voxels
        block[108:112] = np.float32(NIFTI1_VOXELS).tobytes()
    image = nib.Nifti1Image.from_bytes(bytes(block))
    data = np.asarray(image.dataobj, dtype=np.float64).reshape(volume.data.shape, order="F")
    np.testing.assert_allclose(volume.data, data, rtol=1e-5, atol=1e-5 * np.abs(data).max())
    header = nib.Nifti1Header(bytes(block[:348]), check=False)
    stored = header.get_sform() if header["sform_code"] > 0 else image.get_qform()
    np.testing.assert_allclose(volume.affine, stored, rtol=1e-5, atol=1e-3)


def change_headers(path: Path, count: int) -> None:
    whole, accepted, refused = scan_bytes(), set(), set()
    offsets = {name: header_dtype.fields[name][1] for name in header_dtype.names}

    @seed(16)
    @bounded(count)
    @given(mutations())
    def change(mutation: tuple[str, np.ndarray]) -> None:
        name, values = mutation
        start = offsets[name]
        path.write_bytes(whole[:start] + values.tobytes() + whole[start + values.nbytes :])
        volume = attempt(path)
        (refused if volume is None else accepted).add(name)
        if volume is not None:
            read_as_nibabel(path, volume)

    change()
    if count < FULL[2]:
        assert accepted
        assert refused
        return
    assert {"descrip", "aux_file", "cal_max"} <= accepted
    assert {"sizeof_hdr", "dim", "datatype", "bitpix", "vox_offset", "magic", "pixdim"} <= refused


@pytest.mark.parametrize("counts", [FAST, pytest.param(FULL, marks=pytest.mark.slow)], ids=["few", "all"])
def test_damaged_scans_are_refused_or_read_right(tmp_path, counts):
    flips, cuts, changes = counts
    flip_bits(tmp_path / "scan.nii.gz", flips)
    cut_off(tmp_path / "cut.nii.gz", cuts)
    change_headers(tmp_path / "header.nii", changes)
