"""Show a scan with its label map in 3D Slicer, every structure with its name and colour.

In Slicer's Python console, the bundle's folder being FOLDER::

    exec(open("FOLDER/examples/slicer_labels.py").read())
    show("scan.nii.gz", "results/scan/scan_seg.nii.gz", "FOLDER/configs/labels.ctbl")
"""

from __future__ import annotations

from typing import Any

import slicer


def show(scan: str, label_map: str, colours: str) -> Any:
    """Load a scan and a label map of FreeSurfer codes, and return Slicer's segmentation of named segments.

    Args:
        scan: the image.
        label_map: the label map on its grid.
        colours: colour table of the codes, as ``python -m scripts.labels`` writes it.
    """
    slicer.util.loadVolume(scan)
    table = slicer.util.loadColorTable(colours)
    labels = slicer.util.loadLabelVolume(label_map)
    labels.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", labels.GetName())
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, segmentation)
    segmentation.CreateClosedSurfaceRepresentation()
    slicer.mrmlScene.RemoveNode(labels)
    return segmentation
