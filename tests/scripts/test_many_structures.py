"""More structures than a byte tells apart: a model of 300, from a scan to labels, maps and scores; no training."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from bundle.datasets import Case, prepare_dataset, read_dataset
from bundle.datasets.paired import CaseDataset
from bundle.errors import InputError
from bundle.inference.segmenter import Segmenter
from bundle.labels import make_labels
from bundle.synthesis import SyntheticBrainDataset
from bundle.training.validation import CodesToChannelsd
from scripts.evaluate import main as evaluate
from scripts.page import main as page
from scripts.segment import main as segment
from tests.bundle.training.tiny_training import NETWORK
from tests.labelled import write_msd, write_nifti
from tests.model_folder import write_folder

NAMES = {0: "background", **{code: f"part-{code}" for code in range(3, 603, 2)}}

WANTED = "found 300 structures; 1 to 254 are wanted to train on"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    definition = {"_target_": "networks.TransformerUNet", "in_channels": 1, "out_channels": len(NAMES), **NETWORK}
    labels = {"codes": list(NAMES), "names": list(NAMES.values())}
    return write_folder(tmp_path_factory.mktemp("model") / "many", network_def=definition, labels=labels)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    image = np.random.default_rng(0).normal(100, 30, (20, 22, 18)).astype(np.float32)
    return write_nifti(tmp_path_factory.mktemp("scan") / "scan.nii.gz", image, np.diag([2.0, 1.5, 1.0, 1.0]))


@pytest.mark.parametrize("window", [[32, 40, 24], [16, 16, 16]], ids=["one window", "several"])
def test_labels_are_those_of_the_logits_as_a_whole(model, scan, tmp_path, window):
    found = []
    for streaming in (True, False):
        options = {"output_dir": str(tmp_path / str(streaming)), "device": "cpu", "roi_size": window}
        paths = Segmenter(model=str(model), streaming=streaming, **options).segment(str(scan))
        found.append(np.asarray(nib.load(paths.label_map).dataobj))
    assert (found[0] > 511).any()
    assert len(np.unique(found[0])) > 10
    assert set(np.unique(found[0])) <= NAMES.keys()
    assert (found[0] != found[1]).mean() < 1e-3, "but for ties"


def test_results_of_300_structures_are_whole(model, scan, tmp_path):
    out = tmp_path / "out"
    assert segment([str(scan), "--model", str(model), "--output-dir", str(out), "--probabilities", "all"]) == 0
    codes = np.asarray(nib.load(out / "scan" / "scan_seg.nii.gz").dataobj)
    with open(out / "scan" / "scan_volumes.tsv", encoding="utf-8", newline="") as file:
        rows = {int(row["code"]): row for row in csv.DictReader(file, delimiter="\t")}
    assert rows.keys() == NAMES.keys() - {0}
    assert {code for code, row in rows.items() if int(row["voxels"])} == set(np.unique(codes)) - {0}
    maps = nib.load(out / "scan" / "scan_probabilities.nii.gz")
    assert maps.shape == (*codes.shape, len(NAMES) - 1)
    assert page([str(out)]) == 0
    seen = write_nifti(tmp_path / "labels" / "scan.nii.gz", codes).parent
    assert evaluate([str(seen), str(seen), "--model", str(model), "--output-dir", str(tmp_path / "scores")]) == 0
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "scores").rglob("*.csv"))
    assert NAMES[int(codes.max())] in text


def test_a_training_says_that_it_tells_254_structures_apart(model, scan):
    table = make_labels(NAMES)
    with pytest.raises(InputError, match=WANTED):
        CaseDataset([Case("a", scan, scan, "a")], table, lambda item: item)
    with pytest.raises(InputError, match=WANTED):
        CodesToChannelsd("label", label_table=model / "labels.tsv")
    with pytest.raises(InputError, match=WANTED):
        SyntheticBrainDataset([scan], 1.0, [[8, 8, 8]] * 2, 1, label_table=model / "labels.tsv")


def test_a_data_set_of_300_structures_is_trained_on_where_groups_merge_them(tmp_path):
    write_msd(tmp_path / "data")
    description = tmp_path / "data" / "dataset.json"
    content = json.loads(description.read_text())
    description.write_text(json.dumps({**content, "labels": {str(code): name for code, name in NAMES.items()}}))
    assert len(read_dataset(tmp_path / "data").table) == len(NAMES)
    with pytest.raises(InputError, match=WANTED):
        prepare_dataset(tmp_path / "data", tmp_path / "out")
    groups = {"Inner": [3], "Rest": [code for code in NAMES if code > 3]}
    assert len(prepare_dataset(tmp_path / "data", tmp_path / "out", groups=groups).table) == 3
