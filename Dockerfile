# The bundle as a BIDS app, on CPU; docs/cohorts.md, "In a container". Built from the bundle's root: docker build -t NAME .
FROM docker.io/library/python:3.12.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/bundle

# PyTorch without CUDA first: what comes after finds it installed.
COPY requirements.txt requirements-cohort.txt constraints.txt ./
RUN pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)" \
    && pip install -r requirements.txt -r requirements-cohort.txt bids-validator-deno -c constraints.txt

COPY metadata.json LICENSE ./
COPY configs configs
COPY models models
COPY networks networks
COPY bundle bundle
COPY scripts scripts

# Whoever runs it, under whatever id: what libraries keep for a user goes where anybody may write.
# The last one as the programs set it, which would start anew for it (bundle/process.py).
ENV PYTHONPATH=/opt/bundle HOME=/tmp XDG_CACHE_HOME=/tmp/cache LOGNAME=bids GLIBC_TUNABLES=glibc.malloc.tcache_count=0
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "scripts.bids_app"]
