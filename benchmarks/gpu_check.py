"""What to run on a machine with a GPU: exports the chat model for CUDA, serves it, compares it with transformers.

`make check-gpu`, or `python -m benchmarks.gpu_check [--precision bf16] [--kv-block-tokens N] [--output FILE.json]`.
Needs onnxruntime-gpu in the place of onnxruntime. Exit code 0: within tolerance, and the figures are in
benchmarks/results/<GPU>-cuda.json; 1: not within tolerance; 2: no GPU to check.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from naiad.v1 import generation_pb2, generation_pb2_grpc

from benchmarks.figures import decode_figures
from benchmarks.report import table, write_report
from benchmarks.systems.adapters.naiad import ServiceClient, serve
from benchmarks.systems.protocol import Request
from benchmarks.transformers_models import TransformersDecoder
from benchmarks.workloads import NEW_TOKENS, PROMPT_TOKENS, STREAM_COUNTS, prompts
from exporters.demo import chat_checkpoint
from exporters.options import PRECISIONS, CudaOptions, ExportOptions
from exporters.verify_cuda import TOLERANCE, cuda_available
from tests.support.stack import Stack, running_stack

EXIT_NOT_WITHIN_TOLERANCE, EXIT_NO_GPU = 1, 2
_MODEL = "chat"
_PROMPTS = 8

Rows = npt.NDArray[np.float32]


def greedy(stack: Stack, prompt: list[int]) -> list[int]:
    """The served model's greedy continuation of NEW_TOKENS tokens."""
    request = generation_pb2.GenerateRequest(model=_MODEL)
    request.token_ids.ids.extend(prompt)
    request.sampling.temperature = 0
    request.stopping.max_tokens, request.stopping.ignore_eos = NEW_TOKENS, True
    request.response.return_token_ids = True
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    return list(stub.Generate(request, timeout=300).completions[0].token_ids)


def shortfall(tokens: Sequence[int], expected: Rows) -> float:
    """How far below the best the chosen tokens' logits are at worst, relative to the range of their row.

    expected: [tokens, vocabulary], the reference's logits before each token. 0: each token is the reference's own.
    """
    chosen = expected[np.arange(len(tokens)), list(tokens)]
    return float(((expected.max(axis=1) - chosen) / np.ptp(expected, axis=1)).max())


def conformance(stack: Stack, reference: TransformersDecoder) -> dict[str, Any]:
    """Greedy tokens of the served model against transformers in float32 on the CPU."""
    texts = [(prompt, greedy(stack, prompt)) for prompt in prompts(_PROMPTS)]
    rows = [reference.logits(prompt, tokens) for prompt, tokens in texts]
    same = [
        np.mean(expected.argmax(axis=1) == tokens) for (_, tokens), expected in zip(texts, rows, strict=True)
    ]  # fmt: skip
    worst = max(shortfall(tokens, expected) for (_, tokens), expected in zip(texts, rows, strict=True))
    return {"prompts": _PROMPTS, "same_greedy_token": float(np.mean(same)), "worst_shortfall": worst}


def timings(stack: Stack) -> list[dict[str, Any]]:
    """Speed and latency at each number of streams, after one round that is not counted."""

    async def rounds() -> list[dict[str, Any]]:
        client = ServiceClient(stack.address("generation"), _MODEL)
        rows = []
        for count in (max(STREAM_COUNTS), *STREAM_COUNTS):
            requests = [Request(tuple(prompt), NEW_TOKENS) for prompt in prompts(count)]
            answers = await serve(client, requests, reuse_prefix=False)
            rows.append({"streams": count, **asdict(decode_figures(answers))})
        await client.close()
        return rows[1:]

    return asyncio.run(rounds())


def gpu_name() -> str:
    """As the driver calls it."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def _export(options: CudaOptions, repository: Path) -> dict[str, Any]:
    from exporters.cli import print_phase
    from exporters.pipeline import export_checkpoint

    manifest = export_checkpoint(
        ExportOptions(str(chat_checkpoint()), _MODEL, repository, cuda=options, on_phase=print_phase)
    )
    print(f"  {manifest.parity['cuda_graph']}")
    return manifest.parity


def main(argv: Sequence[str] | None = None) -> int:
    """Checks, prints a table, writes JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16")
    parser.add_argument("--kv-block-tokens", type=int, default=CudaOptions().kv_block_tokens, metavar="N")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/<GPU>-cuda.json")
    arguments = parser.parse_args(argv)
    if not cuda_available():
        print(
            "check-gpu: ONNX Runtime has no CUDA provider here, so nothing was checked; on a machine with a GPU put "
            "onnxruntime-gpu in the place of onnxruntime (docs/gpu.md)",
            file=sys.stderr,
        )
        return EXIT_NO_GPU
    options = CudaOptions(arguments.precision, arguments.kv_block_tokens)
    name = gpu_name()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        parity = _export(options, repository)
        with running_stack(repository, Path(folder)) as stack:
            compared = conformance(stack, TransformersDecoder())
            rows = timings(stack)
    heads = (
        "streams",
        "tokens/s",
        "tokens/s, decode alone",
        "TTFT p50, ms",
        "inter-token p50, ms",
        "inter-token p99, ms",
    )
    print(
        table(
            heads,
            [[f"{value:,.1f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows],
        )
    )
    within = compared["worst_shortfall"] <= TOLERANCE[options.precision]
    output = arguments.output or Path("benchmarks/results") / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-cuda.json"
    write_report(
        output,
        {
            "gpu": name,
            "precision": options.precision,
            "kv_block_tokens": options.kv_block_tokens,
            "prompt_tokens": PROMPT_TOKENS,
            "new_tokens": NEW_TOKENS,
            "graph_against_float32": parity,
            "served_against_transformers": {**compared, "within_tolerance": within},
            "timings": rows,
        },
    )
    if not within:
        print(
            f"check-gpu: a token's logit is {compared['worst_shortfall']:.3g} of the range below transformers' best; "
            f"{TOLERANCE[options.precision]} is the most",
            file=sys.stderr,
        )
    return 0 if within else EXIT_NOT_WITHIN_TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
