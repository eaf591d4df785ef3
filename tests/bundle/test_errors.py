"""One family of errors: one line each, with a code, through pickling and MONAI's wrappers."""

from __future__ import annotations

import ast
import pickle
import re

import pytest
from monai.transforms import Compose

from bundle import errors
from bundle.errors import (
    CODES,
    BundleError,
    DatasetError,
    ExistsError,
    InputError,
    MissingError,
    TrainingError,
    WeightsError,
    one_line,
    root_cause,
)
from tests.conftest import ROOT

FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BundleError)]


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (InputError("a.nii", "found\nlines", "one is wanted"), "a.nii: found lines; one is wanted", "format"),
        (InputError("a.nii", "found 2D", "3D is wanted", "shape"), "a.nii: found 2D; 3D is wanted", "shape"),
        (MissingError("a.nii", "no such file", "one is wanted"), "a.nii: no such file; one is wanted", "missing"),
        (ExistsError("out"), "out: exists already; a free name, or overwrite, is wanted", "exists"),
        (WeightsError("m.pt", "holds nothing"), "m.pt: holds nothing", "weights"),
        (
            DatasetError("data", [InputError("a.nii", "found 2D", "3D is wanted", "shape")]),
            "data: found 1 problem, the first being a.nii: found 2D; 3D is wanted; a sound data set is wanted",
            "dataset",
        ),
    ],
)
def test_error_is_one_line_with_a_code_and_survives_pickling(error, line, code):
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert str(one) == line
        assert one.code == code
        assert isinstance(one, ValueError)
        assert (str(one.path), one.found, one.wanted) == (str(error.path), error.found, error.wanted)
    assert isinstance(error, OSError) == (code in ("missing", "exists"))


@pytest.mark.parametrize("kind", FAMILY)
def test_code_of_each_class_is_listed(kind):
    assert kind.code in CODES


def test_code_of_each_raise_is_listed():
    kinds = {kind.__name__ for kind in FAMILY} - {"DatasetError"}
    given = []
    for path in [*(ROOT / "bundle").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds:
                codes = [*call.args[3:4], *(word.value for word in call.keywords if word.arg == "code")]
                given += [code.value for code in codes if isinstance(code, ast.Constant)]
    assert len(given) > 20
    assert set(given) <= set(CODES)


def test_no_class_of_errors_or_warnings_stands_elsewhere():
    found = []
    for folder in ("bundle", "scripts", "networks"):
        for path in (ROOT / folder).rglob("*.py"):
            for match in re.finditer(
                r"^class (\w+)\((\w*(?:Error|Exception|Warning))\b", path.read_text(), re.MULTILINE
            ):
                found.append((path.relative_to(ROOT).as_posix(), match[1]))
    assert {path for path, _ in found} == {"bundle/errors.py"}


def fail(error: Exception):
    def transform(_: object) -> None:
        raise error

    return transform


@pytest.mark.parametrize("error", [InputError("a.nii", "found 2D", "3D is wanted"), TrainingError("t", "diverged")])
def test_root_cause_is_found_under_monais_wrapper(error):
    with pytest.raises(RuntimeError) as caught:
        Compose([Compose([fail(error)])])({"image": 1})
    assert root_cause(caught.value) is error
    assert one_line(caught.value) == str(error)
    assert one_line(caught.value, "b.nii") == f"b.nii: {error}"


def test_root_cause_of_what_nobody_foresaw_is_the_first_that_is_no_wrapper():
    with pytest.raises(RuntimeError) as caught:
        Compose([fail(KeyError("image"))])({"image": 1})
    assert isinstance(root_cause(caught.value), KeyError)
    assert root_cause(RuntimeError("alone")).args == ("alone",)
    assert one_line(ValueError()) == "ValueError"
