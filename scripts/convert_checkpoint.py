"""Convert a checkpoint: ``python -m scripts.convert_checkpoint SOURCE TARGET [--from FAMILY] [--to FAMILY]``.

Families are this bundle, MONAI, MONAI GenerativeModels and timm; a layout of the QKV projections may be asked for
too. Nothing is written unless the whole conversion succeeds, and no code in SOURCE is run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from bundle.conversion import FAMILIES, LAYOUTS

    parser = argparse.ArgumentParser(prog="python -m scripts.convert_checkpoint", description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file written by torch.save")
    parser.add_argument("target", type=Path, metavar="TARGET", help="file to write, a plain state dict")
    parser.add_argument("--from", dest="source_family", choices=("auto", *FAMILIES), default="auto")
    parser.add_argument("--to", dest="target_family", choices=FAMILIES, default="bundle")
    parser.add_argument("--layout", choices=LAYOUTS, help="QKV projections (default: as they are)")
    parser.add_argument("--config", metavar="FILE", help="MONAI bundle config with the network that TARGET must fit")
    parser.add_argument("--config-id", default="network_def", metavar="NAME", help="its id (default: network_def)")
    parser.add_argument("--key", metavar="NAME", help="entry of SOURCE that holds the state dict")
    parser.add_argument(
        "--grid-size",
        type=int,
        nargs="+",
        metavar="N",
        help="grid of the positions in SOURCE: H W from timm when no square, D H W of a 3D one to timm",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")
    return parser.parse_args(arguments)


def is_state(value: Any) -> bool:
    """Tell whether a value is a state dict that is not empty."""
    import torch

    return isinstance(value, dict) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())


def read_state(path: Path, key: str | None) -> dict[str, Tensor]:
    """Read a state dict, or the one that stands under ``key``, ``state_dict`` or ``model``.

    Raises:
        ValueError: naming the file, when it is missing, of another kind, or holds no state dict there.
    """
    import torch

    if not path.is_file():
        raise ValueError(f"{path}: not found; a checkpoint is wanted.")
    if path.suffix == ".safetensors":
        raise ValueError(f"{path}: safetensors are not supported; a file written by torch.save is wanted.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is not bounded
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: cannot be read as a checkpoint ({reason}).") from error
    if key is None and is_state(content):
        return content
    entries = content if isinstance(content, dict) else {}
    for name in WRAPPERS if key is None else (key,):
        if is_state(entries.get(name)):
            return entries[name]
    place = f"under {' or '.join(map(repr, WRAPPERS))}" if key is None else f"under {key!r}"
    found = ", ".join(map(str, entries)) or type(content).__name__
    raise ValueError(f"{path}: holds no state dict {place}; found {found[:300]}.")


def read_network(config: str, name: str) -> nn.Module:
    """Build the network that a config defines.

    Raises:
        ValueError: naming the file, when it is missing, broken, or defines no network of that name.
    """
    from monai.bundle import ConfigParser
    from torch import nn

    if not Path(config).is_file():
        raise ValueError(f"{config}: not found; a bundle config is wanted.")
    try:
        parser = ConfigParser()
        parser.read_config(config)
        network = parser.get_parsed_content(name)
    except Exception as error:  # a config may instantiate anything
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ValueError(f"{config}: no network can be built from id {name!r} ({reason}).") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{config}: id {name!r} is wanted to be a network, got {type(network).__name__}.")
    return network


def write_state(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict that appears under its name once it is complete.

    Raises:
        OSError: naming the file, when it cannot be written.
    """
    import torch

    # Parts of one tensor would carry the whole of it into the file.
    state = {key: value.detach().clone() for key, value in state.items()}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
            unfinished = Path(folder) / path.name
            torch.save(state, unfinished)
            os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into the latter
        raise OSError(f"{path}: cannot be written ({error}).") from error


def run(options: argparse.Namespace) -> None:
    """Convert, and print what was done."""
    target: Path = options.target
    if target.suffix == ".safetensors":
        raise ValueError(f"{target}: safetensors are not supported; another ending is wanted.")
    if not target.parent.is_dir():
        raise ValueError(f"{target}: the folder {target.parent} does not exist.")
    if target.is_dir() or (target.exists() and not options.overwrite):
        raise FileExistsError(f"{target}: exists already; a free name, or --overwrite, is wanted.")

    from bundle.conversion import convert_checkpoint, detect_family
    from bundle.errors import ConversionError

    state = read_state(options.source, options.key)
    network = None if options.config is None else read_network(options.config, options.config_id)
    notes: list[str] = []
    try:
        family = detect_family(state) if options.source_family == "auto" else options.source_family
        result = convert_checkpoint(
            state, family, options.target_family, network, options.layout, options.grid_size, notes
        )
    except ConversionError as error:
        raise ValueError(f"{options.source}: {error}") from error
    write_state(result, target)
    how = "detected" if options.source_family == "auto" else "given"
    print(f"{options.source}: {family} ({how}), {len(state)} tensors")
    for note in notes:
        print(note)
    print(f"{target}: {options.target_family}, {len(result)} tensors")


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
