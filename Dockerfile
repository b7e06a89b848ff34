# Two images; name the target:
#   docker build --target service -t ctr-scorer:service .
#   docker build --target trainer -t ctr-scorer:trainer .
# Where the package index would give the CUDA build of torch, name one with the CPU build:
#   docker build --target trainer --build-arg PIP_EXTRA_INDEX_URL=... .
# Run so far, on stand-in base images of the same names: `service` as it is here, and docker-compose.yml with a log of 200
# users, for which the last layers of `trainer` were a stand-in. Not run yet: `trainer` as it is here (its stages were
# reordered since), the public base images, the build argument. Not hardened yet: versions and base images are not pinned.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home app && mkdir /bundles && chown app /bundles
COPY pyproject.toml README.md LICENSE /src/
COPY model /src/model
COPY service /src/service

# No torch in here.
FROM base AS service
RUN pip install /src && rm -rf /src
USER app
WORKDIR /home/app
ENV CTR_HOST=0.0.0.0 CTR_BUNDLE=/bundles
EXPOSE 8080
ENTRYPOINT ["ctr-service"]
CMD ["serve"]

FROM base AS trainer
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install "/src[train]" && rm -rf /src
COPY examples /examples
USER app
WORKDIR /home/app
ENTRYPOINT ["ctr-model"]
