# Three images; name the target: docker build --target service -t ctr-scorer:service .
#   service      FastAPI on the CPU; no torch, no polars
#   service-gpu  the same with ONNX Runtime for CUDA
#   trainer      torch and polars: trains, exports, loads histories
# Every package is of a version and a hash in deploy/locks; docs/compose.md has the sizes and what of this was run.
ARG BASE=python:3.11-slim-bookworm

# The compiler is in here alone: the wheel carries the native kernels.
FROM ${BASE} AS wheel
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY deploy/locks/build.txt /locks/
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r /locks/build.txt
COPY pyproject.toml setup.py README.md LICENSE /src/
COPY model /src/model
COPY service /src/service
RUN /build/bin/pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheel /src \
 && python -m zipfile --list /wheel/*.whl | grep -c native/_kernel

FROM ${BASE} AS service-packages
RUN python -m venv --without-pip /opt/ctr
COPY deploy/locks/service.txt /locks/
RUN pip --python /opt/ctr/bin/python install --no-cache-dir --require-hashes -r /locks/service.txt
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/ctr/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl

FROM ${BASE} AS service-gpu-packages
RUN python -m venv --without-pip /opt/ctr
COPY deploy/locks/service-gpu.txt /locks/
RUN pip --python /opt/ctr/bin/python install --no-cache-dir --no-deps --require-hashes -r /locks/service-gpu.txt
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/ctr/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl

# The CPU build of torch, where TORCH_INDEX (the CPU index that PyTorch's installation page names) or a wheel in deploy/wheels
# has it; without either the build of the default index, with CUDA's packages of several gigabytes.
FROM ${BASE} AS trainer-packages
RUN python -m venv --without-pip /opt/ctr
ARG TORCH_INDEX=""
COPY deploy/locks/trainer.txt deploy/locks/torch-cpu.txt deploy/locks/torch-cuda.txt /locks/
COPY deploy/wheels /wheels
RUN if [ -n "$TORCH_INDEX" ] || ls /wheels/torch-*.whl; then torch=torch-cpu; else torch=torch-cuda; fi \
 && pip --python /opt/ctr/bin/python install --no-cache-dir --require-hashes -r "/locks/$torch.txt" -r /locks/trainer.txt \
    --find-links /wheels ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/ctr/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl

# What the images share. Nothing writes outside /bundles and /tmp, so the root may be read-only. No pip: nothing is to be added.
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp app \
 && mkdir /bundles && chown app:app /bundles && python -m pip uninstall --yes --quiet pip
COPY deploy/healthy.py /usr/local/bin/healthy
ENV PATH=/opt/ctr/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ARG REVISION=""
LABEL org.opencontainers.image.title="CTR Scorer" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /tmp

FROM runtime AS serving
ENV CTR_HOST=0.0.0.0 CTR_BUNDLE=/bundles
EXPOSE 8080 8082
# Of `serve`; whoever runs `consume-events` asks its CTR_CONSUMER_PORT for /metrics instead, as docker-compose.yml does.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=6 CMD healthy "${CTR_PORT:-8080}" /readyz
ENTRYPOINT ["ctr-service"]
CMD ["serve"]

FROM serving AS service
LABEL org.opencontainers.image.description="DIN and DIEN click models: bundle and Redis to POST /score"
COPY --from=service-packages /opt/ctr /opt/ctr

FROM serving AS service-gpu
LABEL org.opencontainers.image.description="DIN and DIEN click models on a GPU: bundle and Redis to POST /score"
COPY --from=service-gpu-packages /opt/ctr /opt/ctr
ENV CTR_DEVICE=cuda CTR_THREADS=2

FROM runtime AS trainer
LABEL org.opencontainers.image.description="DIN and DIEN click models: training log to bundle"
COPY --from=trainer-packages /opt/ctr /opt/ctr
COPY examples /examples
HEALTHCHECK NONE
ENTRYPOINT ["ctr-model"]
