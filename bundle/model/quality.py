"""The groups of structures whose Dice a model predicts of its own results, and that Dice where the truth is known.

``model.json`` names them (``quality``), in the order of the network's outputs for a whole scan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bundle.label_groups import IGNORED_CHANNEL
from bundle.labels import Label

OF_OUTPUTS = ("num_outputs", "global_pool", "bounded_outputs")
"""Arguments of a network that are about its outputs for the scan."""
QualityGroups = Mapping[str, Sequence[int]]
"""Codes of the structures of each group, by its name."""


def check_quality(content: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the groups of a ``model.json`` and its schema cannot tell, ``None`` if nothing is."""
    groups: QualityGroups | None = (content.get("quality") or {}).get("groups")
    if groups is None:
        return None
    network = content["network_def"] or {}
    if network.get("num_outputs", 0) != len(groups):
        return f"{len(groups)} groups for {network.get('num_outputs', 0)} outputs of the network"
    if not network.get("bounded_outputs", False):
        return "outputs of a network that are not bounded"
    unknown = sorted({code for codes in groups.values() for code in codes} - set(content["labels"]["codes"][1:]))
    return f"the code {unknown[0]}, which is no structure's" if unknown else None


def without_quality(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a ``model.json`` says, but that nothing is predicted: other weights than its own are not judged."""
    network = content["network_def"]
    kept = network and {name: value for name, value in network.items() if name not in OF_OUTPUTS}
    return {**{name: value for name, value in content.items() if name != "quality"}, "network_def": kept}


def group_channels(groups: QualityGroups, table: Sequence[Label]) -> Tensor:
    """Return whether each class is in each group, shape (groups, classes)."""
    return torch.tensor([[label.code in codes for label in table] for codes in groups.values()])


def group_dice(found: Tensor, truth: Tensor, members: Tensor, smallest: float) -> Tensor:
    """Return the Dice of each group of structures: of the voxels that two channel maps give to it, the share in common.

    Only voxels that both maps give to the same structure are in common: a thalamus that was called putamen, or one of
    the wrong side, is wrong.

    Args:
        found: channels, any shape.
        truth: channels, of the same shape; what is ``IGNORED_CHANNEL`` there counts nowhere.
        members: which classes are in which group, shape (groups, classes), see :func:`group_channels`.
        smallest: voxels; a group of which neither map has more is not judged.

    Returns:
        Shape (groups,), NaN for those not judged; 0 for all where the truth has no structure at all.
    """
    classes = members.shape[1]
    if not ((truth > 0) & (truth != IGNORED_CHANNEL)).any():
        return torch.zeros(len(members), dtype=torch.float64)
    counted = truth != IGNORED_CHANNEL
    agreed = counted & (found == truth)
    sizes = [torch.bincount(part.long(), minlength=classes).double() for part in (found[counted], truth[counted])]
    hits = torch.bincount(truth[agreed].long(), minlength=classes).double()
    of_groups = [members.double() @ counts for counts in (hits, *sizes)]
    judged = torch.maximum(of_groups[1], of_groups[2]) > smallest
    return torch.where(judged, 2 * of_groups[0] / (of_groups[1] + of_groups[2]).clamp(min=1), torch.nan)
