#!/bin/sh
# Make or repair .venv and install the named requirements files into it, at the versions of constraints.txt.
# Usage, from the bundle's root: [PYTHON=python3.12] sh scripts/environment.sh requirements.txt [...]
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1

cpu_index=https://download.pytorch.org/whl/cpu
venv=.venv
venv_python=$venv/bin/python

fail() {
    echo "error: $*" >&2
    exit 1
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

# The newest supported Python, or the one that PYTHON names.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3.10 python3
    fi
    for name in "$@"; do
        if is_supported "$name"; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.10 to 3.13 is needed, $name is $("$name" --version 2>/dev/null || echo "not a Python that runs");" \
        "name another one with PYTHON=/path/to/python3"
}

# False for a .venv whose making was interrupted, within a package too: pip writes INSTALLER after its files.
is_sound() {
    is_supported "$venv_python" && "$venv_python" -I - >/dev/null 2>&1 <<'PROGRAM'
import pip
from importlib.metadata import distributions

raise SystemExit(not all(package.read_text("INSTALLER") for package in distributions()))
PROGRAM
}

# Debian's python3 lacks ensurepip until the package python3-venv is there.
make_venv() {
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv --clear "$venv"
    elif "$1" -m pip --version >/dev/null 2>&1; then
        "$1" -m venv --clear --without-pip "$venv"
        site_packages=$("$venv_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$1" -m pip install -qq --target "$site_packages" pip
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        package=python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
        echo "Installing $package ..."
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$package"; } >/dev/null ||
            fail "$package cannot be installed; try: apt-get install python3-venv"
        "$1" -m venv --clear "$venv"
    else
        fail "Python's ensurepip is missing; try: apt-get install python3-venv"
    fi
}

has_torch() {
    "$venv_python" -I - "$1" 2>/dev/null <<'PROGRAM'
import sys
from importlib.metadata import version

raise SystemExit("torch==" + version("torch").split("+")[0] != sys.argv[1])
PROGRAM
}

# Without an NVIDIA GPU, PyTorch's CPU build saves gigabytes of CUDA libraries.
install_torch() {
    echo "Installing $1 ..."
    if ! nvidia-smi >/dev/null 2>&1; then
        "$venv_python" -m pip install -qq --no-deps --retries 0 --timeout 15 --index-url "$cpu_index" "$1" 2>/dev/null &&
            return
    fi
    "$venv_python" -m pip install -qq "$1" -c constraints.txt
}

if ! is_sound; then
    base_python=$(find_python)
    echo "Making $venv with $("$base_python" --version) ..."
    make_venv "$base_python"
fi
torch=$(grep '^torch==' constraints.txt)
has_torch "$torch" || install_torch "$torch"
for requirements in "$@"; do
    echo "Installing $requirements ..."
    "$venv_python" -m pip install -qq -r "$requirements" -c constraints.txt
done
