"""Names and colours for viewers, from the command line."""

from __future__ import annotations

import runpy
import sys
from unittest.mock import MagicMock

from scripts.labels import main
from tests.conftest import ROOT


def test_tables_of_the_brain_and_of_a_model(tmp_path, capsys):
    assert main(["--output-dir", str(tmp_path / "brain")]) == 0
    names = ["labels.ctbl", "labels_lut.txt", "labels_itksnap.txt", "labels_terminology.json"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "brain" / name) for name in names]
    assert "\n17 Left-Hippocampus 220 216 20 255\n" in (tmp_path / "brain/labels.ctbl").read_text()
    assert main(["--model", str(ROOT / "models/hippocampus"), "--output-dir", str(tmp_path / "hippocampus")]) == 0
    lines = (tmp_path / "hippocampus/labels.ctbl").read_text().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]


def test_existing_files_and_missing_tables_are_one_line(tmp_path, capsys):
    assert main(["--output-dir", str(tmp_path)]) == 0
    assert main(["--output-dir", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path}/labels.ctbl: exists already; a free name, or overwrite, is wanted\n"
    )
    assert main(["--output-dir", str(tmp_path), "--overwrite", "--label-table", "none.tsv"]) == 1
    assert capsys.readouterr().err == "error: none.tsv: not found; a label table is wanted\n"


def test_slicer_snippet_colours_the_label_map_before_it_imports_it(monkeypatch):
    slicer = MagicMock()
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    show = runpy.run_path(str(ROOT / "examples/slicer_labels.py"))["show"]
    segmentation = show("scan.nii.gz", "labels.nii.gz", "labels.ctbl")
    labels = slicer.util.loadLabelVolume.return_value
    slicer.util.loadColorTable.assert_called_once_with("labels.ctbl")
    names = [name for name, *_ in slicer.mock_calls]
    colour = names.index("util.loadLabelVolume().GetDisplayNode().SetAndObserveColorNodeID")
    bring = "modules.segmentations.logic().ImportLabelmapToSegmentationNode"
    assert colour < names.index(bring)
    slicer.modules.segmentations.logic.return_value.ImportLabelmapToSegmentationNode.assert_called_once_with(
        labels, segmentation
    )
