"""Cohorts: ``python -m benchmarks.cohort ROW [ROW ...]``, with ROW ``small``, ``real`` or ``tasks``.

- ``small``: many phantoms of 24 mm, one of them bad, on two workers of scripts.cohort: what each scan costs beyond the
  bare pipeline (one ``Segmenter``, scan after scan), and whether the parent's memory grows.
- ``real``: copies of the MNI152 T1 on two workers of one thread, on one worker of two threads, and in a shell loop of
  scripts.segment.
- ``tasks``: 10^3, 10^4, 10^5 calls that do nothing: memory of Dask's scheduler when all are handed over at once, and
  when each worker has one, as scripts.cohort does it; size of the table.
"""

from __future__ import annotations
