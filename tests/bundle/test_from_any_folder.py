"""The bundle's configs find their bundle by their own place, whatever folder the work is done in."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from bundle.inference.segmenter import Segmenter
from tests.conftest import COARSE, ROOT

NAME = "moved_bundle"
FOLDERS = ("bundle", "empty", "other")
"""Working folders: the bundle, an empty one, and another bundle, whose tables and weights do not fit."""


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The bundle in another place than this code: a copy of the configs beside links to the rest."""
    root = tmp_path_factory.mktemp("moved") / NAME
    shutil.copytree(ROOT / "configs", root / "configs")
    for name in ("bundle", "networks", "models"):
        (root / name).symlink_to(ROOT / name, target_is_directory=True)
    return root


@pytest.fixture(scope="module")
def folders(moved, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "configs").mkdir()
    (other / "models").mkdir()
    shutil.copy(ROOT / "configs/metadata.json", other / "configs")
    (other / "configs/labels.tsv").write_text("channel\tcode\tname\tred\tgreen\tblue\n0\t0\tBackground\t0\t0\t0\n")
    (other / "models/model.pt").write_text("no weights")
    return {"bundle": moved, "empty": tmp_path_factory.mktemp("empty"), "other": other}


@pytest.fixture
def run_python(host):
    """Run Python in a folder with a search path and return what it printed."""

    def run(folder: Path, path: list[Path], *arguments: object) -> str:
        done = host.run(*arguments, folder=folder, path=path)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.mark.parametrize("folder", FOLDERS)
def test_monai_bundle_run_works_without_a_python_path(run_python, moved, folders, folder, small_scan, tmp_path):
    options = {
        "config_file": moved / "configs/inference.json", "datalist": [str(small_scan)], "output_dir": tmp_path,
        "pixdim": [4.0, 4.0, 4.0], "precision": "float32", "engine": "torch", "device": "cpu", "flags": None,
        "logging_file": False,
    }  # fmt: skip
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    run_python(folders[folder], [], "monai.bundle", "run", *arguments)
    assert (tmp_path / "small" / "small_seg.nii.gz").is_file()


FROM_PYTHON = """
import json, os, sys, torch
from monai.bundle import ConfigWorkflow, create_workflow, load
from networks import TransformerUNet
root, name, *folders = sys.argv[1:]
roots = {}
for folder in folders:
    os.chdir(folder)
    made = {"load": load(name, bundle_dir=root)}
    for kind in ("inference", "train"):
        config = f"{root}/{name}/configs/{kind}.json"
        workflow = ConfigWorkflow(config_file=config, workflow_type=kind, logging_file=False)
        workflow.initialize()
        created = create_workflow(config_file=config, workflow_type=kind, logging_file=False)
        roots |= {f"{folder} {kind} workflow": workflow.bundle_root, f"{folder} {kind} created": created.bundle_root}
        made[f"load {kind}"] = load(name, bundle_dir=root, workflow_type=kind)
        assert isinstance(workflow.network_def, TransformerUNet) and isinstance(created.network_def, TransformerUNet)
    wanted = torch.load(f"{root}/{name}/models/model.pt", weights_only=True)
    for way, network in made.items():
        assert all((value == wanted[key]).all() for key, value in network.state_dict().items()), way
print(json.dumps(roots))
"""


def test_workflows_and_load_find_the_bundle_from_three_folders(run_python, moved, folders):
    printed = run_python(moved.parent, [moved], "-c", FROM_PYTHON, moved.parent, NAME, *folders.values())
    roots = json.loads(printed.splitlines()[-1])
    assert len(roots) == 4 * len(folders)
    assert set(roots.values()) == {str(moved)}


def root_of(config: Path | str | list[str], **overrides: object) -> str:
    workflow = ConfigWorkflow(config, workflow_type="inference", logging_file=False, **overrides)
    return workflow.parser.get_parsed_content("default_model").removesuffix("/models")


@pytest.mark.parametrize("folder", FOLDERS)
def test_root_is_the_configs_own_bundle(moved, folders, folder, monkeypatch):
    monkeypatch.chdir(folders[folder])
    assert root_of(moved / "configs/inference.json") == str(moved)
    assert root_of(os.path.relpath(moved / "configs/inference.json")) in (".", os.path.relpath(moved))
    assert root_of([str(moved / f"configs/{name}.json") for name in ("inference", "evaluate")]) == str(moved)
    assert Segmenter(moved / "configs/inference.json", engine="torch", device="cpu", pixdim=COARSE).label_table == (
        moved / "models/labels.tsv"
    )


def test_a_root_that_is_given_wins(moved):
    assert root_of(moved / "configs/inference.json", bundle_root="/given") == "/given"
    assert root_of(moved / "configs/inference.json", **{"bundle_root": "$'/a' + '/b'"}) == "/a/b"
    parser = ConfigParser()
    parser.read_config(moved / "configs/inference.json")
    parser["bundle_root"] = "/set"
    assert parser.get_parsed_content("default_model") == "/set/models"


@pytest.mark.parametrize("folder", FOLDERS)
def test_archives_config_finds_its_bundle_without_any_code_of_it(run_python, moved, folders, folder, tmp_path):
    shutil.copy(moved / "configs/deploy.json", tmp_path / "mine.json")
    program = """
import sys
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow
config, lone = sys.argv[1:]
options = {"workflow_type": "infer", "logging_file": False}
for make, file in ((ConfigWorkflow, config), (create_workflow, config), (ConfigWorkflow, lone)):
    workflow = make(config_file=file, **options)
    print(workflow.parser.get_parsed_content("checkpoint"))
del workflow
bare = ConfigParser()
bare.read_config(config)
print(bare.get_parsed_content("checkpoint"))
"""
    printed = run_python(folders[folder], [], "-c", program, moved / "configs/deploy.json", tmp_path / "mine.json")
    roots = [line.removesuffix("/models/model.ts") for line in printed.splitlines() if line.endswith("model.ts")]
    assert roots == [str(moved)] * 2 + ["."] * 2


def test_metadata_and_imports_of_an_overlay_are_monais_as_before(moved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = [str(moved / f"configs/{name}.json") for name in ("inference", "evaluate")]
    workflow = ConfigWorkflow(files, workflow_type="inference", logging_file=False)
    assert workflow.parser["_meta_"]["version"] == json.loads((ROOT / "configs/metadata.json").read_text())["version"]
    assert workflow.parser.get_parsed_content("scorer").table[0].name == "Background"


def test_a_config_in_no_bundle_and_a_bare_parser_belong_to_the_code(moved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for place in (tmp_path / "mine.json", tmp_path / "configs/mine.json"):
        shutil.copy(moved / "configs/inference.json", place)
        assert root_of(place) == str(ROOT)
    around = ConfigWorkflow(moved / "configs/inference.json", workflow_type="inference", logging_file=False)
    parser = ConfigParser()
    parser.read_config(moved / "configs/inference.json")
    assert parser.get_parsed_content("bundle_root") == str(ROOT)  # another workflow at hand changes nothing
    assert around.parser.get_parsed_content("bundle_root") == str(moved)
