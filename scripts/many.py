"""The frame of programs that segment many scans: options, workers, progress, and how it ended."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bundle.choices import BIDS_SUFFIXES, DEFAULT_BIDS_SUFFIX
from bundle.errors import OptionError
from bundle.lean import load_monai_alone
from scripts.command import FAILED
from scripts.pages import note_unknown
from scripts.scan_options import config_of, is_shipped, overrides_of

if TYPE_CHECKING:
    from bundle.cohort.cases import Cohort
    from bundle.cohort.messages import Outcome, Readiness, Settings
    from bundle.cohort.plan import WorkerPlan
    from bundle.cohort.run import Runner
    from bundle.cohort.session import Report

NOTHING_RAN = 2
"""Exit code of a run that could not segment anything."""
SYSTEMS = ("slurm", "pbs", "sge", "lsf")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options on where scans are segmented, and when anew."""
    parser.set_defaults(started=False, own_process=False)
    add = parser.add_argument
    add("--workers", type=_count, metavar="N", help="processes (default: as cores and memory allow; 0: this one alone)")
    add("--threads", type=_positive, metavar="N", help="threads of each (default: the cores divided between workers)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="join the Dask cluster of this scheduler")
    where.add_argument("--cluster", choices=SYSTEMS, help="start workers as jobs, through dask-jobqueue")
    add("--cluster-config", metavar="FILE", help="JSON or YAML: dask-jobqueue's keywords, and jobs, how many")
    add("--retries", type=_count, default=1, metavar="N", help="how often a scan is tried again (default: 1)")
    add("--trust-mtime", action="store_true", help="tell by times, not by hashes, whether an earlier result holds")
    add("--overwrite", action="store_true", help="do every scan again, and replace results that somebody changed")
    add("--pages", action="store_true", help="write a page for each scan and an index of all, see docs/pages.md")
    text = "marks that a page exported, for the table; may be given again"
    add("--ratings", action="append", default=[], metavar="FILE", help=text)


def add_suffix_option(parser: argparse.ArgumentParser, what: str, default: list[str] | None = None) -> None:
    """Give a parser the option on which images of a BIDS data set are segmented; ``what`` begins its help."""
    text = f"{what}: {', '.join(BIDS_SUFFIXES)} (default: {DEFAULT_BIDS_SUFFIX})"
    parser.add_argument("--suffix", nargs="+", choices=BIDS_SUFFIXES, metavar="SUFFIX", default=default, help=text)


def check_run_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program where options do not go together."""
    if options.cluster and not options.cluster_config:
        parser.error("--cluster wants --cluster-config FILE")


def exit_code(code: int, options: argparse.Namespace) -> int:
    """Return the exit code of a program that segments many scans: ``NOTHING_RAN`` where it never came to that."""
    return NOTHING_RAN if code == FAILED and not options.started else code


def load_lean(options: argparse.Namespace) -> None:
    """Load MONAI without what is not needed, in a program's own process; on workers nothing is segmented here."""
    if options.own_process and (options.workers != 0 or is_shipped(options)):
        load_monai_alone()


def refuse_part(options: argparse.Namespace, then: str) -> None:
    """Refuse options that are of all scans in a run over a part of them.

    Args:
        options: the command line.
        then: what takes them once all parts have ended.

    Raises:
        OptionError: naming the option.
    """
    for name in ("pages", "ratings"):
        if getattr(options, name):
            raise OptionError(f"--{name}", "found a part of the scans", f"{then}, once all have ended, is wanted")


def run_and_tell(
    cohort: Cohort,
    options: argparse.Namespace,
    output_dir: str,
    part: str = "",
    log_dir: str = "",
    on_ready: Callable[[Readiness], None] = lambda readiness: None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Segment a cohort, show how it goes, and say how it ended.

    Args:
        cohort: the scans.
        options: the command line.
        output_dir: folder of the results.
        part: name of a part, such as a shard.
        log_dir: folder of the folder of logs; that of the results where empty.
        on_ready: called once, when the first worker can work.
        on_outcome: called for each scan as it ends.
    """
    from tqdm import tqdm

    from bundle.cohort.session import run_cohort
    from bundle.io.names import shown_id
    from bundle.process import Terminated
    from bundle.results.ratings import read_ratings

    ratings = read_ratings(options.ratings)
    with tqdm(total=len(cohort.cases), unit="scan", disable=None, smoothing=0.05) as bar:
        counts = {"failed": 0, "flagged": 0}
        ids = {case.id for case in cohort.cases}

        def ready(readiness: Readiness) -> None:
            options.started = True
            on_ready(readiness)
            if readiness.engine:
                tqdm.write(f"engine {readiness.engine}")

        def ended(outcome: Outcome) -> None:
            on_outcome(outcome)
            bar.update(outcome.case.id in ids)
            counts["failed"] += outcome.result.status == "failed"
            counts["flagged"] += bool(outcome.result.row and outcome.result.row.flags)
            bar.set_postfix(counts, refresh=False)
            if outcome.case.id in ids and outcome.result.status == "failed":
                with bar.external_write_mode(sys.stderr):
                    print(f"error: {error_line_of(outcome)}", file=sys.stderr)

        try:
            with make_runner(cohort, options, output_dir) as runner:
                report = run_cohort(cohort, runner, output_dir, part, log_dir, ready, ended, ratings)
        except (KeyboardInterrupt, Terminated):
            line = f"{bar.n} of {len(cohort.cases)} scans have ended; the same command goes on with the others"
            print(line, file=sys.stderr)
            raise
    print(_last_line(report))
    if not options.pages:  # which say so
        note_unknown(sorted(ratings.keys() - set(map(shown_id, ids))))
    return report


@contextlib.contextmanager
def make_runner(cohort: Cohort, options: argparse.Namespace, output_dir: str) -> Iterator[Runner]:
    """Start what segments scans, as the options have it, and end it with the block."""
    from bundle.cohort.run import InProcess
    from bundle.machine import keep_freed_memory_from_first_use

    settings = _settings(options, output_dir)
    if getattr(options, "collect", False):
        from bundle.cohort.collect import Collector

        yield Collector(cohort.cases, settings.output_dir)
        return
    if options.workers == 0 and not (options.scheduler or options.cluster):
        if options.own_process:  # a worker's would count against what Dask allows it
            keep_freed_memory_from_first_use()
        yield InProcess(settings, options.retries)
        return
    from bundle.cohort.clusters import batch_cluster, has_dashboard, local_workers, running_cluster
    from bundle.cohort.dispatch import PATIENCE, OnDask

    if options.scheduler:
        cluster = running_cluster(options.scheduler)
    elif options.cluster:
        cluster = batch_cluster(options.cluster, options.cluster_config)
    else:
        cluster = local_workers(_plan(options, len(cohort.cases)), is_shipped(options))
    with cluster as client:
        if has_dashboard():
            print(f"dashboard {client.dashboard_link}")
        yield OnDask(client, settings, options.retries, None if options.scheduler or options.cluster else PATIENCE)


def _plan(options: argparse.Namespace, scans: int) -> WorkerPlan:
    """Return how many workers there are, no more than scans; on a GPU one, unless more are asked for."""
    import torch

    from bundle.cohort.plan import plan_workers
    from bundle.machine import available_cores, available_memory

    wanted = options.workers
    on_gpu = torch.cuda.is_available() if options.device is None else options.device != "cpu"
    if wanted is None and on_gpu:
        wanted = 1
    plan = plan_workers(available_cores(), available_memory(), wanted, options.threads)
    if plan.workers <= scans:
        return plan
    return plan_workers(available_cores(), available_memory(), scans, options.threads)


def _settings(options: argparse.Namespace, output_dir: str) -> Settings:
    from bundle.cohort.messages import Settings

    return Settings(
        config_of(options, os.path.abspath),
        overrides_of(options, os.path.abspath),
        os.path.abspath(output_dir),
        options.trust_mtime,
        options.overwrite,
        options.threads,
    )


def error_line_of(outcome: Outcome) -> str:
    """Return why a scan has no result in one line, with its path."""
    attempts = f" ({outcome.attempts} attempts)" if outcome.attempts > 1 else ""
    image, reason = (" ".join(text.split()) for text in (outcome.case.image, outcome.result.reason))
    return f"{reason if image in reason else f'{image}: {reason}'}{attempts}"


def _last_line(report: Report) -> str:
    status = report.tally.status
    ended = ", ".join(f"{status[name]} {name}" for name in ("done", "skipped", "failed") if status[name])
    flagged = f", {report.tally.flagged} flagged" if report.tally.flagged else ""
    outliers = len({outlier.scan for outlier in report.outliers})
    standing = f", {outliers} with outliers" if outliers else ""
    return f"{sum(status.values())} scans: {ended}{flagged}{standing}; {report.table}"


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"found {text}, 0 or more is wanted")
    return value


def _positive(text: str) -> int:
    value = _count(text)
    if value == 0:
        raise argparse.ArgumentTypeError("found 0, 1 or more is wanted")
    return value
