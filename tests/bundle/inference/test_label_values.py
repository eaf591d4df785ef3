"""What a program gets that leaves the writing out: a channel, and values that ``channel_def`` names."""

from __future__ import annotations

import numpy as np
import pytest
from monai.bundle import ConfigParser

from bundle.errors import OptionError
from bundle.inference import LabelValuesd
from bundle.labels import channel_codes, read_labels
from tests.conftest import ROOT

TABLE = read_labels()


@pytest.fixture
def codes():
    drawn = np.random.default_rng().integers(len(TABLE), size=(5, 6, 7))
    drawn.flat[: len(TABLE)] = range(len(TABLE))
    return channel_codes(TABLE)[drawn]


def test_channels_are_the_places_in_the_label_table(codes):
    found = LabelValuesd("pred")({"pred": codes, "other": 1})
    assert found["other"] == 1
    assert (found["pred"].shape, found["pred"].dtype) == ((1, 5, 6, 7), np.int16)
    names = {label.code: label.name for label in TABLE}
    channels = {label.channel: label.name for label in TABLE}
    assert [names[code] for code in codes.flat] == [channels[value] for value in found["pred"].flat]


def test_codes_stay_what_they_are(codes):
    np.testing.assert_array_equal(LabelValuesd("pred", "codes")({"pred": codes})["pred"], codes[None])


def test_other_values_are_refused():
    with pytest.raises(OptionError, match="label_values: found 'names'; one of channels, codes is wanted"):
        LabelValuesd("pred", "names")


def last_transform(**overrides):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in overrides.pop("files", ["inference.json"])])
    parser.update({"output_dir": "out", **overrides})
    return parser.get_parsed_content("postprocessing").transforms[-1]


def test_config_id_chooses_the_values_and_label_files_keep_their_codes():
    assert last_transform().lookup[60] == 32
    assert last_transform(label_values="codes").lookup[60] == 60
    assert type(last_transform(label_values=None)).__name__ == "SaveImageOutputsd"


def test_archive_config_gives_codes_or_channels():
    for values, last in (("codes", 60), ("channels", 32)):
        parser = ConfigParser()
        parser.read_config(str(ROOT / "configs/deploy.json"))
        parser.update({"label_values": values, "bundle_root": "."})
        *_, mapping, save = parser.get_parsed_content("postprocessing").transforms
        assert type(save).__name__ == "SaveImaged"
        assert mapping({"pred": np.full((1, 2, 2, 2), 32)})["pred"].max() == last
