# A small image with Python, git and ssh, for a user that owns nothing but its volume; no compiler, no build tools.
# Any base with CPython >= 3.11, its venv module and apt will do.
ARG BASE=python:3.11-slim-bookworm

# -- the wheel, built with the locked tools ------------------------------------------------------------------
FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /build \
 && /build/bin/pip install --quiet --no-compile --no-deps --require-hashes --only-binary :all: --requirement requirements.lock

COPY requirements-runtime.lock ./
RUN python3 -m venv /opt/reconciler \
 && /opt/reconciler/bin/pip install --quiet --no-deps --require-hashes --only-binary :all: --requirement requirements-runtime.lock

COPY . ./
RUN /build/bin/python -m build --quiet --wheel --no-isolation --outdir /dist \
 && /opt/reconciler/bin/pip install --quiet --no-deps --no-index /dist/*.whl \
 && /opt/reconciler/bin/pip uninstall --quiet --yes pip setuptools

# -- what runs -----------------------------------------------------------------------------------------------
FROM ${BASE}

# ssh looks its user up by number and reads known_hosts from that user's home, whatever HOME says: hence usermod.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt \
 && usermod --home /var/lib/reconciler nobody \
 && install --directory --owner=65534 --group=65534 --mode=0700 /var/lib/reconciler

COPY --from=build /opt/reconciler /opt/reconciler

# Everything that is written goes to the volume, so the root file system may be read-only.
ENV PATH=/opt/reconciler/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/reconciler \
    TMPDIR=/var/lib/reconciler \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/reconciler
WORKDIR /var/lib/reconciler
USER 65534:65534

ENTRYPOINT ["reconciler"]
CMD ["serve"]
