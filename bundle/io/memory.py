"""Scans that are in memory, an array or nibabel's image, held to what files are held to; label maps on their voxels.

``tests/bundle/io/test_memory.py`` holds volume and label map equal to those of the same scan in a file.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.arrayproxy import is_proxy
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from numpy.typing import NDArray

from bundle.errors import InputError, OptionError
from bundle.io.geometry import place_volume
from bundle.io.mgh import as_nifti
from bundle.io.nifti import WIDEST_VOXEL, Stored, one_volume
from bundle.io.read import Volume, check_reading, read_volume, scaled_volume
from bundle.io.stream import within_memory
from bundle.io.write import label_header, trusted_header

IMAGE, AFFINE = Path("image"), Path("affine")
"""What messages call the arguments."""
ALIGNED = 2
"""Code of a form: another space than the scanner's, maybe."""
SAME_AFFINE = 1e-5
"""Relative, and mm: nearer affines are one, but for single precision."""


def load_volume(
    image: Any,
    affine: Any = None,
    assume_affine: bool = False,
    fill_nonfinite: bool = False,
    frame: int | None = None,
    trust: str = "",
) -> Volume:
    """Return a scan, whatever it comes in; what is given stays as it is.

    Args:
        image: array (X, Y, Z) or tensor on the CPU, nibabel's image of a NIfTI or MGH file, or path of such a file.
        affine: voxel to world of an array, mm, RAS+, shape (4, 4); images and files have their own.
        assume_affine: see :func:`bundle.io.read.read_volume`, as for the next three.
        fill_nonfinite: as there.
        frame: as there.
        trust: as there.

    Raises:
        InputError: when its geometry or its voxels cannot be used, for the reasons for which files are refused.
        OptionError: when an argument is none that could be.
    """
    check_reading(frame, trust)
    in_array = not isinstance(image, (str, Path, Nifti1Pair, MGHImage))
    if affine is not None and not in_array:
        raise OptionError(AFFINE, "found one beside a scan that has its own", "none is wanted, or an array")
    if isinstance(image, (str, Path)):
        return read_volume(Path(image).expanduser(), assume_affine, fill_nonfinite, frame, trust)
    with within_memory(IMAGE):
        if in_array:
            voxels, scaling = _array(image), None
            header = _header_of(affine, voxels.shape)
        else:
            voxels, scaling = _stored(image)
            header = _header(image, voxels.shape)
        if voxels.dtype.kind not in "iuf" or voxels.dtype.itemsize > WIDEST_VOXEL:
            raise InputError(IMAGE, f"found voxels of type {voxels.dtype}", "real numbers are wanted", "type")
        header, shape = one_volume(Stored(header, voxels.shape, voxels.dtype, IMAGE, 0), IMAGE, frame)
        grid = place_volume(header, AFFINE if in_array else IMAGE, shape[:3], assume_affine, trust)
        voxels = voxels.reshape((*shape[:3], -1), order="F")[..., frame or 0]
        voxels = voxels.copy() if fill_nonfinite else voxels
        return scaled_volume(voxels, scaling, header, replace(grid, path=IMAGE), fill_nonfinite, in_file=False)


def label_image(labels: NDArray[Any], volume: Volume, trust: str = "") -> Nifti1Image:
    """Return a label map as an image with the header that :func:`bundle.io.write_label_map` writes.

    Args:
        labels: codes, shape (X, Y, Z) of the scan.
        volume: the scan.
        trust: which form the labels were made by, where that was said.
    """
    header = label_header(trusted_header(volume.header, trust, volume.grid.form_difference))
    kind: type[Nifti1Image] = Nifti2Image if isinstance(header, Nifti2Header) else Nifti1Image
    codes = np.asarray(labels, dtype=np.int16).reshape(header.get_data_shape())
    return kind(codes, header.get_best_affine(), header)


def _array(image: Any) -> NDArray[Any]:
    """Return an array, or what has NumPy's interface, such as a tensor on the CPU."""
    try:
        array = np.asarray(image)
    except Exception as error:  # whatever the class of a stranger raises
        array = np.empty(0, dtype=object)
        reason = f" ({' '.join(str(error).split())})"
    else:
        reason = ""
    if array.dtype.kind in "OUSV" or not array.ndim:
        wanted = "an array, an image of nibabel's (NIfTI, MGH) or a path is wanted"
        raise OptionError(IMAGE, f"found {type(image).__name__}{reason}", wanted)
    return array


def _stored(image: Nifti1Pair | MGHImage) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Return the voxels of an image as they are stored, and the scaling that turns them into values."""
    proxy: Any = image.dataobj
    if not (is_proxy(proxy) and hasattr(proxy, "get_unscaled")):
        return np.asanyarray(proxy), None
    try:
        voxels = np.asanyarray(proxy.get_unscaled())
    except (OSError, EOFError, ValueError, zlib.error) as error:  # damaged, or gone since it was opened
        reason = " ".join(str(error).split())
        raise InputError(
            IMAGE, f"its voxels cannot be read ({reason})", "a complete file is wanted", "damaged"
        ) from error
    scaling = (float(proxy.slope), float(proxy.inter))
    return voxels, None if scaling == (1, 0) else scaling


def _header(image: Nifti1Pair | MGHImage, shape: tuple[int, ...]) -> Nifti1Header:
    """Return the header of an image, as NIfTI; its affine, if somebody changed that, as the sform."""
    own: Any = image.header
    is_mgh = isinstance(image, MGHImage)
    header: Nifti1Header = as_nifti(own, shape, image.get_data_dtype()) if is_mgh else own.copy()
    header.set_data_shape(shape)
    if image.affine is not None and not np.allclose(image.affine, header.get_best_affine(), SAME_AFFINE, SAME_AFFINE):
        _set_affine(header, image.affine)
    return header


def _header_of(affine: Any, shape: tuple[int, ...]) -> Nifti1Header:
    """Return a header that says what the affine of an array does."""
    if affine is None:
        raise OptionError(AFFINE, "found none", "voxel to world in mm, shape (4, 4), is wanted with an array")
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or matrix[3].tolist() != [0, 0, 0, 1]:
        found = f"found shape {matrix.shape}" if matrix.shape != (4, 4) else f"found the last row {matrix[3].tolist()}"
        raise OptionError(AFFINE, found, "voxel to world in mm, shape (4, 4), last row 0 0 0 1, is wanted")
    header = Nifti1Header()
    try:
        header.set_data_shape(shape)
    except Exception as error:  # an axis longer than NIfTI-1 allows, or more than seven of them
        raise InputError(IMAGE, f"found shape {shape}", "a single 3D volume is wanted", "shape") from error
    header.set_xyzt_units("mm")
    _set_affine(header, matrix)
    return header


def _set_affine(header: Nifti1Header, affine: NDArray[np.float64]) -> None:
    header.set_sform(affine, ALIGNED)
    header["qform_code"] = 0
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
