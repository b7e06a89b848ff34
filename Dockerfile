# Two images; name the target:
#   docker build --target service -t ctr-scorer:service .
#   docker build --target trainer -t ctr-scorer:trainer .
# Where the package index would give the CUDA build of torch, name one with the CPU build:
#   docker build --target trainer --build-arg PIP_EXTRA_INDEX_URL=... .
# Run so far, on stand-in base images of the same names: `service` before it had a build stage, and docker-compose.yml with
# a log of 200 users, for which the last layers of `trainer` were a stand-in. Not run yet: anything as it is here since the
# build stage was added, the public base images, the build argument. Not hardened yet: nothing is pinned.

# The compiler is in here alone: the wheel carries the native kernel.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY model /src/model
COPY service /src/service
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /src

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home app && mkdir /bundles && chown app /bundles
COPY --from=build /wheels /wheels

# No torch in here.
FROM base AS service
RUN pip install /wheels/*.whl
USER app
WORKDIR /home/app
ENV CTR_HOST=0.0.0.0 CTR_BUNDLE=/bundles
EXPOSE 8080
ENTRYPOINT ["ctr-service"]
CMD ["serve"]

FROM base AS trainer
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install "$(echo /wheels/*.whl)[train]"
COPY examples /examples
USER app
WORKDIR /home/app
ENTRYPOINT ["ctr-model"]
