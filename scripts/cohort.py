"""Segment thousands of scans: ``python -m scripts.cohort INPUT [INPUT ...] --output-dir DIR``.

INPUT is a scan, a folder, a list (.txt, a path a line), a table (.tsv with the columns image and possibly id) or a BIDS
data set. Each scan gives what scripts.segment gives, and a line in DIR/cohort.tsv; the same command goes on where a run
ended, and does again what has changed. docs/cohorts.md has laptops, servers and clusters.

Exit codes: 0 all scans have a result, 1 some have none, 2 nothing could run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bundle.errors import OptionError
from scripts.command import FAILED, make_parser, print_error, run_program
from scripts.scan_options import add_scan_options, config_of, overrides_of

if TYPE_CHECKING:
    from bundle.cohort.cases import Cohort
    from bundle.cohort.messages import Outcome, Readiness, Settings
    from bundle.cohort.plan import WorkerPlan
    from bundle.cohort.run import Runner
    from bundle.cohort.session import Report

NOTHING_RAN = 2
SYSTEMS = ("slurm", "pbs", "sge", "lsf")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("cohort", __doc__)
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="scan, folder, list (.txt), table (.tsv) or BIDS data set")
    add("--recursive", action="store_true", help="walk the folders inside folders too")
    add("--output-dir", required=True, metavar="DIR", help="folder of the results and tables")
    add_run_options(parser)
    add("--collect", action="store_true", help="write the tables from the results that are there, segment nothing")
    add("--shard", metavar="I/N", help="every N-th scan from the I-th on, for job arrays")
    add_scan_options(parser)
    options = parser.parse_args(arguments)
    if options.cluster and not options.cluster_config:
        parser.error("--cluster wants --cluster-config FILE")
    return options


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options on where scans are segmented, and when anew."""
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


def run(options: argparse.Namespace) -> int:
    """Segment the cohort and return the number of scans without a result."""
    from bundle.cohort.cases import find_cases
    from bundle.cohort.lock import output_lock
    from bundle.results.plan import check_output_dir

    cohort = find_cases(options.inputs, options.recursive)
    part = _shard(options.shard)
    if part:
        cohort = cohort.part(*part)
    for line in cohort.left_out:
        print(line, file=sys.stderr)
    for _, error in cohort.refused:
        print_error(error)
    if not cohort.cases:
        return max(1, len(cohort.refused))
    check_output_dir(options.output_dir)
    name = f"shard_{part[0]}_of_{part[1]}" if part else ""
    with output_lock(options.output_dir, [name] if name else []):
        return run_and_tell(cohort, options, options.output_dir, name).tally.failed


def run_and_tell(cohort: Cohort, options: argparse.Namespace, output_dir: str, part: str = "") -> Report:
    """Segment a cohort, show how it goes, and say how it ended."""
    from tqdm import tqdm

    from bundle.cohort.session import run_cohort
    from bundle.process import Terminated

    with tqdm(total=len(cohort.cases), unit="scan", disable=None, smoothing=0.05) as bar:
        counts = {"failed": 0, "flagged": 0}

        def ready(readiness: Readiness) -> None:
            options.started = True
            if readiness.engine:
                tqdm.write(f"engine {readiness.engine}")

        def ended(outcome: Outcome) -> None:
            if outcome.attempts or not outcome.result.code:
                bar.update()
            counts["failed"] += outcome.result.status == "failed"
            counts["flagged"] += bool(outcome.result.row and outcome.result.row.flags)
            bar.set_postfix(counts, refresh=False)
            if outcome.attempts and outcome.result.status == "failed":
                with bar.external_write_mode(sys.stderr):
                    print(f"error: {_line(outcome)}", file=sys.stderr)

        try:
            with make_runner(cohort, options, output_dir) as runner:
                report = run_cohort(cohort, runner, output_dir, part, ready, ended)
        except (KeyboardInterrupt, Terminated):
            line = f"{bar.n} of {len(cohort.cases)} scans have ended; the same command goes on with the others"
            print(line, file=sys.stderr)
            raise
    print(_last_line(report))
    return report


@contextlib.contextmanager
def make_runner(cohort: Cohort, options: argparse.Namespace, output_dir: str) -> Iterator[Runner]:
    """Start what segments scans, as the options have it, and end it with the block."""
    from bundle.cohort.run import InProcess

    settings = _settings(options, output_dir)
    if getattr(options, "collect", False):
        from bundle.cohort.collect import Collector

        yield Collector(cohort.cases, settings.output_dir)
        return
    if options.workers == 0 and not (options.scheduler or options.cluster):
        yield InProcess(settings, options.retries)
        return
    from bundle.cohort.clusters import batch_cluster, has_dashboard, local_workers, running_cluster
    from bundle.cohort.dispatch import PATIENCE, OnDask

    if options.scheduler:
        cluster = running_cluster(options.scheduler)
    elif options.cluster:
        cluster = batch_cluster(options.cluster, options.cluster_config)
    else:
        cluster = local_workers(_plan(options, len(cohort.cases)))
    with cluster as client:
        if has_dashboard():
            print(f"dashboard {client.dashboard_link}")
        yield OnDask(client, settings, options.retries, None if options.scheduler or options.cluster else PATIENCE)


def _plan(options: argparse.Namespace, scans: int) -> WorkerPlan:
    """Return how many workers there are, no more than scans; on a GPU one, unless more are asked for."""
    from bundle.cohort.plan import plan_workers
    from bundle.machine import available_cores, available_memory

    wanted = options.workers
    if wanted is None and options.device and options.device != "cpu":
        wanted = 1
    plan = plan_workers(available_cores(), available_memory(), wanted, options.threads)
    if plan.workers <= scans:
        return plan
    return plan_workers(available_cores(), available_memory(), scans, options.threads)


def _settings(options: argparse.Namespace, output_dir: str) -> Settings:
    from bundle.cohort.messages import Settings

    return Settings(
        config_of(options),
        overrides_of(options),
        os.path.abspath(output_dir),
        options.trust_mtime,
        options.overwrite,
        options.threads,
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found:
        raise OptionError("--shard", f"found {text!r}", "I/N with I from 1 to N is wanted")
    return int(found[1]), int(found[2])


def _line(outcome: Outcome) -> str:
    attempts = f" ({outcome.attempts} attempts)" if outcome.attempts > 1 else ""
    reason = " ".join(outcome.result.reason.split())
    return f"{reason if outcome.case.image in reason else f'{outcome.case.image}: {reason}'}{attempts}"


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


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code."""
    options = parse_arguments(arguments)
    options.started = False
    code = run_program(run, options)
    return NOTHING_RAN if code == FAILED and not options.started else code


if __name__ == "__main__":
    sys.exit(main())
