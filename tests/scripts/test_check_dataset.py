"""scripts.check_dataset on sound and unsound data sets."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.check_dataset import main
from tests.labelled import SHAPE, make_pair, write_msd, write_nifti


def test_sound_dataset_is_summed_up(tmp_path, capsys):
    write_msd(tmp_path)
    assert main([str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == f"{tmp_path}: 6 cases, no problem found"
    assert lines[1] == "labels: 0 background, 3 Inner, 7 Outer"
    assert lines[4].split(maxsplit=2)[2].count("1 x 1 x 1") == 3
    assert lines[5].split(maxsplit=2)[2].count("14 x 16 x 12") == 3
    assert captured.err == ""


def test_all_problems_are_printed_and_the_exit_code_is_1(run_main, tmp_path):
    write_msd(tmp_path)
    (tmp_path / "imagesTr/case_01.nii.gz").write_bytes(b"")
    write_nifti(tmp_path / "labelsTr/case_03.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    done = run_main("scripts.check_dataset", tmp_path, "--statistics")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/imagesTr/case_01.nii.gz: found an empty file")
    assert second.startswith(f"{tmp_path}/labelsTr/case_03.nii.gz: found no labelled voxel")
    assert done.stderr.splitlines() == [f"error: {tmp_path}: found 2 problems; none is wanted"]


@pytest.mark.parametrize("cached", [True, False])
def test_statistics_are_printed_and_kept_where_asked_for(tmp_path, capsys, cached):
    write_msd(tmp_path / "data")
    cache = ["--cache-dir", str(tmp_path / "cache")] if cached else []
    assert main([str(tmp_path / "data"), "--statistics", *cache]) == 0
    printed = capsys.readouterr().out
    labels = np.concatenate([make_pair(seed)[1].ravel() for seed in range(6)])
    rows = {line.split()[-1]: line.split() for line in printed.splitlines() if line.endswith(("Inner", "Outer"))}
    assert [rows["Inner"][:2], rows["Outer"][:2]] == [["3", str((labels == 3).sum())], ["7", str((labels == 7).sum())]]
    assert "intensities, labelled voxels: mean " in printed
    assert (tmp_path / "cache" / "dataset_statistics.json").exists() == cached


@pytest.mark.parametrize(("name", "message"), [("none", "no such folder"), (".", "found no images with labels")])
def test_folder_that_is_no_dataset_is_one_line(tmp_path, capsys, name, message):
    assert main([str(tmp_path / name)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
