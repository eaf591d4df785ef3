"""The forms stand once: in ``bundle.choices`` by name, in ``bundle.forms`` by what they are."""

from __future__ import annotations

import pytest

from bundle import choices
from bundle.errors import ExportError
from bundle.export import READERS
from bundle.forms import FORMS, Source, aotinductor
from bundle.forms.sidecar import model_files, sidecar_path
from tests.tiny_network import tiny_network


def test_every_form_that_can_be_chosen_is_made_and_read_back():
    assert tuple(FORMS) == choices.FORMS
    assert READERS.keys() == FORMS.keys()
    assert all(form.name == name for name, form in FORMS.items())


def test_no_form_writes_over_another():
    files = [file for form in FORMS.values() for file in (*model_files(form.file), sidecar_path(form.file))]
    assert len(files) == len(set(files))


def test_source_makes_what_several_forms_need_once(monkeypatch):
    source = Source(tiny_network())
    assert source.portable is source.portable
    monkeypatch.setattr("bundle.forms.form.export_program", lambda network: [network])
    assert source.program is source.program
    assert source.program == [source.portable], "the portable network, whose sums are exact elsewhere"


def test_missing_compiler_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="aotinductor: found no C\\+\\+ compiler; apt-get install g\\+\\+"):
        aotinductor.FORM.make(Source(tiny_network()), tmp_path / "model.pt2")
