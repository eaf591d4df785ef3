# The bundle as a BIDS app, on CPU: docs/cohorts.md, "BIDS". Built from the bundle's root: docker build -t NAME .
FROM docker.io/library/python:3.12-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
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

# Any user may run it, and what libraries cache goes where any user may write.
RUN useradd --create-home --uid 1000 bids && mkdir /cache && chmod 1777 /cache
ENV PYTHONPATH=/opt/bundle HOME=/cache XDG_CACHE_HOME=/cache MPLCONFIGDIR=/cache/matplotlib
USER bids
WORKDIR /cache
ENTRYPOINT ["python", "-m", "scripts.bids_app"]
