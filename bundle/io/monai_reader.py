"""The reader that MONAI's ``LoadImaged`` uses, with this bundle's checks and choice of affine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from bundle.errors import InputError
from bundle.io.kept import read_and_keep
from bundle.io.names import volume_suffix
from bundle.io.read import Volume, check_reading, read_volume
from bundle.io.reading import reading_metadata


class NiftiReader(ImageReader):
    """Reads one 3D NIfTI or MGH file as :func:`bundle.io.read_volume` does.

    MONAI's ``NibabelReader`` puts the qform in place of the sform when pixdim is a little off; here the affine is the
    one that the geometry policy chooses.

    Args:
        assume_affine: accept a header without sform and qform.
        fill_nonfinite: set NaN and Inf to 0 instead of refusing them.
        frame: which volume of a file of four to seven axes, counted from 0.
        trust: ``"sform"`` or ``"qform"``: which is right where both are there.
        keep: keep a copy of what is read for :func:`bundle.io.kept.read_again`.

    Raises:
        OptionError: when ``frame`` or ``trust`` is none that could be.
    """

    def __init__(
        self,
        assume_affine: bool = False,
        fill_nonfinite: bool = False,
        frame: int | None = None,
        trust: str = "",
        keep: bool = False,
    ) -> None:
        super().__init__()
        check_reading(frame, trust)
        self.assume_affine = assume_affine
        self.fill_nonfinite = fill_nonfinite
        self.frame = frame
        self.trust = trust
        self.read_one = read_and_keep if keep else read_volume

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Say whether every name is that of a volume."""
        return all(volume_suffix(name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """Return the paths and open nothing.

        ``LoadImage`` answers an error in ``read`` by trying MONAI's own readers, which would accept a file that is
        refused here; an error in ``get_data`` reaches the caller as it is.
        """
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return intensities, float32 (X, Y, Z), and the metadata that ``MetaTensor`` and the spatial transforms need.

        Raises:
            InputError: when the file cannot be used, or there are several.
        """
        if len(img) != 1:
            raise InputError(img[0], f"found {len(img)} files for one image", "a single 3D volume is wanted", "shape")
        volume = self.read_one(img[0], self.assume_affine, self.fill_nonfinite, self.frame, self.trust)
        return volume.data, volume_metadata(volume, self.fill_nonfinite, self.frame, self.trust)


def volume_metadata(
    volume: Volume, fill_nonfinite: bool = False, frame: int | None = None, trust: str = ""
) -> dict[str, Any]:
    """Return the metadata that ``MetaTensor`` and the spatial transforms need of a volume and of how it was read."""
    return {
        **reading_metadata(volume, fill_nonfinite, frame, trust),
        MetaKeys.AFFINE: volume.affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: volume.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(volume.data.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
    }
