"""Dask clusters for a cohort: workers of this machine, a running cluster, or jobs of a batch system.

Dask is not needed by anything else here, and loaded where a cluster is asked for. It listens on this machine alone
where the workers are its own, and writes nothing into the user's home.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bundle.cohort.plan import WorkerPlan
from bundle.errors import CohortError, InputError, MissingError, OptionError, error_line
from bundle.root import CODE

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

CONFIG = CODE / "configs" / "dask.yaml"
CONNECT = 30
"""Seconds that a scheduler may take to answer."""
LOOK = 5
"""Seconds between two looks for workers of this machine that will not come back by themselves."""
BATCH_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
OWN_KEYS = ("jobs",)
"""Of a cluster's config file, what is not dask-jobqueue's."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextlib.contextmanager
def local_workers(plan: WorkerPlan, lean: bool = False) -> Iterator[Client]:
    """Start workers on this machine, each started anew by its nanny when it ends.

    Args:
        plan: how many.
        lean: let them load MONAI without what the shipped config can do without.

    Raises:
        CohortError: when Dask is not installed.
    """
    distributed = _load("distributed")
    environment = {name: str(plan.threads) for name in THREADS} | {"DASK_CONFIG": os.environ["DASK_CONFIG"]}
    with (
        TemporaryDirectory(prefix="cohort-", ignore_cleanup_errors=True) as scratch,
        distributed.LocalCluster(
            n_workers=plan.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            memory_limit=plan.memory or 0,
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            silence_logs=50,
            preload=["bundle.cohort.preload", *(["bundle.cohort.lean_preload"] if lean else [])],
            env=environment,
        ) as cluster,
        distributed.Client(cluster) as client,
        _kept_alive(cluster, plan.workers),
    ):
        yield client


@contextlib.contextmanager
def _kept_alive(cluster: LocalCluster, workers: int) -> Iterator[None]:
    """Start anew, inside the block, the workers that have gone for good: their nannies have given up, or Dask them."""
    from distributed.core import Status
    from tornado.ioloop import PeriodicCallback

    def revive() -> None:
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in (Status.closed, Status.failed):
                del cluster.workers[name]
        if len(cluster.workers) < workers:
            cluster.scale(workers)

    loop, looking = cluster.loop, PeriodicCallback(revive, 1000 * LOOK)
    assert loop is not None
    loop.add_callback(looking.start)
    try:
        yield
    finally:
        loop.add_callback(looking.stop)


@contextlib.contextmanager
def running_cluster(address: str) -> Iterator[Client]:
    """Join a cluster that is running; its workers must have the bundle on their PYTHONPATH and see the same files.

    Raises:
        CohortError: when Dask is not installed, or nothing answers.
    """
    distributed = _load("distributed")
    try:
        client = distributed.Client(address, timeout=CONNECT)
    except (OSError, TimeoutError, ValueError) as error:
        line = f"no scheduler answers ({error_line(error)})"
        raise CohortError(address, line, "the address of a running one, such as tcp://host:8786, is wanted") from error
    with client:
        yield client


@contextlib.contextmanager
def batch_cluster(system: str, config_file: str | Path) -> Iterator[Client]:
    """Start a cluster whose workers are jobs of a batch system, through dask-jobqueue.

    Args:
        system: one of ``BATCH_SYSTEMS``.
        config_file: JSON or YAML with dask-jobqueue's keywords, and ``jobs``, how many of them.

    Raises:
        CohortError: when dask-jobqueue is not installed, or the batch system is not there.
        InputError: when the file cannot be used.
    """
    distributed, jobqueue = _load("distributed"), _load("dask_jobqueue", "dask-jobqueue")
    options = read_cluster_config(config_file)
    jobs = options.pop("jobs", 1)
    # Jobs start in the user's home, where no bundle is.
    options.setdefault("python", sys.executable)
    prologue = [f"export PYTHONPATH={CODE}", f"export DASK_CONFIG={CONFIG}"]
    options["job_script_prologue"] = [*options.get("job_script_prologue", []), *prologue]
    try:
        cluster = getattr(jobqueue, BATCH_SYSTEMS[system])(**options)
    except (TypeError, ValueError) as error:
        raise OptionError(
            config_file, f"dask-jobqueue refuses it ({error_line(error)})", "its keywords are wanted"
        ) from error
    with cluster:
        try:
            cluster.scale(jobs=jobs)
        except (OSError, RuntimeError) as error:
            raise CohortError(
                system, f"no job could be started ({error_line(error)})", "its commands are wanted"
            ) from error
        with distributed.Client(cluster) as client:
            yield client


def read_cluster_config(path: str | Path) -> dict[str, Any]:
    """Return the keywords of a cluster.

    Raises:
        InputError: when the file is missing or holds no object.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(path, "no such file", "the config of a cluster is wanted")
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text) if path.suffix == ".json" else _load("yaml", "pyyaml").safe_load(text)
    except CohortError:
        raise
    except Exception as error:  # yaml has a family of errors of its own
        raise InputError(path, f"cannot be read ({error_line(error)})", "JSON or YAML is wanted") from error
    if not isinstance(content, dict) or not isinstance(content.get("jobs", 1), int):
        raise InputError(path, "found no keywords of a cluster", "an object, with jobs as a number, is wanted")
    return content


def has_dashboard() -> bool:
    """Tell whether what draws Dask's dashboard is installed."""
    return find_spec("bokeh") is not None


def _load(module: str, package: str = "") -> Any:
    # What a worker that has ended leaves unanswered is told by bundle.cohort.dispatch, and not by asyncio too.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    os.environ.setdefault("DASK_CONFIG", str(CONFIG))  # a file that is there: Dask then writes none into the home
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = "'pip install -r requirements-cohort.txt -c constraints.txt' brings it, --workers 0 does without"
        raise CohortError(package or module, "is not installed", wanted) from error
