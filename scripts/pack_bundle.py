"""Pack the bundle for MONAI's model zoo: ``python -m scripts.pack_bundle [--output-dir dist]``.

The zip holds what git tracks of the bundle and SHA256SUMS, which lists every other file. The same files give the same
bytes on every machine: entries are sorted and stored, not compressed, since zlib's output differs between its builds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "brain_mri_transformer_segmentation"
FOLDERS = ("bundle", "configs", "docs", "examples", "models", "networks", "scripts")
FILES = ("LICENSE", "README.md", "constraints.txt", "metadata.json", "requirements.txt")
NEEDED = ("LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt")
CHECKSUMS = "SHA256SUMS"
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold."""


def list_files(root: Path, *options: str) -> list[str]:
    """Return the files of the bundle that ``git ls-files`` finds, relative to its root, sorted.

    Raises:
        ValueError: when git is missing or ``root`` is no git checkout.
    """
    command = ["git", "ls-files", "-z", *options, "--", *FOLDERS, *FILES]
    try:
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise ValueError("git: not found; it says which files belong to the bundle.") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        raise ValueError(f"{root}: found no usable git checkout ({reason}); the bundle's is wanted.") from error
    return sorted(name for name in listed.split("\0") if name)


def tracked_files(root: Path) -> list[str]:
    """Return the files of the bundle that git tracks, relative to its root, sorted.

    Raises:
        ValueError: when ``root`` is no git checkout of the bundle.
    """
    names = list_files(root)
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise ValueError(f"{root}: git does not track {', '.join(missing)}; the bundle's own checkout is wanted.")
    return names


def sha256_lines(files: Mapping[str, bytes]) -> str:
    """Return the lines that ``sha256sum --check`` reads, one for each file."""
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


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
        ValueError: when ``root`` is no git checkout of the bundle.
        OSError: when a tracked file cannot be read or the zip not be written.
    """
    files = {name: (root / name).read_bytes() for name in tracked_files(root)}
    files = dict(sorted({**files, CHECKSUMS: sha256_lines(files).encode()}.items()))
    version = json.loads(files["configs/metadata.json"])["version"]
    path = output_dir / f"{NAME}_v{version}.zip"
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir, prefix=".unfinished-") as folder:
        complete = Path(folder, path.name)
        write_zip(files, complete)
        digest = hashlib.sha256(complete.read_bytes()).hexdigest()
        checksum = Path(folder, f"{path.name}.sha256")
        checksum.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        os.replace(complete, path)
        os.replace(checksum, output_dir / checksum.name)
    return path, digest


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pack_bundle", description=__doc__.split("\n\n")[0])
    parser.add_argument("--output-dir", type=Path, default=ROOT / "dist", help="folder of the zip (default: dist)")
    options = parser.parse_args(arguments)
    try:
        path, digest = pack_bundle(ROOT, options.output_dir)
        left_out = list_files(ROOT, "--others", "--exclude-standard")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if left_out:
        print(f"note: left out, since git does not track them: {', '.join(left_out)}", file=sys.stderr)
    print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(f"sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
