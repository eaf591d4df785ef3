"""Converted models are kept on disk, under a name that follows from all they were made of."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn

from bundle import forms
from bundle.engines.state import weights_digest
from bundle.errors import EngineWarning
from bundle.io.whole import whole_folder
from bundle.provenance import sha256, versions

FOLDER = "brain_mri_transformer_segmentation"
PLAIN = (bool, int, float, str, tuple, list, type(None))


def cache_folder(chosen: str | Path | None = None) -> Path:
    """Return ``chosen``, or the bundle's folder in the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    if chosen is not None:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FOLDER


def compiled_folder(folder: Path) -> Path | None:
    """Return the folder for models that OpenVINO compiled, or ``None`` where it cannot be written."""
    compiled = folder / "compiled"
    try:
        compiled.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return compiled if os.access(compiled, os.W_OK) else None


def keep_newest(folder: Path, most: int) -> None:
    """Remove from a folder all files but those of the latest use, whose time is that of their last reading or writing.

    What another process has open stays readable to it.
    """
    with contextlib.suppress(OSError):
        files = {file: file.stat() for file in folder.iterdir() if file.is_file()}
        used = sorted(files, key=lambda file: max(files[file].st_atime_ns, files[file].st_mtime_ns))
        for file in used[: max(0, len(used) - most)]:
            file.unlink(missing_ok=True)


def content_key(network: nn.Module, checkpoint: str | Path | None, packages: Iterable[str]) -> str:
    """Return a hexadecimal key for weights, structure, source code and the versions of packages.

    Two networks of one key compute the same function: it covers the checkpoint's bytes, each module's class and plain
    attributes, the source files next to the network's class, and the packages that convert. Without a checkpoint, the
    network's own weights take the place of its bytes.
    """
    digest = hashlib.sha256((weights_digest(network) if checkpoint is None else sha256(checkpoint)).encode())
    for name, module in network.named_modules():
        plain = sorted((key, value) for key, value in vars(module).items() if isinstance(value, PLAIN))
        digest.update(f"{name} {type(module).__qualname__} {plain}\n".encode())
    for folder in (Path(inspect.getfile(type(network))).parent, Path(forms.__file__).parent):
        for file in sorted(folder.glob("*.py")):
            digest.update(file.read_bytes())
    digest.update(f"{versions(packages)}\n".encode())
    return digest.hexdigest()[:32]


def cached(folder: Path, key: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the file ``folder/key/name``, made by ``make(path)`` when it is not there.

    Everything that ``make`` writes into the folder of its path appears at once, so that an interrupted or a second
    process never leaves a part of it. Where the cache cannot be written, a temporary folder takes its place for the
    life of the process and a warning says so.
    """
    wanted = folder / key / name
    if wanted.is_file():
        return wanted
    with contextlib.ExitStack() as stack:
        try:
            unfinished = stack.enter_context(whole_folder(wanted.parent))
        except OSError as error:
            reason = f"{folder}: cannot be written ({error.strerror})"
            warnings.warn(f"{reason}; the model is converted anew in every process", EngineWarning, stacklevel=2)
            wanted = _kept_folder() / name
            unfinished = wanted.parent
        make(unfinished / name)
    return wanted


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _kept_folder() -> Path:
    """Return a new temporary folder that goes when the process ends."""
    _KEPT.append(tempfile.TemporaryDirectory())
    return Path(_KEPT[-1].name)
