"""Convert a checkpoint: ``python -m scripts.convert_checkpoint SOURCE TARGET [--from FAMILY] [--to FAMILY]``.

Families are this bundle, MONAI, MONAI GenerativeModels and timm; a layout of the QKV projections may be asked for
too. With --config or --network, the result is loaded into that network, strictly, before anything is written; what
comes from GenerativeModels needs one of them. No code in SOURCE is run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from bundle.choices import FAMILIES, LAYOUTS
from bundle.errors import (
    BundleError,
    ConversionError,
    ExistsError,
    InputError,
    MissingError,
    OptionError,
    WeightsError,
    one_line,
)
from scripts.command import make_parser, run_program

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("convert_checkpoint", __doc__)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file written by torch.save")
    parser.add_argument("target", type=Path, metavar="TARGET", help="file to write, a plain state dict")
    parser.add_argument("--from", dest="source_family", choices=("auto", *FAMILIES), default="auto")
    parser.add_argument("--to", dest="target_family", choices=FAMILIES, default="bundle")
    parser.add_argument("--layout", choices=LAYOUTS, help="QKV projections (default: as they are)")
    parser.add_argument("--config", metavar="FILE", help="MONAI bundle config with the network that TARGET must fit")
    parser.add_argument("--config-id", default="network_def", metavar="NAME", help="its id (default: network_def)")
    parser.add_argument(
        "--network",
        nargs="+",
        metavar=("CLASS", "NAME=VALUE"),
        help="in place of --config: the class of that network and its arguments, such as "
        "monai.networks.nets.AutoencoderKL spatial_dims=3 'channels=[32, 64]'",
    )
    parser.add_argument(
        "--head-first", action="store_true", help="timm's module was built with head_first=True, which no key tells"
    )
    parser.add_argument(
        "--num-heads", type=int, metavar="N", help="heads for --head-first (default: those of the network)"
    )
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


def is_state(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Tell whether a value is a state dict that is not empty."""
    import torch

    return isinstance(value, dict) and bool(value) and all(isinstance(v, torch.Tensor) for v in value.values())


def read_state(path: Path, key: str | None) -> dict[str, Tensor]:
    """Read a state dict, or the one that stands under ``key``, ``state_dict`` or ``model``.

    Raises:
        WeightsError: when the file is missing, of another kind, or holds no state dict there.
    """
    if path.suffix == ".safetensors":
        wanted = "a file written by torch.save is wanted"
        raise WeightsError(path, "safetensors are not supported", wanted, "format")
    from bundle.io.weights import read_checkpoint

    content = read_checkpoint(path)
    if key is None and is_state(content):
        return content
    entries: dict[str, Any] = content if isinstance(content, dict) else {}
    for name in WRAPPERS if key is None else (key,):
        if is_state(state := entries.get(name)):
            return state
    place = f"under {' or '.join(map(repr, WRAPPERS))}" if key is None else f"under {key!r}"
    found = ", ".join(map(str, entries)) or type(content).__name__
    raise WeightsError(path, f"holds no state dict {place}", f"found {found[:300]}")


def read_network(config: str, name: str) -> nn.Module:
    """Build the network that a config defines.

    Raises:
        MissingError: when the config is missing.
        InputError: when it is broken, or defines no network of that name.
    """
    from monai.bundle import ConfigParser
    from torch import nn

    if not Path(config).is_file():
        raise MissingError(config, "not found", "a bundle config is wanted")
    try:
        parser = ConfigParser()
        parser.read_config(config)
        network = parser.get_parsed_content(name)
    except Exception as error:  # a config may instantiate anything
        raise InputError(config, f"no network can be built from id {name!r} ({one_line(error)[:300]})") from error
    if not isinstance(network, nn.Module):
        raise InputError(config, f"id {name!r} is wanted to be a network, got {type(network).__name__}")
    return network


def name_network(words: list[str]) -> nn.Module:
    """Build the network that ``--network`` names.

    Raises:
        OptionError: when an argument is no ``NAME=VALUE``, or no network can be built.
    """
    from monai.bundle import ConfigParser
    from torch import nn

    definition: dict[str, Any] = {"_target_": words[0]}
    for word in words[1:]:
        name, separator, value = word.partition("=")
        if not (separator and name.isidentifier()):
            raise OptionError("--network", f"found {word!r}", "NAME=VALUE is wanted")
        try:
            definition[name] = json.loads(value)
        except ValueError:  # a plain word
            definition[name] = value
    try:
        network = ConfigParser({"network": definition}).get_parsed_content("network")
    except Exception as error:  # a class may raise anything
        raise OptionError("--network", f"{words[0]} cannot be built ({one_line(error)[:300]})") from error
    if not isinstance(network, nn.Module):
        raise OptionError("--network", f"{words[0]} makes a {type(network).__name__}", "a network is wanted")
    return network


def find_network(options: argparse.Namespace) -> nn.Module | None:
    """Return the network that the result must fit, if one is named.

    Raises:
        BundleError: when it is named twice, or cannot be built.
    """
    if options.network is not None and options.config is not None:
        raise OptionError("--network", "--config names a network too", "one of them is wanted")
    if options.network is not None:
        return name_network(options.network)
    return None if options.config is None else read_network(options.config, options.config_id)


def check_named(state: dict[str, Tensor], family: str, options: argparse.Namespace) -> None:
    """Refuse to guess what only a network tells.

    Raises:
        ConversionError: listing the keys that make one necessary.
    """
    from bundle.conversion import undecided_keys

    if "generative" not in (family, options.target_family) or family == options.target_family:
        return
    if keys := undecided_keys(state, family):
        found = f"{family} to {options.target_family} without a network that tells the place of {', '.join(keys)}"
        raise ConversionError(options.source, found, "--config or --network is wanted")


def load_strictly(network: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load the result into the network that it is for.

    Raises:
        ConversionError: when that network refuses it.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ConversionError(source, f"the network does not load the result ({one_line(error)})") from error


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before anything is read.

    Raises:
        BundleError: naming it.
    """
    from bundle.io.whole import refuse_existing

    if target.suffix == ".safetensors":
        raise OptionError(target, "safetensors are not supported", "another ending is wanted")
    if not target.parent.is_dir():
        raise MissingError(target, f"the folder {target.parent} does not exist")
    if target.is_dir():
        raise ExistsError(target, "is a folder", "a file is wanted")
    if not overwrite:
        refuse_existing([target])


def write_state(state: dict[str, Tensor], path: Path, overwrite: bool) -> None:
    """Write a state dict that appears under its name once it is complete.

    Raises:
        BundleError: naming the file, when it cannot be written.
    """
    import torch

    from bundle.io.whole import whole_file

    # Parts of one tensor would carry the whole of it into the file.
    state = {key: value.detach().clone() for key, value in state.items()}
    try:
        with whole_file(path, overwrite) as unfinished:
            torch.save(state, unfinished)
    except ExistsError:
        raise
    except (OSError, RuntimeError) as error:  # torch turns a full disk into the latter
        raise BundleError(path, f"cannot be written ({error})", code="write") from error


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    source, target = options.source, options.target
    check_target(target, options.overwrite)

    from bundle.conversion import convert_checkpoint, detect_family

    state = read_state(source, options.key)
    network = find_network(options)
    notes: list[str] = []
    try:
        family = detect_family(state) if options.source_family == "auto" else options.source_family
        if network is None:
            check_named(state, family, options)
        result = convert_checkpoint(
            state,
            family,
            options.target_family,
            network,
            options.layout,
            options.grid_size,
            notes,
            options.head_first,
            options.num_heads,
        )
    except ConversionError as error:
        if error.code == OptionError.code:  # about an argument, not about the file
            raise
        raise ConversionError(source, error.found, error.wanted) from error
    if network is not None:
        load_strictly(network, result, source)
    write_state(result, target, options.overwrite)
    how = "detected" if options.source_family == "auto" else "given"
    print(f"{source}: {family} ({how}), {len(state)} tensors")
    for note in notes:
        print(note)
    print(f"{target}: {options.target_family}, {len(result)} tensors")
    into = "no network, for none is named" if network is None else f"{type(network).__name__}, strictly"
    print(f"loaded into {into}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    return run_program(run, parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main())
