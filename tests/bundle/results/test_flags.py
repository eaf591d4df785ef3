"""Flags on a head made by code: none as it is, and the right ones after each thing that may go wrong."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from bundle.errors import InputError
from bundle.labels import Label
from bundle.results import structure_volumes
from bundle.results.evidence import Evidence
from bundle.results.flags import (
    DEFAULT_LIMITS,
    find_flags,
    flag_lines,
    flags_by_structure,
    looked_for,
    read_limits,
)
from bundle.results.rules import RULES
from tests.heads import AFFINE, CODES, TABLE, head_codes, head_image

LIMITS = read_limits()


def flags_of(codes, image=None, affine=AFFINE, dropped=None, apart=None):
    rows = structure_volumes(codes, affine, TABLE)
    image = head_image(codes) if image is None else image
    return find_flags(Evidence(image, codes, affine, TABLE, rows, dropped or {}, apart or {}), LIMITS)


def found(*arguments, **options):
    """Return the codes of the flags with the structures that each is about."""
    flags = {}
    for flag in flags_of(*arguments, **options):
        flags.setdefault(flag.code, set()).add(flag.structure)
    return flags


def turned(angle, axis):
    """Return the head's affine after a turn about an axis of the world, in degrees."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(np.deg2rad(angle)) * cross + (1 - np.cos(np.deg2rad(angle))) * cross @ cross
    return nib.affines.from_matvec(turn) @ AFFINE


def test_sound_head_has_no_flag():
    assert flags_of(head_codes()) == []


def test_sound_head_turned_by_20_degrees_has_no_flag():
    rng = np.random.default_rng()
    for _ in range(10):
        assert flags_of(head_codes(), affine=turned(20, rng.normal(size=3))) == []


@pytest.mark.parametrize("axcodes", ["LPS", "PIR"])
def test_flags_do_not_depend_on_the_order_of_axes(axcodes):
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    codes = nib.orientations.apply_orientation(head_codes(), change)
    assert flags_of(codes, affine=AFFINE @ nib.orientations.inv_ornt_aff(change, head_codes().shape)) == []


@pytest.mark.parametrize(
    ("flip", "wanted"),
    [
        ((1, 1, -1), {"upside_down"}),
        ((1, -1, 1), {"back_to_front"}),
        ((-1, 1, 1), {"sides"}),
        ((1, -1, -1), {"upside_down", "back_to_front"}),
        ((-1, 1, -1), {"upside_down", "sides"}),
    ],
)
def test_header_that_turns_the_head_over_is_flagged(flip, wanted):
    flags = found(head_codes(), affine=np.diag([*flip, 1.0]) @ AFFINE)
    assert set(flags) == wanted
    assert flags.get("upside_down", {None}) == {None}
    if "sides" in flags:
        assert flags["sides"] == {label.name for label in TABLE if label.side}


def test_contrast_unlike_t1_is_flagged_whatever_the_units():
    codes = head_codes()
    image = head_image(codes)
    unlike = {"contrast_white", "contrast_depth", "contrast_fluid"}
    assert set(found(codes, 1 - image)) == set(found(codes, (codes > 0).astype(np.float32))) == unlike
    assert set(found(codes, np.where(image > 0.7, 0.5, image))) == unlike - {"contrast_fluid"}
    assert found(codes, 1000 * image - 300) == {}


@pytest.mark.parametrize(("scale", "wanted"), [(0.75, "brain_small"), (1.3, "brain_large")])
def test_brain_of_no_adults_size_is_flagged(scale, wanted):
    (flag,) = flags_of(head_codes(), affine=np.diag([scale] * 3 + [1.0]) @ AFFINE)
    assert (flag.code, flag.structure) == (wanted, None)
    grey = sum(TABLE[0].code != code for code in head_codes().ravel())
    assert flag.value < grey * (4 * scale) ** 3 / 1000  # mL, CSF and ventricles left out


def test_structure_at_the_border_is_flagged_by_its_area():
    codes = head_codes()[:, :, :38]
    cut = {flag.structure: flag.value for flag in flags_of(codes) if flag.code == "cut"}
    assert set(cut) == {
        f"{side}-Cerebral-{tissue}" for side in ("Left", "Right") for tissue in ("Cortex", "White-Matter")
    }
    assert cut == {name: 16.0 * (codes[:, :, -1] == CODES[name]).sum() for name in cut}


def test_brain_stem_may_run_out_of_the_scan():
    codes = head_codes()
    lowest = np.argwhere(codes == CODES["Brain-Stem"])[:, 2].min()
    assert "cut" not in found(codes[:, :, lowest + 1 :])


def test_structure_that_is_not_there_is_flagged():
    codes = head_codes()
    both = np.where(np.isin(codes, [18, 54]), 0, codes)
    assert found(both) == {"missing": {"Left-Amygdala", "Right-Amygdala"}}
    one = np.where(codes == 54, 0, codes)
    assert found(one) == {"missing": {"Right-Amygdala"}, "one_side": {"Right-Amygdala"}}
    for name in ("Inf-Lat-Vent", "CSF"):  # clefts that a healthy or stripped brain may lack
        assert found(np.where(np.isin(codes, [CODES[n] for n in CODES if n.endswith(name)]), 0, codes)) == {}


def test_hemisphere_that_is_not_there_is_flagged():
    codes = head_codes()
    codes[:22] = 0
    flags = found(codes)
    lefts = {label.name for label in TABLE if label.side == "left" and "Inf-Lat" not in label.name}
    assert flags["missing"] == lefts
    assert flags["one_side"] == lefts
    assert "brain_small" in flags


def test_sides_of_different_size_are_flagged_with_left_minus_right_over_the_mean():
    codes = head_codes()
    right = np.argwhere(codes == CODES["Right-Cerebral-Cortex"])
    codes[tuple(right[: len(right) // 3].T)] = CODES["CSF"]
    flags = flags_of(codes)
    assert {flag.structure for flag in flags} == {"Left-Cerebral-Cortex", "Right-Cerebral-Cortex"}
    left, right = ((codes == CODES[f"{side}-Cerebral-Cortex"]).sum() for side in ("Left", "Right"))
    for flag in flags:
        assert (flag.code, flag.threshold) == ("asymmetry", 0.25)
        assert flag.value == pytest.approx(2 * (left - right) / (left + right), abs=1e-4)


def test_large_piece_that_was_dropped_is_flagged_by_its_share():
    volume = 64.0 * (head_codes() == CODES["Left-Hippocampus"]).sum()
    (flag,) = flags_of(head_codes(), dropped={17: 2 * volume, 18: 400.0, 3: 5000.0})
    assert (flag.code, flag.structure) == ("dropped", "Left-Hippocampus")
    assert flag.value == pytest.approx(2 / 3, abs=1e-4)


def test_large_piece_is_flagged_by_its_share_whether_it_was_kept_or_dropped():
    volume = 64.0 * (head_codes() == CODES["Left-Hippocampus"]).sum()
    (flag,) = flags_of(head_codes(), apart={17: volume / 4})
    assert (flag.code, flag.structure, flag.value) == ("pieces", "Left-Hippocampus", 0.25)
    flags = flags_of(head_codes(), dropped={17: 3 * volume}, apart={17: 2 * volume})
    assert {flag.code: flag.value for flag in flags} == {"dropped": 0.75, "pieces": 0.5}
    both = np.where(np.isin(head_codes(), [17, 53]), 0, head_codes())
    assert "pieces" in found(both, apart={17: 8.0})


def test_label_far_from_the_brain_is_flagged_by_its_distance():
    codes = head_codes()
    codes[1:3, 1:3, 1:3] = CODES["Left-Putamen"]
    near = head_codes()
    top = np.argwhere(near == CODES["Left-Cerebral-Cortex"])[:, 2].max()
    near[15:17, 26:28, top + 3 : top + 5] = CODES["Left-Cerebral-Cortex"]  # 12 mm
    (flag,) = flags_of(codes)
    bulk = nib.affines.apply_affine(AFFINE, np.argwhere((codes != 0) & (codes != CODES["CSF"])))
    bulk = bulk[(bulk > AFFINE[:3, 3] + 10).any(axis=1)]
    distance = min(np.linalg.norm(bulk - corner, axis=1).min() for corner in
                   nib.affines.apply_affine(AFFINE, 1 + np.argwhere(np.ones((2, 2, 2)))))  # fmt: skip
    assert (flag.code, flag.structure) == ("apart", "Left-Putamen")
    assert flag.value == pytest.approx(distance, abs=0.01)
    assert found(near) == {}


def test_empty_label_map_is_flagged():
    assert {"missing", "brain_small"} <= set(found(np.zeros_like(head_codes())))


def test_evidence_equals_brute_force_on_a_coarse_grid():
    rng = np.random.default_rng()
    codes = rng.choice([0, 2, 3, 4, 42], size=(7, 6, 5)).astype(np.int16)
    image = rng.normal(size=codes.shape)
    affine = turned(30, rng.normal(size=3))
    evidence = Evidence(image, codes, affine, TABLE, structure_volumes(codes, affine, TABLE))
    both = np.isin(codes, [3, 42])
    np.testing.assert_allclose(
        evidence.centre([3, 42]), nib.affines.apply_affine(affine, np.argwhere(both)).mean(axis=0), atol=1e-9
    )
    assert evidence.median([3, 42]) == np.median(image[both])
    assert evidence.centre([10]) is evidence.median([10]) is None


def test_other_tables_are_not_judged():
    table = [
        Label(0, 0, "Background", (0, 0, 0)),
        Label(1, 3, "Left-Inner", (9, 9, 9)),
        Label(2, 7, "Outer", (9, 0, 9)),
    ]
    codes = np.zeros((9, 9, 9), dtype=np.int16)
    evidence = Evidence(np.ones(codes.shape), codes, np.eye(4), table, structure_volumes(codes, np.eye(4), table))
    assert find_flags(evidence, LIMITS) == looked_for(table, LIMITS) == []


def test_every_rule_has_a_threshold_and_a_reason_and_a_file_may_choose(tmp_path):
    assert set(LIMITS) == set(RULES)
    assert all(limit.reason and limit.thresholds for limit in LIMITS.values())
    content = json.loads(DEFAULT_LIMITS.read_text())
    (tmp_path / "own.json").write_text(json.dumps({"missing": content["missing"] | {"threshold": 1e9}}))
    own = read_limits(tmp_path / "own.json")
    assert looked_for(TABLE, own) == ["missing"]
    codes = head_codes()
    evidence = Evidence(head_image(codes), codes, AFFINE, TABLE, structure_volumes(codes, AFFINE, TABLE))
    assert len(find_flags(evidence, own)) == len(TABLE) - 4  # background, CSF and the inferior horns


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"mising": {"reason": "", "threshold": 1}}', "found the unknown flag 'mising'"),
        ('{"missing": {"reason": "x"}}', "cannot be read as thresholds"),
        ("[1]", "cannot be read as thresholds"),
        ("{", "cannot be read as thresholds"),
    ],
)
def test_unusable_thresholds_are_one_line(tmp_path, content, message):
    (tmp_path / "flags.json").write_text(content)
    with pytest.raises(InputError, match=rf"^{tmp_path}/flags.json: {message}"):
        read_limits(tmp_path / "flags.json")
    with pytest.raises(InputError, match="not found"):
        read_limits(tmp_path / "none.json")


def test_lines_name_the_first_structures_and_count_the_others():
    codes = head_codes()
    codes[:22] = 0
    lines = dict(line.split(": ", 1) for line in flag_lines(flags_of(codes)))
    assert lines["brain_small"] == "brain without ventricles below 700 mL"
    names = "Left-Cerebral-White-Matter, Left-Cerebral-Cortex, Left-Lateral-Ventricle, Left-Cerebellum-White-Matter"
    assert lines["missing"] == f"structure not found ({names} and 9 more)"


def test_flags_of_the_whole_scan_are_flags_of_each_structure():
    codes = np.where(head_codes() == 54, 0, head_codes())
    by_code = flags_by_structure(flags_of(codes, affine=np.diag([1, 1, -1, 1.0]) @ AFFINE), TABLE)
    assert by_code[54] == ["upside_down", "missing", "one_side"]
    assert all(flags == ["upside_down"] for code, flags in by_code.items() if code != 54)
    assert len(by_code) == 32
