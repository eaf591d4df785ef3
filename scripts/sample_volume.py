"""Write a brain scan to try the bundle on: the MNI152 T1 template at 1 mm that nilearn contains, without a download.

Usage: python -m scripts.sample_volume PATH [--overwrite]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".nii", ".nii.gz")
MNI_FORM_CODE = 4  # NIFTI_XFORM_MNI_152 of the NIfTI-1 standard


def write_sample_volume(path: Path, overwrite: bool = False) -> tuple[int, ...]:
    """Write the MNI152 T1 template (1 mm, float32 in [0, 1], RAS) as NIfTI and return its shape.

    The file appears under its name only when it is complete, and its bytes are the same each time.

    Raises:
        ValueError: when the name does not end in .nii or .nii.gz.
        FileExistsError: when the file exists and `overwrite` is false.
    """
    suffix = next((suffix for suffix in reversed(SUFFIXES) if path.name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"{path}: the name must end in {' or '.join(SUFFIXES)}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")

    import nibabel
    import numpy as np
    from nilearn.datasets import load_mni152_template

    template = load_mni152_template(resolution=1)
    image = nibabel.Nifti1Image(template.get_fdata(dtype=np.float32), template.affine)
    image.set_sform(template.affine, code=MNI_FORM_CODE)
    image.set_qform(template.affine, code=MNI_FORM_CODE)
    image.header.set_xyzt_units("mm")

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        complete = Path(folder, f"volume{suffix}")
        nibabel.save(image, complete)
        os.replace(complete, path)
    return image.shape


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.sample_volume", description="Write nilearn's MNI152 T1 template at 1 mm as NIfTI."
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="the file to write, .nii or .nii.gz")
    parser.add_argument("--overwrite", action="store_true", help="replace PATH when it exists")
    options = parser.parse_args(arguments)
    try:
        shape = write_sample_volume(options.path, options.overwrite)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.path}  {' x '.join(map(str, shape))} voxels of 1 mm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
