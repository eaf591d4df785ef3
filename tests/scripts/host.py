"""A process that has loaded everything and runs a program in a child for each order, and what goes wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

HOST = """
import json, os, resource, runpy, shutil, signal, sys, time
import torch
torch.set_num_threads(1)  # threads that were started would not live on in a child
from pathlib import Path
import bundle.inference.segmenter, bundle.inference.skipping, monai.bundle, tqdm
from scripts.segment import main

def run_bundle(arguments):
    sys.argv = ["monai.bundle", "run", *arguments]
    try:
        runpy.run_module("monai.bundle", run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    except BaseException as error:  # what Python does with it, exit code and all
        sys.excepthook(*sys.exc_info())
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0

def held():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmSize:"))
    return int(line.split()[1]) * 1024

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT, 0o600), number)
        if order["file_size"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
        if order["memory"]:
            resource.setrlimit(resource.RLIMIT_AS, (held() + order["memory"],) * 2)
        code = 99
        try:
            code = (main if order["program"] == "segment" else run_bundle)(order["arguments"])
        finally:
            sys.stdout.flush()
            os._exit(code)
    if order["wait"]:
        folder = Path(order["wait"])
        while not any(folder.glob(".unfinished-*/*")):
            time.sleep(0.001)
    if order["signal"]:
        os.kill(child, order["signal"])
    if order["remove"]:
        os.rename(order["remove"], order["remove"] + ".gone")  # at once, whatever is being written there
        shutil.rmtree(order["remove"] + ".gone", ignore_errors=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed on stderr, without flags, what MONAI logs of a config, and warnings of libraries."""
        noise = ("metadata", "warning: ", "Warning: ", "create_workflow(", "save_outputs(")
        return [line for line in self.err.splitlines() if not any(part in line for part in noise)]


@dataclass
class Host:
    """Runs programs, one after another."""

    process: subprocess.Popen[str]
    folder: Path
    runs: int = field(default=0)

    def run(self, program: str, arguments: list[str], **fault: Any) -> Ended:
        """Run ``scripts.segment`` (``segment``) or ``monai.bundle run`` (``bundle``).

        ``file_size`` and ``memory`` limit the bytes of a file and of what is allocated from now on; once a file grows
        in the folder ``wait``, ``signal`` is sent and the folder ``remove`` is taken away.
        """
        self.runs += 1
        files = {name: self.folder / f"{self.runs}.{name}" for name in ("out", "err")}
        order: dict[str, Any] = {"program": program, "arguments": arguments}
        order |= dict.fromkeys(("file_size", "memory", "signal"), 0) | dict.fromkeys(("wait", "remove"), "")
        order |= {name: str(path) for name, path in files.items()} | fault
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(order, default=str), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return Ended(code, *(files[name].read_text() for name in ("out", "err")))


@contextmanager
def running_host(folder: Path) -> Iterator[Host]:
    """Start a host that keeps what its programs print in a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield Host(process, folder)
        process.stdin.close()
