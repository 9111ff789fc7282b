"""naiad over gRPC beside transformers in one process, on the same checkpoints and the same work, in one run.

`make bench`, or `python -m benchmarks.serving --repository model_repository [--repeats 3] [--output FILE.json]`.
Rounds are interleaved, so that a machine whose speed drifts slows both alike; medians are printed, the JSON holds
every round.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from naiad.v1 import classification_pb2, classification_pb2_grpc, generation_pb2, generation_pb2_grpc

from benchmarks.report import machine, write_report
from benchmarks.transformers_peer import TransformersDecoder, TransformersEncoder
from benchmarks.workloads import NEW_TOKENS, PROMPT_TOKENS, STREAM_COUNTS, prompts, run_streams, texts
from tests.support.stack import Stack, running_stack

EMBED_TEXTS = 256


class NaiadClient:
    """Drives the services as a client would."""

    def __init__(self, stack: Stack, decoder: str) -> None:
        self._decoder = decoder
        self._generation = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
        self._classification = classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))

    def stream(self, prompt: list[int]) -> Iterator[int]:
        """Generates NEW_TOKENS greedily; yields how many tokens each message brings."""
        request = generation_pb2.GenerateStreamRequest(model=self._decoder)
        request.token_ids.ids.extend(prompt)
        request.use_prefix_cache = False  # every round sends the same prompts; transformers computes them anew, too
        request.sampling.temperature = 0
        request.stopping.max_tokens, request.stopping.ignore_eos = NEW_TOKENS, True
        request.response.return_token_ids = True
        for event in self._generation.GenerateStream(request, timeout=300):
            if event.HasField("delta") and event.delta.token_ids:
                yield len(event.delta.token_ids)

    def embed(self, batch: list[str]) -> int:
        """Embeds the texts in one call; returns the number of tokens."""
        response = self._classification.Embed(classification_pb2.EmbedRequest(model="embed", texts=batch), timeout=300)
        return sum(result.embedding.tokens for result in response.results)


def tokens_per_second(work: Callable[[], int]) -> float:
    """Rate of a function that returns how many tokens it worked on."""
    begun = time.perf_counter()
    tokens = work()
    return tokens / (time.perf_counter() - begun)


def measure(stack: Stack, decoder_name: str, repeats: int) -> list[dict[str, Any]]:
    """All rounds; one row a system, load and round."""
    naiad = NaiadClient(stack, decoder_name)
    decoder, encoder = TransformersDecoder(), TransformersEncoder()
    batch = texts(EMBED_TEXTS)
    rows: list[dict[str, Any]] = []
    for round_number in range(repeats + 1):
        current: list[dict[str, Any]] = []
        for count in STREAM_COUNTS:
            load = f"decode, {count} streams"
            current.append({"system": "naiad", "load": load, **asdict(run_streams(naiad.stream, count))})
            rate = tokens_per_second(partial(decoder.generate, prompts(count), NEW_TOKENS))
            current.append({"system": "transformers", "load": load, "tokens_per_second": rate})
        load = f"embed, {EMBED_TEXTS} texts in arrival order"
        for system, embed in (("naiad", naiad.embed), ("transformers", encoder.embed)):
            rate = tokens_per_second(partial(embed, batch))
            current.append({"system": system, "load": load, "tokens_per_second": rate})
        if round_number == 0:
            continue  # Warm-up: pages, caches and lazy initialisation.
        rows += [{"round": round_number, **row} for row in current]
        print(f"round {round_number} of {repeats} done", flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of medians, and the ratio of the two systems round by round."""
    heads = (
        "load",
        "naiad tokens/s",
        "transformers tokens/s",
        "ratio (min - max)",
        "TTFT p50",
        "inter-token p50 / p99",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for load in dict.fromkeys(row["load"] for row in rows):
        ours = [row for row in rows if row["load"] == load and row["system"] == "naiad"]
        peer = [row for row in rows if row["load"] == load and row["system"] != "naiad"]
        rates = [statistics.median(row["tokens_per_second"] for row in side) for side in (ours, peer)]
        ratios = [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(ours, peer, strict=True)]
        latency = "| | |"
        if "inter_token_p50_ms" in ours[0]:
            names = ("time_to_first_token_p50_ms", "inter_token_p50_ms", "inter_token_p99_ms")
            first, p50, p99 = (statistics.median(row[name] for row in ours) for name in names)
            latency = f"| {first:.0f} ms | {p50:.1f} / {p99:.1f} ms |"
        lines.append(
            f"| {load} | {rates[0]:,.0f} | {rates[1]:,.0f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} - {max(ratios):.1f}) {latency}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--decoder", default="chat", help="model to generate with (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="counted rounds, after one that is not (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/serving.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_stack(arguments.repository, Path(folder)) as stack:
        rows = measure(stack, arguments.decoder, arguments.repeats)
    print(f"{machine()}\n{summary(rows)}")
    figures = {"decoder": arguments.decoder, "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "rows": rows}
    write_report(arguments.output, figures)


if __name__ == "__main__":
    main()
