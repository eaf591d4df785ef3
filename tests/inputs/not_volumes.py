"""Files that are no scans: other things than files, other formats, and names that do not fit the content."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from tests.inputs.case import Case, holding, plain, zipped


def _npy() -> bytes:
    block = io.BytesIO()
    np.save(block, np.zeros((4, 4, 4)))
    return block.getvalue()


def _zip() -> bytes:
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as archive:
        archive.writestr("scan.nii", plain())
    return block.getvalue()


def _tar() -> bytes:
    import tarfile

    block = io.BytesIO()
    with tarfile.open(fileobj=block, mode="w") as archive:
        entry = tarfile.TarInfo("scan.nii")
        entry.size = len(plain())
        archive.addfile(entry, io.BytesIO(plain()))
    return block.getvalue()


def _analyze() -> bytes:
    block = bytearray(plain())
    block[344:348] = bytes(4)
    return bytes(block)


def _mgh() -> bytes:
    import nibabel as nib

    from tests.inputs.case import AFFINE, head

    return bytes(nib.MGHImage(head().astype(np.float32), AFFINE).to_bytes())


def _linked(target: str):
    return lambda path: path.symlink_to(target)


def _circle(path: Path) -> None:
    other = path.with_name("other.nii.gz")
    path.symlink_to(other)
    other.symlink_to(path)


def _locked(path: Path) -> None:
    path.write_bytes(zipped())
    path.chmod(0)


DICOM = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\xc0\x00\x00\x00" + bytes(2000)
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n" * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ANNEX = "../.git/annex/objects/Xw/3k/SHA256E-s12--4d7a.nii.gz/SHA256E-s12--4d7a.nii.gz"
NIFTI_WANTED = "a NIfTI file"

NOT_FILES = [
    Case("no such file", "absent.nii.gz", lambda path: None, "missing", "no such file"),
    Case("folder under a file", "folderless.nii.gz/x.nii.gz", lambda path: None, "missing", "no such file"),
    Case("a folder", "folder.nii.gz", Path.mkdir, "format", "found a folder; a regular file is wanted"),
    Case("FIFO", "fifo.nii.gz", os.mkfifo, "format", "found a pipe (FIFO)"),
    Case("FIFO without compression", "fifo.nii", os.mkfifo, "format", "found a pipe (FIFO)"),
    Case("device", "device.nii", _linked("/dev/zero"), "format", "found a device"),
    Case("empty device", "null.nii.gz", _linked("/dev/null"), "format", "found a device"),
    Case("link to itself", "self.nii.gz", _linked("self.nii.gz"), "unreadable", "a link that leads to itself"),
    Case("two links in a circle", "circle.nii.gz", _circle, "unreadable", "a link that leads to itself"),
    Case("link to nothing", "dangling.nii.gz", _linked("gone.nii.gz"), "missing", "a link to gone.nii.gz"),
    Case("git-annex link", "annexed.nii.gz", _linked(ANNEX), "missing", "git annex get"),
    Case("no permission", "locked.nii.gz", _locked, "unreadable", "Permission denied", as_nobody=True),
    Case("empty file", "empty.nii.gz", holding(b""), "damaged", "found an empty file"),
    Case("empty file without compression", "empty_plain.nii", holding(b""), "damaged", "found an empty file"),
    Case("empty MGZ", "empty_mgz.mgz", holding(b""), "damaged", "found an empty file"),
]
OTHER_FORMATS = [
    Case("DICOM named .nii.gz", "dicom.nii.gz", holding(DICOM), "format", "found a DICOM file; a NIfTI file (dcm2niix"),
    Case("DICOM named .dcm", "dicom.dcm", holding(DICOM), "format", "dcm2niix"),
    Case("DICOM without extension", "IM0001", holding(DICOM), "format", "dcm2niix"),
    Case("DICOM, compressed", "dicom_inside.nii.gz", holding(gzip.compress(DICOM)), "format", "inside gzip data"),
    Case("HTML named .nii.gz", "page.nii.gz", holding(HTML), "format", "found a web page (HTML)"),
    Case("HTML named .nii", "page_plain.nii", holding(HTML), "format", "not the page of its download"),
    Case(
        "HTML, compressed", "page_inside.nii.gz", holding(gzip.compress(HTML)), "format", "web page (HTML) inside gzip"
    ),
    Case("Git LFS pointer", "pointer.nii.gz", holding(POINTER), "format", "git lfs pull"),
    Case("Git LFS pointer named .nii", "pointer_plain.nii", holding(POINTER), "format", "git lfs pull"),
    Case("git-annex pointer", "annex.nii.gz", holding(b"/annex/objects/SHA256E-s12--4d\n"), "format", "git annex get"),
    Case("NumPy array", "array.nii", holding(_npy()), "format", "found a NumPy array (.npy)"),
    Case("NumPy array under its name", "array.npy", holding(_npy()), "format", "found a NumPy array (.npy)"),
    Case("pickle", "pickle.nii", holding(pickle.dumps({"a": list(range(400))}, 4)), "format", "found a Python pickle"),
    Case("ZIP archive", "zip.nii.gz", holding(_zip()), "format", "found a ZIP archive"),
    Case(
        "tar archive, compressed", "tar.nii.gz", holding(gzip.compress(_tar())), "format", "found a tar archive inside"
    ),
    Case("PNG picture", "picture.nii", holding(b"\x89PNG\r\n\x1a\n" + bytes(500)), "format", "found a PNG picture"),
    Case("JPEG picture", "photo.nii", holding(b"\xff\xd8\xff\xe0" + bytes(500)), "format", "found a JPEG picture"),
    Case("PDF", "report.nii.gz", holding(b"%PDF-1.7\n" + bytes(500)), "format", "found a PDF document"),
    Case("HDF5 or MINC2", "minc.mnc", holding(b"\x89HDF\r\n\x1a\n" + bytes(500)), "format", "mnc2nii"),
    Case("NRRD", "scan.nrrd", holding(b"NRRD0004\ntype: short\n"), "format", "3D Slicer"),
    Case("bzip2", "scan.nii.bz2", holding(b"BZh91AY&SY" + bytes(500)), "format", "compressed by bzip2"),
    Case("text", "text.nii.gz", holding(b"patient,scan\n" * 100), "format", "found text"),
    Case("a few letters", "letters.nii", holding(b"hello"), "format", "found text"),
    Case("UTF-16 text", "wide.nii", holding("patient\n".encode("utf-16") * 50), "format", "found text"),
    Case("XML", "surface.nii", holding(b"<?xml version='1.0'?><GIFTI/>" * 20), "format", "found an XML file"),
    Case("zeros", "zeros.nii", holding(bytes(4000)), "format", "found no NIfTI header"),
    Case("noise", "noise.nii", holding(np.random.default_rng(0).bytes(4000)), "format", "found no NIfTI header"),
    Case(
        "noise named .nii.gz", "noise_zipped.nii.gz", holding(b"\xd7" * 400), "format", "not compressed, and no NIfTI"
    ),
    Case("Analyze header", "analyze.nii", holding(_analyze()), "format", "does not tell left from right"),
    Case("compressed twice", "twice.nii.gz", holding(gzip.compress(zipped())), "format", "compressed twice"),
]
NAMES = [
    Case(
        "compressed, named .nii", "zipped_as_plain.nii", holding(zipped()), "format", "the name zipped_as_plain.nii.gz"
    ),
    Case("not compressed, named .nii.gz", "plain.nii.gz", holding(plain()), "format", "the name plain.nii is wanted"),
    Case("NIfTI named .img.gz", "alone.img.gz", holding(zipped()), "missing", "found no alone.hdr.gz beside it"),
    Case("NIfTI named .bin", "scan.bin", holding(plain()), "format", "the name scan.nii is wanted"),
    Case("NIfTI, compressed, named .gz", "bare.gz", holding(zipped()), "format", "the name bare.nii.gz is wanted"),
    Case("NIfTI without extension", "scan", holding(plain()), "format", "the name scan.nii is wanted"),
    Case("NIfTI named .mgz", "nifti.mgz", holding(zipped()), "format", "the name nifti.nii.gz is wanted"),
    Case("MGH named .nii", "mgh.nii", holding(_mgh()), "format", "the name mgh.mgh is wanted"),
    Case(
        "MGH, compressed, named .mgh", "mgz.mgh", holding(gzip.compress(_mgh())), "format", "the name mgz.mgz is wanted"
    ),
    Case("MGH, not compressed, named .mgz", "mgh.mgz", holding(_mgh()), "format", "the name mgh.mgh is wanted"),
    Case(
        "header without image", "half.hdr", holding(plain()[:344] + b"ni1\0"), "missing", "found no half.img beside it"
    ),
    Case("image without header", "half.img", holding(bytes(100)), "missing", "found no half.hdr beside it"),
]
CASES = [*NOT_FILES, *OTHER_FORMATS, *NAMES]
