"""What an exported form is, and what all of them are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from bundle.forms.portable import portable
from bundle.forms.tracing import export_program
from networks import ScanOutputs, TransformerUNet


@dataclass
class Source:
    """A network and what goes with it, from which forms are made; what several forms need is made once.

    Attributes:
        network: network in evaluation mode on the CPU, maps (B, C, D, H, W) to logits (B, classes, D, H, W).
        metadata: content of ``configs/metadata.json``.
        config: content of ``configs/deploy.json``, for the TorchScript archive.
    """

    network: nn.Module
    metadata: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def portable(self) -> nn.Module:
        """The network in operations that other runtimes compute exactly, its outputs for the scan beside its logits."""
        network = portable(self.network)
        return ScanOutputs(network) if isinstance(network, TransformerUNet) and network.has_outputs else network

    @cached_property
    def program(self) -> ExportedProgram:
        """The portable network as a ``torch.export`` program."""
        return export_program(self.portable)


@dataclass(frozen=True)
class Form:
    """One file format of an exported network.

    Attributes:
        name: as in ``bundle.choices.FORMS``.
        file: name of its file; OpenVINO's weights lie beside it, see ``sidecar.model_files``.
        make: writes a source to a path of that name, or raises ``ExportError`` where that cannot be done here.
        facts: what the record says of this form alone.
    """

    name: str
    file: str
    make: Callable[[Source, Path], None]
    facts: Callable[[], dict[str, Any]] = dict
