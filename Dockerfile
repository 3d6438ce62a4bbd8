# syntax=docker/dockerfile:1
# One image for all of certgate's processes; what it runs is the command: manager, gateway, dashboard, …

FROM python:3.13.16-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/certgate
WORKDIR /source
# The locked packages first: they change less often than our own code, and their layer is kept.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /opt/certgate/bin/python -m pip install --require-hashes --no-deps -r requirements/build.txt -r requirements/runtime.txt
COPY . .
RUN /opt/certgate/bin/python -m pip install --no-deps --no-build-isolation --no-index . \
    && /opt/certgate/bin/python -m pip uninstall --yes uv hatchling editables \
    && /opt/certgate/bin/python -m compileall -q /opt/certgate/lib

FROM python:3.13.16-slim-bookworm
# A fixed number, so that volumes keep their owner across images. The home is made here, or its volume would belong to root.
RUN groupadd --gid 10001 certgate \
    && useradd --uid 10001 --gid certgate --home-dir /home/certgate --no-create-home --shell /usr/sbin/nologin certgate \
    && install --directory --mode 0700 --owner certgate --group certgate /home/certgate /enrollment
COPY --from=build /opt/certgate /opt/certgate
COPY --chmod=755 deploy/scripts/enroll.sh deploy/scripts/gateway.sh /usr/local/bin/
ENV PATH=/opt/certgate/bin:$PATH CERTGATE_HOME=/home/certgate PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /home/certgate
USER certgate
ENTRYPOINT ["certgate"]
CMD ["--help"]
