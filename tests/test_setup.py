"""The set-up files: requirements, their pins, the Makefile's targets and what CI runs."""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from bundle.forms import FORMS

ROOT = Path(__file__).parents[1]
REQUIREMENTS_FILES = ("requirements.txt", "requirements-dev.txt", "requirements-cohort.txt")
SETUP_FILES = (
    *REQUIREMENTS_FILES,
    "constraints.txt",
    "Makefile",
    "scripts/environment.sh",
    "scripts/audit.sh",
    ".ci/run",
)
TARGETS = ("help", "demo", "test", "coverage", "lint", "audit", "bench", "bundle", "clean")


def read_requirements(name: str) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    assert len({canonicalize_name(item.name) for item in requirements}) == len(requirements)
    return {canonicalize_name(item.name): item for item in requirements}


def pinned_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def run_make(*arguments: str) -> str:
    # Variables that `make test` hands on would change what is printed here.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    finished = subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize("name", REQUIREMENTS_FILES)
def test_every_requirement_has_a_pin_within_its_range(name: str) -> None:
    pins = read_requirements("constraints.txt")
    for package, requirement in read_requirements(name).items():
        assert package in pins, f"constraints.txt does not pin {package}"
        assert requirement.specifier.contains(pinned_version(pins[package])), f"{requirement} against {pins[package]}"


def test_constraints_are_exact_pins_without_gpu_libraries() -> None:
    for package, requirement in read_requirements("constraints.txt").items():
        Version(pinned_version(requirement))
        assert not package.startswith(("nvidia", "cuda", "triton"))


@pytest.mark.parametrize("package", ["torch", "monai"])
def test_installed_version_is_the_pinned_one(package: str) -> None:
    pins = read_requirements("constraints.txt")
    assert Version(version(package)).public == pinned_version(pins[package])


@pytest.mark.parametrize("name", SETUP_FILES)
def test_torchvision_is_not_asked_for(name: str) -> None:
    assert "torchvision" not in (ROOT / name).read_text()


@needs_make
def test_help_is_the_default_and_names_every_target() -> None:
    text = run_make("help")
    assert [line.split()[:2] for line in text.splitlines()] == [["make", target] for target in TARGETS]
    assert run_make() == text


@needs_make
def test_demo_segments_the_sample_with_monai_bundle() -> None:
    commands = " ".join(run_make("-n", "demo").replace("\\\n", " ").split())
    assert (
        ".venv/bin/python -m monai.bundle run --config_file configs/inference.json"
        " --datalist \"['output/mni152_t1.nii.gz']\" --output_dir output/demo --overwrite True"
    ) in commands
    for ending in ("seg.nii.gz", "volumes.tsv", "qc.png", "seg.json", "record.json"):
        assert f"output/demo/mni152_t1/mni152_t1_{ending}" in commands


@needs_make
def test_test_hands_options_to_pytest() -> None:
    (command,) = [line for line in run_make("-n", "test", "PYTEST_ARGS=-k window").splitlines() if "-m pytest" in line]
    assert command.startswith(".venv/bin/python -m pytest -q ")
    assert command.endswith(" -k window")


def test_ci_lints_first_and_ends_with_the_tests() -> None:
    program = ROOT / ".ci" / "run"
    assert os.access(program, os.X_OK)
    commands = [line.strip() for line in program.read_text().splitlines() if line.strip()]
    assert commands[-2:] == ["make lint", "make test"]
    assert "set -euo pipefail" in commands


def test_environment_refuses_a_python_outside_the_supported_range(tmp_path: Path) -> None:
    old_python = tmp_path / "python3"
    old_python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit\nexit 1\n')
    old_python.chmod(0o755)
    finished = subprocess.run(
        ["sh", ROOT / "scripts" / "environment.sh", "requirements.txt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": str(old_python)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: Python 3.10 to 3.13 is needed")
    assert "Python 3.9.18" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


AUDITS = {
    "clean": ("echo No known vulnerabilities found >&2", 0, ""),
    "vulnerable": ("echo Found 1 known vulnerability >&2; exit 1", 1, "Found 1 known vulnerability\n"),
    "offline": (
        "echo Failed to resolve pypi.org >&2; exit 1", 1,
        "error: nothing was audited: Failed to resolve pypi.org; a network from which pypi.org answers is wanted\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("answer", AUDITS)
def test_audit_tells_a_vulnerability_from_a_network_that_is_not_there(tmp_path: Path, answer: str) -> None:
    program, code, line = AUDITS[answer]
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit\necho "$@" > asked\n{program}\n')
    python.chmod(0o755)
    finished = subprocess.run(["sh", ROOT / "scripts/audit.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (code, line)
    assert {"pip_audit", "constraints.txt", "--strict"} < set((tmp_path / "asked").read_text().split())


def test_tool_of_the_audit_is_pinned() -> None:
    (requirement,) = read_requirements("requirements-audit.txt").values()
    pinned_version(requirement)


@needs_make
def test_demo_keeps_settings_out_of_the_home_folder() -> None:
    assert "MPLCONFIGDIR" in next(line for line in run_make("-pn", "demo").splitlines() if "MPLCONFIGDIR" in line)


def test_metadata_names_the_pinned_versions() -> None:
    metadata = json.loads((ROOT / "metadata.json").read_text())
    named = {
        "torch": metadata["pytorch_version"],
        "monai": metadata["monai_version"],
        "numpy": metadata["numpy_version"],
    }
    pins = read_requirements("constraints.txt")
    for package, stated in (named | metadata["required_packages_version"]).items():
        assert stated == pinned_version(pins[canonicalize_name(package)]), package


def test_workflow_runs_ci_on_every_supported_python() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "run: .ci/run" in workflow
    (versions,) = re.findall(r"python: \[(.*)\]", workflow)
    named = re.findall(r"python3\.\d+", (ROOT / "scripts/environment.sh").read_text().split("find_python()")[1])
    assert {f"python{version}" for version in re.findall(r"3\.\d+", versions)} == set(named)


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="this is no git checkout")
@pytest.mark.parametrize("form", FORMS)
def test_exported_files_are_ignored_by_git_and_weights_are_not(form: str) -> None:
    names = [file := FORMS[form].file, f"{file}.json", *(["model.bin"] if form == "openvino" else [])]
    for folder in ("models", "models/hippocampus"):
        listed = [f"{folder}/{name}" for name in (*names, "model.pt", "model.json", "labels.tsv")]
        done = subprocess.run(["git", "check-ignore", *listed], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.splitlines() == listed[:-3]
