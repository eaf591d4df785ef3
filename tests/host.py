"""A process that has loaded the packages of others, and runs a program in a child of it for each order.

A start of Python that loads PyTorch and MONAI takes five seconds of a processor, and a child takes none of them: it
has a working folder, an environment, a search path, an end and memory of its own, and it loads the bundle's own code.
What only a true start shows (which packages are loaded, locale, sitecustomize) is tested with ``run_module``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

HOST = """
import atexit, gc, importlib, json, os, resource, runpy, shutil, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)  # threads that were started would not live on in a child
import ignite.engine, ignite.handlers, matplotlib.backends.backend_agg, matplotlib.figure, monai.bundle, monai.engines
import monai.handlers, monai.inferers, nibabel, PIL.Image, scipy.interpolate, scipy.ndimage, tqdm
sys.path.remove("")

def held():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmSize:"))
    return int(line.split()[1]) * 1024

def perform(order):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[:0] = order["path"]
    for name in order["imports"]:
        importlib.import_module(name)
    if order["file_size"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
    if order["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (held() + order["memory"],) * 2)
    name, *sys.argv[1:] = order["arguments"]
    if name == "-c":
        exec(compile(sys.argv.pop(1), "<string>", "exec"), {"__name__": "__main__"})
    elif name.endswith(".py"):
        sys.argv[0] = name
        runpy.run_path(name, run_name="__main__")
    else:
        runpy.run_module(name, run_name="__main__", alter_sys=True)

def end_of(order):
    # As Python ends a program, but for taking down what the host has loaded, which costs more than most programs.
    try:
        perform(order)
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            code = print(code, file=sys.stderr) or 1
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        code = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    atexit._run_exitfuncs()
    return code

def attend(order, child):
    folder, pattern = order["wait"]
    while pattern and not any(Path(folder).glob(pattern)):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.001)
    if order["signal"]:
        os.kill(child, order["signal"])
    if order["remove"]:
        os.rename(order["remove"], order["remove"] + ".gone")  # at once, whatever is being written there
        shutil.rmtree(order["remove"] + ".gone", ignore_errors=True)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code if code >= 0 else 128 - code, flush=True)

gc.freeze()
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child:
        attend(order, child)
        continue
    code = 99
    try:
        code = end_of(order)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
"""
NOISE = ("metadata", "warning: ", "Warning: ", "create_workflow(", "save_outputs(")
UNFINISHED = ".unfinished-*/*"
"""What grows in a folder while results are written to it."""


class Ended(subprocess.CompletedProcess[str]):
    """How a program ended; a signal that ended it is 128 more than its number, as shells have it."""

    @property
    def lines(self) -> list[str]:
        """What it printed on stderr, without flags, what MONAI logs of a config, and warnings of libraries."""
        return [line for line in self.stderr.splitlines() if not any(part in line for part in NOISE)]


@dataclass
class Host:
    """Runs programs, one after another."""

    process: subprocess.Popen[str]
    folder: Path
    runs: int = field(default=0)

    def run(
        self,
        *arguments: object,
        folder: Path = ROOT,
        path: Sequence[object] = (ROOT,),
        imports: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        **fault: Any,
    ) -> Ended:
        """Run a module, a file, or code after ``-c``, in a folder, with what is in ``path`` before all other packages.

        The environment is that of this process, if none is given.
        After the ``imports``, ``file_size`` and ``memory`` limit the bytes of a file and of what is allocated from then
        on. Once something in a folder goes by a pattern, which are the two of ``wait``, ``signal`` is sent and the
        folder ``remove`` is taken away.
        """
        self.runs += 1
        printed = {name: self.folder / f"{self.runs}.{name}" for name in ("out", "err")}
        order: dict[str, Any] = {
            "arguments": list(map(str, arguments)), "folder": folder, "path": list(map(str, path)), "imports": imports,
            "environment": environment or dict(os.environ), "file_size": 0, "memory": 0, "signal": 0,
            "remove": "", "wait": ("", ""), **printed, **fault,
        }  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(order, default=str), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return Ended(order["arguments"], code, *(printed[name].read_text() for name in ("out", "err")))


@contextmanager
def running_host(folder: Path) -> Iterator[Host]:
    """Start a host that keeps what its programs print in a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Host(process, folder)
        process.stdin.close()
