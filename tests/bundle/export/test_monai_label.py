"""MONAI Label's own server with the bundle in its ``monaibundle`` app, over HTTP.

It runs where ``monailabel`` is installed beside this PyTorch, or with the Python that ``MONAI_LABEL_PYTHON`` names.
``monai_label.py`` follows its inference where it is not.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.inference.segmenter import Segmenter
from bundle.labels import read_labels
from bundle.model import read_model
from tests.conftest import COARSE, ROOT

NAME = "brain_mri_transformer_segmentation"
PYTHON = os.environ.get("MONAI_LABEL_PYTHON") or (sys.executable if find_spec("monailabel") else None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PYTHON is None, reason="monailabel is not installed, and MONAI_LABEL_PYTHON names no Python with it"
    ),
]
SECONDS = 300


def unpack_bundle(folder: Path) -> Path:
    """Put the bundle where the app looks for it, on a coarse grid, and with trainings of a step or two."""
    (folder / "models").mkdir(parents=True)
    for name in ("bundle", "networks", "scripts", "models/model.pt", "models/model.json", "models/labels.tsv"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, changes in (("inference", {}), ("train", {"window_mm": [[96] * 3] * 2, "num_workers": 0})):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text()) | {"pixdim": COARSE, "precision": "float32"} | changes
        path.write_text(json.dumps(content))
    return folder


class Server:
    """A running server and its HTTP interface."""

    def __init__(self, folder: Path, scan: Path) -> None:
        self.log = folder / "server.log"
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"BUNDLE_DOWNLOAD_SRC": "local", "HOME": str(folder), "OMP_NUM_THREADS": "2"}
        apps = [PYTHON, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", "apps"]
        subprocess.run(apps, cwd=folder, env=environment, check=True, capture_output=True, timeout=SECONDS)
        self.bundle = unpack_bundle(folder / "apps/monaibundle/model" / NAME)
        (folder / "studies").mkdir()
        shutil.copy(scan, folder / "studies/head.nii.gz")
        shutil.copy(scan, folder / "studies/other.nii.gz")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [PYTHON, "-m", "monailabel.main", "start_server", "--app", "apps/monaibundle", "--studies", "studies"]
        command += ["--conf", "models", NAME, "--host", "127.0.0.1", "--port", str(port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def wait(self) -> None:
        """Wait until the server answers."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.ask("GET", "/info/")
                return
            except urllib.error.URLError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text()[-3000:])

    def ask(self, method: str, path: str, form: dict[str, bytes] | None = None, content: object = None) -> bytes:
        """Return the body of an answer; a form, whose ``label`` is a file, or JSON may go along."""
        body, headers = None, {}
        if form is not None:
            mark = uuid.uuid4().hex
            headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
            parts = [
                f'--{mark}\r\nContent-Disposition: form-data; name="{key}"'.encode()
                + (b'; filename="label.nii.gz"' if key == "label" else b"")
                + b"\r\n\r\n"
                + value
                for key, value in form.items()
            ]
            body = b"\r\n".join([*parts, f"--{mark}--\r\n".encode()])
        elif content is not None:
            body, headers = json.dumps(content).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code}: {self.log.read_text()[-3000:]}") from error


@pytest.fixture(scope="module")
def server(small_scan, tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("monai_label"), small_scan)
    try:
        running.wait()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)


@pytest.fixture(scope="module")
def answer(server, tmp_path_factory):
    """The file that the server gives for the scan."""
    path = tmp_path_factory.mktemp("answer") / "labels.nii.gz"
    path.write_bytes(server.ask("POST", f"/infer/{NAME}?image=head&output=image", {"params": b'{"device": "cpu"}'}))
    return path


@pytest.fixture(scope="module")
def names(small_scan, tmp_path_factory):
    """The name of each voxel by the bundle's own segmentation."""
    options = {"device": "cpu", "engine": "torch", "precision": "float32", "pixdim": COARSE, "flags": None}
    folder = str(tmp_path_factory.mktemp("reference"))
    segmenter = Segmenter(ROOT / "configs/inference.json", bundle_root=str(ROOT), output_dir=folder, **options)
    codes = np.asarray(nib.load(segmenter.segment(small_scan).label_map).dataobj)
    by_code = {label.code: label.name.lower() for label in read_labels()}
    return np.vectorize(by_code.get)(codes)


def test_info_lists_every_structure(server):
    info = json.loads(server.ask("GET", "/info/"))
    wanted = [label.name.lower() for label in read_labels()[1:]]
    assert info["labels"] == wanted
    assert list(info["models"][NAME]["labels"]) == wanted
    assert NAME in info["trainers"]


def test_values_of_the_label_map_have_the_names_of_the_info_table(server, answer, names, small_scan):
    table = json.loads(server.ask("GET", "/info/"))["models"][NAME]["labels"]
    by_value = {0: "background", **{value: name for name, value in table.items()}}
    labels = nib.load(answer)
    found = np.vectorize(by_value.get)(np.asarray(labels.dataobj))
    assert (found == names).mean() > 0.9999
    assert len(np.unique(found)) == 33
    np.testing.assert_allclose(labels.affine, nib.load(small_scan).affine, atol=1e-5)
    assert not (server.bundle / "output").exists()


def test_values_in_their_order_have_the_names_in_theirs(server, answer, names):
    """Slicer gives the lowest value that occurs the first name; each structure is there in this scan."""
    result = json.loads(server.ask("POST", f"/infer/{NAME}?image=head&output=json", {"params": b'{"device": "cpu"}'}))
    values = np.asarray(nib.load(answer).dataobj)
    present = [value for value in np.unique(values) if value]
    by_value = {0: "background", **dict(zip(present, result["label_names"], strict=True))}
    assert (np.vectorize(by_value.get)(values) == names).mean() > 0.9999


def test_training_on_saved_labels_leaves_a_model(server, answer):
    for image in ("head", "other"):
        form = {"params": b"{}", "label": answer.read_bytes()}
        server.ask("PUT", f"/datastore/label?image={image}&tag=final", form)
    server.ask("POST", f"/train/{NAME}", content={"device": "cpu", "max_epochs": 1, "val_split": 0.5})
    end = time.monotonic() + SECONDS
    while (task := json.loads(server.ask("GET", "/train/")))["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < end, task
        time.sleep(1)
    assert task["status"] == "DONE", task["details"]
    (folder,) = (server.bundle / "runs").iterdir()
    model = read_model(folder)
    assert [label.name for label in read_labels(model.label_table)] == [label.name for label in read_labels()]
    assert json.loads((folder / "model.json").read_text())["training"]["steps"] == 1
