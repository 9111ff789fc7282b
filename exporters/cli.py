"""`naiad export` and `python -m exporters`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporters.errors import ExportError
from exporters.options import (
    CUDA_BLOCK_TOKENS,
    DEVICES,
    KV_CACHES,
    PRECISIONS,
    TASKS,
    WEIGHTS,
    CudaOptions,
    ExportOptions,
)

EXIT_BAD_INPUT = 2

# Options that become parameters in config.pbtxt as they are (docs/contracts.md section 1).
_MODEL_PARAMETERS = {
    "kv_cache_bytes": "memory of the KV block pool, bytes",
    "max_step_tokens": "most packed tokens in one step",
    "max_active_requests": "most requests in flight in the engine",
    "max_waiting_requests": "most requests that wait; more are refused",
    "max_batch_tokens": "most packed tokens in one run of an encoder",
    "intra_op_threads": "ONNX Runtime threads, 0 = one a core",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to `parser`."""
    parser.add_argument("checkpoint", help="directory with safetensors, a .gguf file, or a Hugging Face hub id")
    parser.add_argument("--name", required=True, help="name of the model in the repository")
    parser.add_argument(
        "--task", choices=TASKS, default="auto", help="what to serve it for (default: as its architecture says)"
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="auto",
        help="precision of the weights; int8 and int4 are faster and less exact (default: the checkpoint's own)",
    )
    parser.add_argument(
        "--kv-cache",
        choices=KV_CACHES,
        default="auto",
        help="how keys and values are kept; int8 holds almost four times the tokens and is less exact "
        "(default: int8 beside quantised weights, else float)",
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="what the graph runs on; cuda needs onnxruntime-gpu to serve"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="of a graph for cuda (default: fp16)")
    parser.add_argument(
        "--kv-block-tokens",
        type=_count,
        metavar="N",
        help=f"positions in one block of the KV cache of a graph for cuda (default: {CUDA_BLOCK_TOKENS})",
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="model repository (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace an entry of the same name")
    parser.add_argument(
        "--ops-library", type=Path, help="libnaiad_ops.so (default: NAIAD_OPS_LIBRARY, then the build's)"
    )
    limits = parser.add_argument_group("limits of the served model")
    for name, text in _MODEL_PARAMETERS.items():
        limits.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit code: 0, or 2 when the input is at fault."""
    values = vars(arguments)
    try:
        cuda = _cuda_options(arguments)
    except ExportError as error:
        print(f"naiad export: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    options = ExportOptions(
        checkpoint=arguments.checkpoint,
        name=arguments.name,
        repository=arguments.repository,
        task=arguments.task,
        weights=arguments.weights,
        kv_cache=arguments.kv_cache,
        cuda=cuda,
        force=arguments.force,
        ops_library=arguments.ops_library,
        model_parameters={name: str(values[name]) for name in _MODEL_PARAMETERS if values[name] is not None},
        on_phase=print_phase,
    )
    try:
        from exporters.pipeline import export_checkpoint

        manifest = export_checkpoint(options)
    except ExportError as error:
        print(f"naiad export: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"naiad export: {error.name} is not installed: pip install 'naiad[export]'", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(f"{options.repository / manifest.name}: {manifest.task}, {manifest.architecture}, {manifest.precision}")
    if "cuda_graph" in manifest.parity:
        print(f"  cuda: {manifest.parity['cuda_graph']}")
    return 0


def _cuda_options(arguments: argparse.Namespace) -> CudaOptions | None:
    if arguments.device == "cpu":
        for option in ("precision", "kv_block_tokens"):
            if getattr(arguments, option) is not None:
                raise ExportError(f"--{option.replace('_', '-')} is for --device cuda")
        return None
    if arguments.weights not in ("auto", "fp32"):
        raise ExportError(f"--weights {arguments.weights} is for --device cpu; choose --precision for cuda")
    tokens = CUDA_BLOCK_TOKENS if arguments.kv_block_tokens is None else arguments.kv_block_tokens
    return CudaOptions(arguments.precision or "fp16", tokens)


def print_phase(phase: str, seconds: float | None) -> None:
    """One line a phase, begun when it starts and ended with its time."""
    if seconds is None:
        print(f"  {phase:<9}", end="", flush=True)
    else:
        print(f"{seconds:6.1f} s", flush=True)


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters`."""
    parser = argparse.ArgumentParser(prog="python -m exporters", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
