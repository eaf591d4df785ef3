"""Labels of one's own: merged, renamed, dropped and ignored, in table, training, scores and results alike."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss

from bundle.datasets import CaseDataset, check_dataset, read_dataset
from bundle.errors import OptionError
from bundle.evaluation import Scorer
from bundle.label_groups import IGNORED_CHANNEL, channels_of, grouped_codes, grouped_table, stated_ignore
from bundle.labels import make_labels, read_labels
from bundle.model import read_model
from bundle.training import IgnoredToBackgroundd, IgnoringDiceCELoss
from tests.bundle.training.own_training import run_bundle, train_on
from tests.labelled import make_pair, write_msd, write_nifti, write_nnunet

STORED = make_labels({0: "background", 1: "Anterior", 2: "Posterior", 3: "Fornix", 9: "Other"})
GROUPS = {"Hippocampus": [2, 1], "Rest": [3]}


def loaded(case):
    """Stand for preprocessing: the files' voxels, with a channel."""
    return {key: torch.from_numpy(nib.load(path).get_fdata(dtype=np.float32))[None] for key, path in case.items()}


def test_groups_merge_rename_and_drop():
    table = grouped_table(STORED, GROUPS)
    assert [(label.channel, label.code, label.name) for label in table] == [
        (0, 0, "background"), (1, 1, "Hippocampus"), (2, 3, "Rest"),
    ]  # fmt: skip
    assert channels_of(table, STORED, GROUPS) == {0: 0, 1: 1, 2: 1, 3: 2, 9: 0}
    assert grouped_codes(np.array([0, 1, 2, 3, 9]), GROUPS).tolist() == [0, 1, 1, 3, 9]


def test_without_groups_nothing_changes():
    assert grouped_table(STORED, None) == STORED
    assert channels_of(STORED, STORED, None) == {label.code: label.channel for label in STORED}


def test_ignored_code_is_no_structure():
    table = grouped_table(STORED, None, [3])
    assert [label.code for label in table] == [0, 1, 2, 9]
    assert channels_of(table, STORED, None, [3]) == {0: 0, 1: 1, 2: 2, 9: 3, 3: IGNORED_CHANNEL}


@pytest.mark.parametrize(
    ("groups", "ignore", "found"),
    [
        ({"A": [1, 5]}, [], "found 5 in A"),
        ({"A": [1], "B": [2, 1]}, [], "found 1 in B"),
        ({"A": [0, 1]}, [], "found 0 in A"),
        ({"A": [3]}, [3], "found 3 in A"),
        ({"A": []}, [], "found no code in A"),
        ({}, [], "found no group"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups, ignore, found):
    with pytest.raises(OptionError, match=f"label_groups: {found}"):
        grouped_table(STORED, groups, ignore)


@pytest.fixture
def nnunet(tmp_path):
    """A data set of nnU-Net's form, some of whose voxels nobody labelled (code 5)."""
    folder = tmp_path / "nnunet"
    write_nnunet(folder)
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"]["ignore"] = 5
    (folder / "dataset.json").write_text(json.dumps(content))
    for path in (folder / "labelsTr").iterdir():
        label = make_pair(int(path.name[5:7]))[1]
        label[:, :, :4] = 5
        write_nifti(path, label)
    return folder


def test_ignore_of_nnunet_is_no_structure_and_no_voxel_that_counts(nnunet):
    dataset = read_dataset(nnunet)
    assert [label.name for label in dataset.table] == ["background", "Inner", "Outer"]
    assert dataset.ignore == [5]
    assert check_dataset(dataset, progress=False) == []
    sample = CaseDataset(dataset.cases, dataset.table, loaded, channels=dataset.channels)[0]
    assert (sample["label"][0, :, :, :4] == IGNORED_CHANNEL).all()
    assert set(sample["label"][0, :, :, 4:].unique().tolist()) <= {0, 1, 2}
    assert [label.name for label in read_labels(nnunet / "dataset.json")] == ["background", "Inner", "Outer"]
    assert stated_ignore(nnunet / "dataset.json") == (5,)


def test_loss_does_not_see_ignored_voxels():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 6, 7, 8, requires_grad=True), torch.randint(0, 3, (2, 1, 6, 7, 8))
    options = {"softmax": True, "to_onehot_y": True}
    ours, theirs = IgnoringDiceCELoss(**options), DiceCELoss(**options)
    assert torch.equal(ours(logits, target), theirs(logits, target))
    masked = target.clone()
    masked[:, :, :2] = IGNORED_CHANNEL
    torch.testing.assert_close(ours(logits, masked), theirs(logits[:, :, 2:], target[:, :, 2:]))
    (gradient,) = torch.autograd.grad(ours(logits, masked), logits)
    assert (gradient[:, :, :2] == 0).all()
    assert (gradient[:, :, 2:] != 0).any()
    assert ours(logits, torch.full_like(target, IGNORED_CHANNEL)) == 0


def test_validation_does_not_see_ignored_voxels():
    label = torch.tensor([[[[0, 1, IGNORED_CHANNEL]]]])
    pred = torch.tensor([[[[1, 1, 2]]]])
    found = IgnoredToBackgroundd(["pred", "label"])({"pred": pred, "label": label})
    assert found["pred"].tolist() == [[[[1, 1, 0]]]]
    assert found["label"].tolist() == [[[[0, 1, 0]]]]


def test_references_are_scored_in_the_codes_of_the_groups():
    reference = np.array([[[0, 1, 2, 3]]])
    predicted = np.array([[[0, 1, 1, 3]]])
    scores = Scorer(grouped_table(STORED, GROUPS), groups=GROUPS).score("a", predicted, reference, np.eye(4))
    assert [(score.label.name, score.dice) for score in scores.structures] == [("Hippocampus", 1.0), ("Rest", 1.0)]
    assert scores.unknown_codes == ()


def test_groups_go_through_training_table_evaluation_and_results(run_main, tmp_path):
    data = tmp_path / "data"
    write_msd(data)
    run = train_on(data, tmp_path / "run", fold=0, label_groups={"All": [3, 7]})
    model = read_model(run)
    assert [(label.code, label.name) for label in model.table] == [(0, "background"), (3, "All")]
    assert model.groups == {"All": [3, 7]}
    assert torch.load(run / "model.pt", weights_only=True)["head.weight"].shape[0] == 2
    run_bundle("inference", "evaluate", model=run, dataset_dir=data, output_dir=tmp_path / "out", engine="torch")
    assert list(json.loads((tmp_path / "out/summary.json").read_text())["structures"]) == ["All"]
    done = run_main("scripts.evaluate", data / "labelsTr", data / "labelsTr", "--model", run, "--all-cases")
    (row,) = (line.split() for line in done.stdout.splitlines() if line.startswith("All "))
    assert row[1:3] == ["6", "1.000"]
    assert "not in the label table" not in done.stderr


@pytest.mark.slow
def test_training_and_evaluation_leave_ignored_voxels_out(nnunet, tmp_path):
    run = train_on(nnunet, tmp_path / "run", fold=0)
    model = read_model(run)
    assert (model.ignore, model.content["labels"]["codes"]) == ([5], [0, 3, 7])
    run_bundle("inference", "evaluate", model=run, dataset_dir=nnunet, output_dir=tmp_path / "out", engine="torch")
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["ignored_codes"], list(summary["structures"])) == ([5], ["Inner", "Outer"])


def test_labels_that_an_overlay_merged_by_hand_are_those_of_the_model(run_main, tmp_path):
    """As it was done before there were groups: codes mapped in preprocessing, and a table of its own."""
    data = tmp_path / "data"
    write_msd(data)
    mapped = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [7], "target_labels": [3]}
    mapped |= {"allow_missing_keys": True}
    overlay = {
        "+imports": ["$from bundle.labels import make_labels"],
        "labels": "$make_labels({0: 'background', 3: 'Both'})",
        "+preprocessing": {"transforms": [*json.loads(_overlay())["preprocessing"]["transforms"], mapped]},
    }
    (tmp_path / "merged.json").write_text(json.dumps(overlay))
    run = train_on(data, tmp_path / "run", str(tmp_path / "merged.json"), fold=0)
    assert [(label.code, label.name) for label in read_labels(run / "labels.tsv")] == [(0, "background"), (3, "Both")]
    scan = data / "imagesTr/case_00.nii.gz"
    done = run_main("scripts.segment", scan, "--model", run, "--output-dir", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(np.unique(nib.load(tmp_path / "out/case_00/case_00_seg.nii.gz").dataobj)) <= {0, 3}


def _overlay():
    from tests.conftest import ROOT

    return (ROOT / "configs/own_data.json").read_text()


def test_rare_codes_are_a_warning_of_the_check(run_main, tmp_path):
    data = tmp_path / "data"
    write_msd(data, 12)
    content = json.loads((data / "dataset.json").read_text())
    content["labels"] |= {"8": "Seldom", "9": "Small", "11": "Never"}
    (data / "dataset.json").write_text(json.dumps(content))
    for number in range(12):
        label = make_pair(number)[1]
        label[0, :2, 0] = 9
        if number == 3:
            label[-4:, -4:, -4:] = 8
        write_nifti(data / f"labelsTr/case_{number:02d}.nii.gz", label)
    done = run_main("scripts.check_dataset", data)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"warning: code {code} {name} is rare: in {cases} of 12 cases, {voxels} voxels in all; "
        "merge or leave it out (label_groups)"
        for code, name, cases, voxels in ((8, "Seldom", 1, 64), (9, "Small", 12, 24), (11, "Never", 0, 0))
    ]
