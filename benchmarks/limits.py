"""What the machine can do at most, as far as common libraries show it: `python -m benchmarks.limits [--threads 2]`.

Memory: float32 arrays far larger than the caches, read by one BLAS dot product a thread. Products: square matrices in
numpy (float32), torch (bfloat16) and ONNX Runtime (MatMulInteger, unsigned 8-bit activations and signed 8-bit weights);
they are what those libraries reach, so the hardware's limit is no lower. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

ARRAY_BYTES = 256 << 20
WIDTH = 1536
TRIES = 7


def best_seconds(work: Callable[[], object], tries: int = TRIES) -> float:
    """The shortest of several tries, after one that is not counted."""
    work()
    times = []
    for _ in range(tries):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def memory_read_gb_per_s(threads: int) -> float:
    """10^9 bytes a second, read by `threads` threads at once."""
    import numpy as np

    arrays = [np.ones(ARRAY_BYTES // 4, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = best_seconds(lambda: list(pool.map(lambda array: array @ array, arrays)))
    return threads * ARRAY_BYTES / seconds / 1e9


def float32_gflops() -> float:
    """10^9 float32 operations a second, a multiplication and an addition counted as two."""
    import numpy as np

    left, right = (np.random.default_rng(seed).random((WIDTH, WIDTH), np.float32) for seed in (1, 2))
    return 2 * WIDTH**3 / best_seconds(lambda: left @ right) / 1e9


def bfloat16_gflops(threads: int) -> float:
    """As float32_gflops, on bfloat16 inputs."""
    import torch

    torch.set_num_threads(threads)
    left, right = (torch.rand(WIDTH, WIDTH).to(torch.bfloat16) for _ in range(2))
    return 2 * WIDTH**3 / best_seconds(lambda: left @ right) / 1e9


def int8_gops(threads: int) -> float:
    """10^9 8-bit operations a second, a multiplication and an addition counted as two."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).integers(-127, 128, (WIDTH, WIDTH)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [WIDTH, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [WIDTH, WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {"x": np.random.default_rng(2).integers(0, 256, (WIDTH, WIDTH)).astype(np.uint8)}
    return 2 * WIDTH**3 / best_seconds(lambda: session.run(None, feed)) / 1e9


_MEASURES: dict[str, tuple[Callable[[int], float], bool]] = {
    # A thread of ours each, or as many of the library's.
    "memory_read_gb_per_s": (memory_read_gb_per_s, True),
    "float32_gflops": (lambda _: float32_gflops(), False),
    "bfloat16_gflops": (bfloat16_gflops, False),
    "int8_gops": (int8_gops, False),
}


def machine_limits(threads: int) -> dict[str, float | str]:
    """Every limit, each in a process of its own; a text that says why where one cannot be measured."""
    limits: dict[str, float | str] = {}
    for name, (_, own_threads) in _MEASURES.items():
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        if own_threads:
            environment["OPENBLAS_NUM_THREADS"] = "1"
        command = [sys.executable, "-m", "benchmarks.limits", "--threads", str(threads), "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        known: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        lines = done.stderr.strip().splitlines()
        limits[name] = known.get(name, f"not measured: {lines[-1] if lines else done.returncode}")
    return limits


def main() -> None:
    """Prints the limits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=_MEASURES, help="one limit, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        measure, _ = _MEASURES[arguments.only]
        print(json.dumps({arguments.only: measure(arguments.threads)}))
    else:
        print(json.dumps(machine_limits(arguments.threads), indent=1))


if __name__ == "__main__":
    main()
