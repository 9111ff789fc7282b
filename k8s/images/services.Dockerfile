# The three services: one image, the container's arguments say which (python -m services.generation, ...).
# From the root of the repository:
#   docker build -f k8s/images/services.Dockerfile -t naiad/services:0.1.0 .
FROM python:3.11-slim AS build
WORKDIR /source
COPY requirements requirements
# Every file has a hash of the lock. Without extras that export: no torch, no transformers.
RUN pip install --no-cache-dir --require-hashes --no-deps -r requirements/build.lock \
 && pip wheel --no-cache-dir --require-hashes --no-deps --wheel-dir /wheels -r requirements/serve.lock
COPY pyproject.toml setup.py README.md LICENSE ./
COPY protos protos
COPY services services
COPY exporters exporters
RUN pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'naiad[otel,safety]' \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin naiad
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051 50052 50053 9101 9102 9103
CMD ["python", "-m", "services.generation"]
