"""Odd inputs that are read, and read right: values and affine are nibabel's."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.geometries import make_geometries
from tests.inputs.case import AFFINE, NIFTI1_VOXELS, Case, Make, content, head, holding, plain, saved, zipped
from tests.inputs.places import FLIPPED, UPSIDE_DOWN, both, placed, turned
from tests.inputs.values import with_values

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
PERMUTED = ((1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))
LONG = "x" * (255 - len(".nii.gz")) + ".nii.gz"
BYTES = b"caf\xe9 \xff.nii.gz".decode("utf-8", "surrogateescape")
NAMES = {
    "spaces": "my scan of monday .nii.gz",
    "newline": "two\nlines.nii.gz",
    "quotes": 'it\'s "quoted".nii.gz',
    "bytes that are no UTF-8": BYTES,
    "$ in the name": "$import os$ $HOME.nii.gz",
    "@ in the name": "@output_dir.nii.gz",
    "% in the name": "%{sub}%s.nii.gz",
    "# and :: in the name": "a#0::b.nii.gz",
    "brackets and stars": "[a-z]*?{x}.nii.gz",
    "a name of 255 bytes": LONG,
    "letters of other scripts": "脑部-мозг-café.nii.gz",
    "a dash in front": "-o.nii.gz",
    "dots": "sub-01.ses-2.T1w.nii.nii.gz",
    "upper-case extension": "UPPER.NII.GZ",
    "mixed-case extension": "Mixed.Nii.gz",
    "upper-case extension without compression": "PLAIN.NII",
}


def _typed(dtype: str, endianness: str) -> Make:
    return saved(head().astype(dtype), endianness=endianness)


def _named(path: Path) -> None:
    path.write_bytes(plain() if path.name.lower().endswith(".nii") else zipped())


def _geometry(name: str) -> Make:
    def make(path: Path) -> None:
        made = make_geometries(path.parent / "geometries", head().astype(np.float32), AFFINE @ np.diag([1, 1, 0.5, 1]))
        made[name].rename(path)

    return make


def _permuted(order: tuple[int, ...]) -> Make:
    return saved(head().transpose(order).astype(np.int16), AFFINE[:, [*order, 3]])


def _shaped(*shape: int) -> Make:
    frames = int(np.prod(shape))
    series = np.stack([head() + 3 * frame for frame in range(frames)], -1)
    return saved(series.reshape(*head().shape, *shape, order="F").astype(np.int16))


def _mgh(dtype: str, affine: np.ndarray = AFFINE, frames: int = 1) -> Make:
    def make(path: Path) -> None:
        data = head() if frames == 1 else np.stack([head() + frame for frame in range(frames)], -1)
        image = nib.MGHImage(data.astype(dtype), affine)
        if path.name.lower().endswith(".mgz"):
            path.write_bytes(gzip.compress(image.to_bytes() + b"tags\0" * 20))
        else:
            path.write_bytes(image.to_bytes() + b"tags\0" * 20)

    return make


def _pair(suffix: str = "", image_class: type = nib.Nifti1Pair) -> Make:
    def make(path: Path) -> None:
        stem = path.name.split(".")[0]
        image = image_class(head().astype(np.int16), None)
        image.header.set_qform(AFFINE, 0)
        image.header.set_sform(AFFINE, 1)
        image.header.set_xyzt_units("mm")
        files = {end: str(path.with_name(f"{stem}.{end}{suffix}")) for end in ("hdr", "img")}
        image.to_file_map(nib.Nifti1Pair.make_file_map({"header": files["hdr"], "image": files["img"]}))

    return make


def _upper_pair(path: Path) -> None:
    _pair()(path.with_name("pair.hdr"))
    for extension in ("hdr", "img"):
        path.with_name(f"pair.{extension}").rename(path.with_name(f"PAIR.{extension.upper()}"))


def _with_extension(path: Path) -> None:
    image = nib.Nifti1Image(head().astype(np.int16), AFFINE)
    for length in (5, 40):
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * length))
    nib.save(image, path)


def _members(path: Path) -> None:
    """As bgzip writes: several members, the last of them empty."""
    block = plain()
    path.write_bytes(b"".join(gzip.compress(block[start : start + 5000]) for start in range(0, len(block), 5000)))
    path.write_bytes(path.read_bytes() + gzip.compress(b""))


def _linked(path: Path) -> None:
    target = path.with_name("object.nii.gz")
    target.write_bytes(zipped())
    path.symlink_to(target)


def _late(path: Path) -> None:
    header = nib.Nifti1Header(plain()[:348])
    header["vox_offset"] = 1024
    path.write_bytes(header.binaryblock + bytes(1024 - 348) + plain()[NIFTI1_VOXELS:])


CASES = [
    *(
        Case(f"{dtype}, {name}", f"{dtype}_{name.split('-')[0]}.nii.gz", _typed(dtype, order))
        for dtype in TYPES
        for name, order in (("little-endian", "<"), ("big-endian", ">"))
    ),
    Case("NIfTI-2", "nifti2.nii.gz", saved(image_class=nib.Nifti2Image)),
    Case("NIfTI-2, big-endian", "nifti2_big.nii", saved(image_class=nib.Nifti2Image, endianness=">")),
    *(
        Case(f"slope {slope:g}, intercept {inter:g}", f"slope_{slope:g}_{inter:g}.nii.gz",
             saved(scl_slope=slope, scl_inter=inter))
        for slope, inter in ((0.25, -1024), (3, 0), (1, 7.5), (0, 5), (-2, 100), (np.nan, 1))
    ),
    Case("stale pixdim", "stale.nii.gz", _geometry("stale_pixdim"), says="warned of; the affine is used"),
    Case("oblique", "oblique.nii.gz", _geometry("oblique")),
    Case("left-handed", "left_handed.nii.gz", _geometry("left_handed")),
    Case("x to the left", "las.nii.gz", saved(affine=FLIPPED, qform=1)),
    Case("thick slices, unknown unit", "thick.nii.gz", _geometry("anisotropic")),
    *(Case(f"axes permuted {order}", "axes_{}{}{}.nii.gz".format(*order), _permuted(order)) for order in PERMUTED),
    Case("(X, Y, Z, 1)", "one_frame.nii.gz", saved(head()[..., None].astype(np.int16))),
    Case("(X, Y, Z, 1, 1)", "one_one.nii.gz", saved(head()[..., None, None].astype(np.int16))),
    *(Case(name, file, _named) for name, file in NAMES.items()),
    Case("symbolic link", "link.nii.gz", _linked),
    Case("extensions", "extensions.nii.gz", _with_extension),
    Case("voxels at byte 0", "offset_0.nii.gz", saved(vox_offset=0)),
    Case("voxels at byte 1024", "offset_1024.nii", _late),
    Case("several gzip members", "members.nii.gz", _members),
    Case("two slices an axis", "two.nii", saved(head()[8:10, 8:10, 8:10].astype(np.int16))),
    Case("negative intensities", "negative.nii.gz", saved((head() - 300).astype(np.int16))),
    Case("qform alone", "qform.nii.gz", saved(sform=0, qform=1)),
    Case("no affine, assumed", "assumed.nii.gz", placed(AFFINE, 0), says="--assume-affine",
         reading={"assume_affine": True}),
    Case("template sform, turned by 20 degrees", "template.nii.gz", both(AFFINE, turned("xz", 20, 5, shift=12), 4, 1),
         says="the sform is used, the difference recorded"),
    Case("invalid qform beside a sound sform", "quaternion.nii", both(AFFINE, AFFINE, quatern_b=1, quatern_c=1),
         says="warned of; the sform is used"),
    Case("sform trusted", "trust_sform.nii.gz", both(AFFINE, FLIPPED), says="--trust-sform",
         reading={"trust": "sform"}),
    Case("qform trusted", "trust_qform.nii.gz", both(FLIPPED, AFFINE), says="--trust-qform",
         reading={"trust": "qform"}),
    Case("qform trusted, sform upside down", "down.nii.gz", both(UPSIDE_DOWN, AFFINE), says="--trust-qform",
         reading={"trust": "qform"}),
    Case("qform trusted, sform singular", "rescued.nii", both(AFFINE, AFFINE, srow_x=[0] * 4), says="--trust-qform",
         reading={"trust": "qform"}),
    Case("NaN and Inf, filled", "filled.nii.gz", with_values(np.nan, np.inf, -np.inf),
         says="--fill-nonfinite, counted", reading={"fill_nonfinite": True}),
    Case("frame 1 of 4D", "frame_4d.nii.gz", _shaped(3), says="--frame 1", reading={"frame": 1}),
    Case("frame 2 of 5D", "frame_5d.nii", _shaped(1, 3), says="--frame 2", reading={"frame": 2}),
    Case("frame 4 of 6D", "frame_6d.nii.gz", _shaped(2, 1, 3), says="--frame 4", reading={"frame": 4}),
    Case("frame 5 of 7D", "frame_7d.nii.gz", _shaped(2, 1, 1, 3), says="--frame 5", reading={"frame": 5}),
    Case("frame 0 of 3D", "frame_3d.nii.gz", saved(), says="--frame 0", reading={"frame": 0}),
    *(Case(f"MGH, {dtype}", f"{dtype}.mgh", _mgh(dtype)) for dtype in ("uint8", "int16", "int32", "float32", "uint16")),
    Case("MGZ", "scan.mgz", _mgh("float32")),
    Case("MGZ, oblique", "oblique.mgz", _mgh("int16", turned("xyz", 10, 15, 20))),
    Case("MGZ, left-handed", "conformed.MGZ", _mgh("uint8", FLIPPED)),
    Case("frame 1 of an MGZ", "frames.mgz", _mgh("int16", frames=2), says="--frame 1", reading={"frame": 1}),
    Case("pair, by its header", "pair.hdr", _pair()),
    Case("pair, by its image", "image.img", _pair()),
    Case("pair, compressed", "zipped.hdr.gz", _pair(".gz")),
    Case("pair, compressed, by its image", "zimage.img.gz", _pair(".gz")),
    Case("pair, NIfTI-2", "pair2.hdr", _pair(image_class=nib.Nifti2Pair)),
    Case("pair, upper case", "PAIR.IMG", _upper_pair),
    Case("sound, in double precision, NIfTI-2, compressed", "double.nii.gz",
         holding(gzip.compress(content(data=head() / 7, image_class=nib.Nifti2Image)))),
]  # fmt: skip
