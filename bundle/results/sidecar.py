"""What BIDS has beside a label map, ``NAME_seg.json``: a part of the record in the words of BIDS, and nothing more.

Keys are those of a ``_dseg.json`` among BIDS derivatives (``Description``, ``Sources``, ``SpatialReference``,
``Manual``), and ``GeneratedBy`` as a derivative's ``dataset_description.json`` has it. ``Resolution`` belongs to files
with a ``res`` in their names, ``SkullStripped`` to images, and ``RawSources`` is deprecated: none of them is here.
``tests/bundle/results/test_sidecar.py`` holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.provenance import bundle_name

OWN_SPACE = "orig"
"""BIDS's word for the space of the scan itself."""


def bids_sidecar(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sidecar of a label map from the record of its result.

    ``Sources`` is the scan's name alone: neither says which folder it was in. Whoever puts the result into a BIDS data
    set knows the scan's place in it, and writes its BIDS URI there.
    """
    return {
        "Description": "Discrete segmentation on the voxels of its source; the volumes table beside it names the codes",
        "Sources": [record["input"]["name"]],
        "SpatialReference": OWN_SPACE,
        "Manual": False,
        "GeneratedBy": [{"Name": bundle_name(), "Version": record["versions"]["bundle"]}],
    }
