"""Pack the bundle for MONAI's model zoo: ``python -m scripts.pack_bundle [--output-dir dist]``.

The zip holds what git tracks of the bundle and SHA256SUMS, which lists every other file. The same files give the same
bytes on every machine: entries are sorted and stored, not compressed, since zlib's output differs between its builds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundle.errors import InputError, MissingError
from bundle.provenance import sha256
from scripts.command import ROOT, make_parser, run_program

NAME = "brain_mri_transformer_segmentation"
FOLDERS = ("bundle", "configs", "docs", "examples", "models", "networks", "scripts")
REQUIREMENTS = ("requirements.txt", "requirements-cohort.txt")
FILES = ("LICENSE", "README.md", "SECURITY.md", "constraints.txt", "metadata.json", *REQUIREMENTS)
NEEDED = ("LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt")
CHECKSUMS = "SHA256SUMS"
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold."""


def list_files(root: Path, *options: str) -> list[str]:
    """Return the files of the bundle that ``git ls-files`` finds, relative to its root, sorted.

    Raises:
        InputError: when git is missing or ``root`` is no git checkout.
    """
    command = ["git", "ls-files", "-z", *options, "--", *FOLDERS, *FILES]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise MissingError("git", "not found", "it says which files belong to the bundle") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        raise InputError(root, f"found no usable git checkout ({reason})", "the bundle's is wanted") from error
    return sorted(name for name in listed.split("\0") if name)


def tracked_files(root: Path) -> list[str]:
    """Return the files of the bundle that git tracks, relative to its root, sorted.

    Raises:
        InputError: when ``root`` is no git checkout of the bundle.
    """
    names = list_files(root)
    missing = [name for name in NEEDED if name not in names]
    if missing:
        found = f"git does not track {', '.join(missing)}"
        raise InputError(root, found, "the bundle's own checkout is wanted", "missing")
    return names


def sha256_lines(root: Path, names: Iterable[str]) -> str:
    """Return the lines that ``sha256sum --check`` reads, one for each file."""
    return "".join(f"{sha256(root / name)}  {name}\n" for name in names)


def write_zip(files: Mapping[str, bytes], path: Path) -> None:
    """Write files below one folder, in their order, without anything of the machine or the time in the bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"{NAME}/{name}", TIMESTAMP)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)


def pack_bundle(root: Path, output_dir: Path) -> tuple[Path, str]:
    """Write ``NAME_vVERSION.zip`` and its ``.sha256``, replacing both, and return the zip's path and SHA-256.

    Links become the files that they point to.

    Raises:
        InputError: when ``root`` is no git checkout of the bundle.
        OSError: when a tracked file cannot be read or the zip not be written.
    """
    from bundle.io.whole import whole_set

    names = tracked_files(root)
    files = {name: (root / name).read_bytes() for name in names}
    files = dict(sorted({**files, CHECKSUMS: sha256_lines(root, names).encode()}.items()))
    version = json.loads(files["configs/metadata.json"])["version"]
    path = output_dir / f"{NAME}_v{version}.zip"
    beside = path.with_name(f"{path.name}.sha256")
    with whole_set([path, beside], overwrite=True) as (archive, checksum):
        write_zip(files, archive)
        digest = sha256(archive)
        checksum.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return path, digest


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("pack_bundle", __doc__)
    parser.add_argument("--output-dir", type=Path, default=ROOT / "dist", help="folder of the zip (default: dist)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Pack, and say what was written and what was left out."""
    path, digest = pack_bundle(ROOT, options.output_dir)
    left_out = list_files(ROOT, "--others", "--exclude-standard")
    if left_out:
        print(f"note: left out, since git does not track them: {', '.join(left_out)}", file=sys.stderr)
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(f"sha256 {digest}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
