"""Write a brain scan to try the bundle on: ``python -m scripts.sample_volume PATH [--overwrite]``.

It is the MNI152 T1 template at 1 mm that nilearn contains, without a download.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bundle.errors import OptionError
from scripts.command import make_parser, run_program

SUFFIXES = (".nii", ".nii.gz")
MNI_FORM_CODE = 4  # NIFTI_XFORM_MNI_152 of the NIfTI-1 standard


def write_sample_volume(path: Path, overwrite: bool = False) -> tuple[int, ...]:
    """Write the MNI152 T1 template (1 mm, float32 in [0, 1], RAS) as NIfTI and return its shape.

    The file appears under its name only when it is complete, and its bytes are the same each time.

    Raises:
        OptionError: when the name does not end in .nii or .nii.gz.
        ExistsError: when the file exists and `overwrite` is false.
    """
    if not path.name.endswith(SUFFIXES):
        raise OptionError(path, "found another extension", f"{' or '.join(SUFFIXES)} is wanted")
    from bundle.io.whole import whole_file

    with whole_file(path, overwrite) as unfinished:
        import nibabel
        import numpy as np
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=1)
        image = nibabel.Nifti1Image(template.get_fdata(dtype=np.float32), template.affine)
        image.set_sform(template.affine, code=MNI_FORM_CODE)
        image.set_qform(template.affine, code=MNI_FORM_CODE)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, unfinished)
    shape: tuple[int, ...] = image.shape
    return shape


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("sample_volume", __doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="the file to write, .nii or .nii.gz")
    parser.add_argument("--overwrite", action="store_true", help="replace PATH when it exists")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Write the volume and say what it is."""
    shape = write_sample_volume(options.path, options.overwrite)
    print(f"{options.path}  {' x '.join(map(str, shape))} voxels of 1 mm")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
