"""The contact sheet of the generator, through its program."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bundle.io.packed import write_packed
from scripts.draw_samples import main
from tests.conftest import ROOT
from tests.phantom import SPACING, brain_codes, write_phantoms


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("maps"))


def test_sheet_shows_samples_and_their_labels(label_maps, tmp_path, capsys):
    sheet = tmp_path / "new" / "sheet.png"
    arguments = [str(label_maps), str(sheet), "--spacing", "6", "--count", "2"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(sheet)
    with Image.open(sheet) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert any(max(colour) - min(colour) > 60 for colour in colours), "labels are coloured"
    assert any(max(colour) == min(colour) > 60 for colour in colours), "images are grey"
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]

    before = sheet.read_bytes()
    assert main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert sheet.read_bytes() == before
    assert main([*arguments, "--overwrite", "--seed", "1"]) == 0
    assert sheet.read_bytes() != before


@pytest.mark.parametrize(
    ("folder", "options", "words"),
    [(True, '{"no_such_range": 1}', "options: found 'no_such_range'"), (False, "{}", "no label map found")],
)
def test_bad_arguments_are_one_line(label_maps, tmp_path, capsys, folder, options, words):
    source = label_maps if folder else tmp_path
    assert main([str(source), str(tmp_path / "sheet.png"), "--spacing", "6", "--options", options]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error.replace("\r", "\n").split("error:")[-1].strip()
    assert not (tmp_path / "sheet.png").exists()


def test_sheet_is_drawn_as_the_config_of_a_training_says(label_maps, tmp_path):
    given = {"pixdim": [6.0] * 3, "window_mm": [[48] * 3, [96, 120, 96]], "seed": 3}
    (tmp_path / "overlay.json").write_text(json.dumps({**given, "train#dataset#options": {"random_contrast": 1.0}}))
    flags = ["--spacing", "6", "--window", "96", "120", "96", "--seed", "3"]
    sheets = {
        "config.png": ["--config", str(ROOT / "configs/train.json"), "--config", str(tmp_path / "overlay.json")],
        "flags.png": [*flags, "--options", "{'random_contrast': 1}"],
        "other.png": flags,
    }
    for name, arguments in sheets.items():
        assert main([str(label_maps), str(tmp_path / name), "--count", "1", *arguments]) == 0
    drawn = {name: (tmp_path / name).read_bytes() for name in sheets}
    assert drawn["config.png"] == drawn["flags.png"] != drawn["other.png"]


def test_brains_without_heads_are_drawn_too(label_maps, tmp_path):
    (tmp_path / "brains").mkdir()
    write_packed(brain_codes(), np.diag([SPACING] * 3 + [1.0]), tmp_path / "brains" / "b.nii.gz")
    arguments = [str(label_maps), "--spacing", "6", "--count", "4"]
    sheets = [tmp_path / name for name in ("heads.png", "both.png")]
    assert main([*arguments, str(sheets[0])]) == 0
    assert main([*arguments, str(sheets[1]), "--brains", str(tmp_path / "brains")]) == 0
    assert sheets[0].read_bytes() != sheets[1].read_bytes()
