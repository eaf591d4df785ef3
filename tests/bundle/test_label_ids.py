"""Labels in configs: ids that follow from the label table, and names of version 0.8."""

from __future__ import annotations

from operator import attrgetter

import pytest
from monai.bundle import ConfigParser

from bundle.datasets import read_dataset
from bundle.errors import OptionError, one_line, root_cause
from bundle.labels import read_labels
from tests.conftest import ROOT
from tests.labelled import write_msd
from tests.phantom import write_phantoms


def parser_of(*names: str, **overrides: object) -> ConfigParser:
    """Return a parser of configs laid one over the other."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in names])
    parser.update({"bundle_root": str(ROOT), **overrides})
    return parser


def write_table(path, *names: str) -> str:
    path.write_text("index\tname\n" + "".join(f"{code}\t{name}\n" for code, name in enumerate(names, start=1)))
    return str(path)


def test_one_piece_structures_are_those_of_the_shipped_table():
    found = parser_of("inference.json").get_parsed_content("largest_component")
    assert found == [label.code for label in read_labels() if label.code not in (0, 5, 24, 44)]


def test_mirror_averaging_pairs_sides_in_any_spelling(tmp_path):
    table = write_table(tmp_path / "dseg.tsv", "left hippocampus", "stem", "right hippocampus")
    parser = parser_of("inference.json", label_table=table, mirror_averaging=True)
    assert parser.get_parsed_content("inferer").mirrored == [0, 3, 2, 1]
    assert parser_of("inference.json", label_table=table).get_parsed_content("inferer").mirrored is None


def test_mirror_averaging_is_refused_in_one_line_where_sides_are_no_pairs(tmp_path):
    table = write_table(tmp_path / "dseg.tsv", "Hippocampus_L", "stem")
    with pytest.raises(RuntimeError) as caught:
        parser_of("inference.json", label_table=table, mirror_averaging=True).get_parsed_content("inferer")
    assert isinstance(root_cause(caught.value), OptionError)
    assert one_line(caught.value).startswith(f"{table}: found Hippocampus_L without just one partner")


@pytest.mark.parametrize("name", ["labels", "table"])
def test_overlay_sets_the_table_of_a_training_by_either_name(tmp_path, name):
    """``labels`` is the id that overlays of version 0.8 set."""
    table = write_table(tmp_path / "dseg.tsv", "one", "two", "three")
    for configs in (["train.json"], ["train.json", "own_data.json"]):
        parser = parser_of(*configs, **{name: f"$read_labels({table!r})"})
        assert parser.get_parsed_content("num_classes") == 4


def own_classes(folder):
    """Yield each ``_target_`` that took ``labels`` until version 0.8, without it, its name now, and what it makes."""
    (folder / "maps").mkdir()
    maps = [str(path) for path in write_phantoms(folder / "maps", 1).iterdir()]
    write_msd(folder / "data", 2)
    paired = {"cases": read_dataset(folder / "data").cases, "preprocessing": dict}
    label_table = [
        ({"_target_": "bundle.inference.KeepLargestComponentsd", "keys": "pred", "codes": [2]}, "channels"),
        ({"_target_": "bundle.inference.RestoreLabelMapd", "keys": "pred"}, "codes"),
        ({"_target_": "bundle.results.SaveOutputsd", "keys": "pred", "output_dir": "out"}, "table"),
        ({"_target_": "bundle.training.CodesToChannelsd", "keys": "label"}, "lookup"),
        (
            {"_target_": "bundle.training.SyntheticBrainDataset", "data": maps, "spacing": 6.0, "length": 1}
            | {"window_mm": [[96, 96, 96], [96, 96, 96]]},
            "class_table.channels",
        ),
    ]
    yield from ((target, "label_table", attribute) for target, attribute in label_table)
    yield {"_target_": "bundle.datasets.CaseDataset", **paired}, "table", "table"
    yield (
        {"_target_": "bundle.datasets.PairedDataset", **paired, "augmentation": None, "length": 1},
        "table",
        "source.table",
    )


def made(target, attribute, **more):
    """Return what an instance made by MONAI makes of its table."""
    value = attrgetter(attribute)(ConfigParser({"it": {**target, **more}}).get_parsed_content("it"))
    return value.tolist() if hasattr(value, "tolist") else value


def test_configs_of_version_08_may_call_all_of_them_labels(tmp_path):
    path = write_table(tmp_path / "dseg.tsv", "one", "two")
    values = {"label_table": path, "table": read_labels(path)}
    targets = list(own_classes(tmp_path))
    assert len(targets) == 7
    for target, name, attribute in targets:
        with pytest.warns(DeprecationWarning, match=f"labels is called {name} now"):
            old = made(target, attribute, labels=values[name])
        assert old == made(target, attribute, **{name: values[name]}), target["_target_"]
        if name == "label_table":
            assert old != made(target, attribute), target["_target_"]
        with pytest.raises(RuntimeError) as caught, pytest.warns(DeprecationWarning, match="labels is called"):
            made(target, attribute, **{"labels": values[name], name: values[name]})
        assert "got both" in one_line(caught.value)
