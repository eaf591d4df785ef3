#!/bin/sh
# Ask PyPI's database whether a version of constraints.txt has a known vulnerability. Needs the network.
# Usage, from the bundle's root: sh scripts/audit.sh
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1

python=.venv/bin/python
tool=.venv/.audit
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
    echo "error: nothing was audited: $(tail -n 1 "$log"); a network from which pypi.org answers is wanted" >&2
    exit 1
}

"$python" -m pip install -qq --retries 0 --upgrade --target "$tool" -r requirements-audit.txt >"$log" 2>&1 || fail
# --strict: a version that the database does not know counts as a failure, not as a version without a hole.
PYTHONPATH=$tool "$python" -m pip_audit --requirement constraints.txt --no-deps --disable-pip --strict \
    --progress-spinner off --cache-dir "$tool/cache" 2>"$log" || {
    grep -q '^Found ' "$log" || fail
    grep '^Found ' "$log" >&2
    exit 1
}
