# Triton with the naiad backend and the ONNX Runtime that it loads.
# From the root of the repository, after `make core` has fetched ONNX Runtime's headers to build/onnxruntime:
#   docker build -f k8s/images/triton.Dockerfile -t naiad/triton:0.1.0 .
FROM nvcr.io/nvidia/tritonserver:24.10-py3 AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++-12 nlohmann-json3-dev \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir 'cmake>=3.25' ninja
COPY build/onnxruntime/include /opt/onnxruntime/include
COPY core /source/core
RUN cmake -S /source/core -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=g++-12 \
      -DONNXRUNTIME_ROOT=/opt/onnxruntime -DNAIAD_BUILD_TESTS=OFF \
 && cmake --build /build --target triton_naiad \
 && install -D "$(find /build -name libtriton_naiad.so)" /out/backends/naiad/libtriton_naiad.so
# The wheel carries the library that the backend loads; nothing else of it is kept.
COPY requirements/serve.lock /source/serve.lock
RUN awk '/^onnxruntime==/ {found = 1} found {print} found && !/\\$/ {exit}' /source/serve.lock > /source/onnxruntime.lock \
 && pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: --python-version 3.11 --dest /wheel \
      -r /source/onnxruntime.lock \
 && python3 -m zipfile -e /wheel/onnxruntime-*.whl /wheel/unpacked \
 && install -D /wheel/unpacked/onnxruntime/capi/libonnxruntime.so.* /out/lib/libonnxruntime.so

FROM nvcr.io/nvidia/tritonserver:24.10-py3
COPY --from=build /out /opt/naiad
USER 1000:1000
EXPOSE 8001 8002
