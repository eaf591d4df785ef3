"""Files that other runtimes load, one form a module, and the record beside them."""

from bundle.forms import aotinductor, onnx, openvino, program, torchscript
from bundle.forms.form import Form, Source
from bundle.forms.torchscript import write_torchscript

FORMS: dict[str, Form] = {
    form.name: form for form in (torchscript.FORM, openvino.FORM, program.FORM, onnx.FORM, aotinductor.FORM)
}
"""Every form by its name, in the order of ``bundle.choices.FORMS``."""

__all__ = ["FORMS", "Form", "Source", "write_torchscript"]
