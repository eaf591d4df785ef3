"""Files that other runtimes load: a TorchScript archive that carries its metadata and its transforms."""

from bundle.forms.torchscript import write_torchscript

__all__ = ["write_torchscript"]
