"""The groups whose Dice a model predicts, and that Dice where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.errors import InputError
from bundle.labels import make_labels
from bundle.model import build_network, find_model, read_model
from bundle.model.quality import group_channels, group_dice
from tests.model_folder import description, write_folder

TABLE = make_labels({0: "Background", 2: "A", 5: "B", 7: "C", 9: "D"})
GROUPS = {"both": [2, 7], "one": [5], "rest": [9]}
OUTPUTS = {"num_outputs": 2, "global_pool": "map", "bounded_outputs": True}
MADE = {"groups": {"inner": [3], "outer": [11]}, "trunk": "0" * 64, "data": None, "steps": 0, "scores": None}


def quality(codes, **changes):
    groups = {f"group {code}": [code] for code in codes}
    data = {"name": "maps", "cases": 1, "sha256": "0" * 12, "modality": "label maps"}
    return {**MADE, "groups": groups, "data": data, **changes}


def test_dice_of_a_group_is_that_of_its_structures_together():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, (12, 13, 14))
    found = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, 5, truth.shape))
    counted = generator.random(truth.shape) < 0.9
    given = torch.from_numpy(np.where(counted, truth, 255)).to(torch.uint8)
    result = group_dice(torch.from_numpy(found).to(torch.uint8), given, group_channels(GROUPS, TABLE), 0)
    for value, codes in zip(result.tolist(), GROUPS.values(), strict=True):
        channels = [label.channel for label in TABLE if label.code in codes]
        hits = sum(((found == c) & (truth == c) & counted).sum() for c in channels)
        sizes = sum(((part == c) & counted).sum() for part in (found, truth) for c in channels)
        assert value == pytest.approx(2 * hits / sizes)


def test_a_structure_taken_for_another_of_its_group_is_wrong():
    truth, members = torch.full((4, 4, 4), 1), group_channels(GROUPS, TABLE)
    assert group_dice(truth, truth, members, 0)[0] == 1
    assert group_dice(torch.full_like(truth, 3), truth, members, 0)[0] == 0


def test_what_is_not_there_is_not_judged_and_what_should_not_be_there_is_wrong():
    truth = torch.zeros(4, 4, 4, dtype=torch.uint8)
    truth[0] = 1
    found = truth.clone()
    found[1] = 2
    result = group_dice(found, truth, group_channels(GROUPS, TABLE), 0)
    assert result[:2].tolist() == [1, 0]
    assert torch.isnan(result[2])
    assert torch.isnan(group_dice(found, truth, group_channels(GROUPS, TABLE), 16)[1]), "16 voxels are too few"


def test_nothing_is_right_where_there_is_no_structure_at_all():
    nothing = torch.zeros(4, 4, 4, dtype=torch.uint8)
    for found in (nothing, torch.full_like(nothing, 2)):
        assert group_dice(found, nothing, group_channels(GROUPS, TABLE), 0).tolist() == [0, 0, 0]


@pytest.fixture
def codes():
    return description()["labels"]["codes"][1:]


def network(**changes):
    return {**description()["network_def"], **OUTPUTS, **changes}


def test_a_model_names_its_groups_in_the_order_of_its_outputs(tmp_path, codes):
    assert read_model(write_folder(tmp_path / "plain")).quality is None
    folder = write_folder(tmp_path / "judging", network_def=network(), quality=quality(codes))
    model = read_model(folder)
    assert model.quality == {f"group {code}": [code] for code in codes}
    built = build_network(model)
    assert (built.num_outputs, built.bounded_outputs) == (2, True)
    outputs = built.eval().forward_with_outputs(torch.rand(1, 1, 16, 16, 16))[1]
    assert outputs.shape == (1, 2)
    assert ((outputs > 0) & (outputs < 1)).all()


def test_groups_that_do_not_fit_the_network_or_the_labels_are_refused(tmp_path, codes):
    for number, (changes, message) in enumerate(
        [
            ({"quality": quality(codes[:1]), "network_def": network()}, "1 groups for 2 outputs"),
            ({"quality": quality(codes), "network_def": network(bounded_outputs=False)}, "that are not bounded"),
            ({"quality": quality(codes)}, "2 groups for 0 outputs"),
            ({"quality": quality([codes[0], 999]), "network_def": network()}, "the code 999, which is no structure's"),
            ({"quality": quality(codes, groups={"$evil": [1]}), "network_def": network()}, "quality"),
        ]
    ):
        folder = write_folder(tmp_path / str(number), **changes)
        with pytest.raises(InputError, match=message) as caught:
            read_model(folder)
        assert "\n" not in str(caught.value)


def test_an_ensemble_predicts_what_all_of_its_members_predict(tmp_path, codes):
    made = {"network_def": network(), "quality": quality(codes)}
    judging = [write_folder(tmp_path / name, **made) for name in ("a", "b")]
    other = write_folder(tmp_path / "c")
    assert find_model(judging).quality == read_model(judging[0]).quality
    assert find_model([*judging, other]).quality is None
