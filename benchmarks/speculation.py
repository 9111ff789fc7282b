"""Prompt-lookup speculation on and off, on text that repeats, on ordinary chat, and on text made to mislead it.

`python -m benchmarks.speculation [--texts misleading] [--repeats 5] [--output FILE.json]`. Off and on take turns in one
run and must say the same. The misleading text is sampled almost evenly from six tokens: the last few tokens have nearly
always been seen before, and what followed them then is nearly never what follows now. The goals: a gain on text that
repeats, and nowhere less than 0.95 of the speed without.
"""

import argparse
import asyncio
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tritonclient.grpc import service_pb2

from benchmarks.report import machine, table, write_report
from benchmarks.token_times import TimedGeneration, follow
from tests.support.engine_metrics import EngineMetrics
from tests.support.models import demo_model, linked_models
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, Parameter, generate_request

GOAL = 0.95
MODEL = "chat"
NEW_TOKENS = 128
DRAFT_TOKENS = 8
STREAM_COUNTS = (1, 8)
MISLEADING_IDS = tuple(range(400, 406))

_CODE = """def read_settings(path):
    settings = {}
    with open(path) as lines:
        for line in lines:
            name, value = line.strip().split("=")
            settings[name] = value
    return settings
"""
_LIST = "apples, pears, plums, cherries, grapes, figs, dates, oranges, lemons, limes, melons, kiwis"
TEXTS = {
    "repetitive": (
        f"Repeat this code exactly:\n\n{_CODE}",
        f"Repeat this list three times: {_LIST}",
        f"Copy this text word for word, twice: The meeting about the {_LIST} starts at nine in the large room.",
        f"Rewrite this function, change nothing but the name to load_settings:\n\n{_CODE}",
    ),
    "chat": (
        "What is the capital of France, and what is it known for?",
        "Write a short story about a lighthouse keeper.",
        "How do I make bread at home?",
        "Explain to a child why the sky is blue.",
    ),
}


@dataclass(frozen=True)
class Work:
    """Prompts of one kind and how they are continued."""

    prompts: tuple[tuple[int, ...], ...]
    parameters: Mapping[str, Parameter]
    bias_ids: tuple[int, ...] = ()

    def request(self, number: int, name: str, draft_tokens: int) -> service_pb2.ModelInferRequest:
        """Request `number`, of which every run has the same."""
        prompt = self.prompts[number % len(self.prompts)]
        parameters = {**self.parameters, "seed": number, "max_draft_tokens": draft_tokens}
        request = generate_request(
            MODEL, name, prompt, NEW_TOKENS, ignore_eos=True, use_prefix_cache=False, **parameters
        )
        if self.bias_ids:
            for tensor, data_type, values in (
                ("logit_bias_ids", "INT32", np.array(self.bias_ids, np.int32)),
                ("logit_bias_values", "FP32", np.full(len(self.bias_ids), 100, np.float32)),
            ):
                request.inputs.add(name=tensor, datatype=data_type, shape=values.shape)
                request.raw_input_contents.append(values.tobytes())
        return request


@dataclass(frozen=True)
class Load:
    """Streams of one kind of text."""

    text: str
    work: Work
    streams: int


@dataclass(frozen=True)
class Result:
    """One round of one kind of text: without and with speculation."""

    text: str
    streams: int
    tokens_per_second_off: float
    tokens_per_second_on: float
    ratio: float
    drafted_tokens: int
    accepted_tokens: int


def works() -> dict[str, Work]:
    """All kinds of text."""
    tokenizer = Tokenizer.from_file(str(demo_model(MODEL) / "tokenizer.json"))

    def chat(text: str) -> tuple[int, ...]:
        wrapped = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        return tuple(tokenizer.encode(wrapped).ids)

    made = {name: Work(tuple(map(chat, texts)), {}) for name, texts in TEXTS.items()}
    chance = np.random.default_rng(2)
    seen = tuple(tuple(int(i) for i in chance.choice(MISLEADING_IDS, 300)) for _ in range(4))
    made["misleading"] = Work(seen, {"temperature": 100.0, "runtime_top_k": len(MISLEADING_IDS)}, MISLEADING_IDS)
    return made


async def decode_rate(stream: InferStream, load: Load, drafts: int) -> tuple[float, list[list[int]]]:
    """Tokens a second from the last first token to the end, and all tokens."""
    timed = [TimedGeneration(0.0) for _ in range(load.streams)]
    for number in range(load.streams):
        await stream.send(load.work.request(number, f"{number}", drafts))
    await asyncio.gather(*(follow(stream, f"{number}", one) for number, one in enumerate(timed)))
    begun = max(one.delivered_s[0] for one in timed)
    ended = max(one.delivered_s[-1] for one in timed)
    tokens = sum(_tokens_after(one, begun) for one in timed)
    return tokens / (ended - begun), [one.answer.tokens for one in timed]


def _tokens_after(timed: TimedGeneration, moment_s: float) -> int:
    counts = [len(tensors["output_ids"]) for tensors in timed.answer.tensors if len(tensors.get("output_ids", ()))]
    return sum(count for count, when in zip(counts, timed.delivered_s, strict=True) if when > moment_s)


async def measure(server: TritonServer, texts: list[str], repeats: int) -> list[Result]:
    """All rounds, after one that is not counted."""
    loads = [Load(text, work, streams) for text, work in works().items() if text in texts for streams in STREAM_COUNTS]
    results = []
    async with InferStream(server.grpc_address) as stream:
        for round_number in range(repeats + 1):
            for load in loads:
                result = await _compare(server, stream, load, on_first=round_number % 2 == 1)
                if round_number > 0:
                    results.append(result)
            print(f"round {round_number} of {repeats} done", flush=True)
    return results


async def _compare(server: TritonServer, stream: InferStream, load: Load, *, on_first: bool) -> Result:
    rates: dict[int, float] = {}
    tokens: dict[int, list[list[int]]] = {}
    counted = Counter[str]()
    for drafts in (DRAFT_TOKENS, 0) if on_first else (0, DRAFT_TOKENS):
        before = EngineMetrics.parse(server.metrics(), MODEL)
        rates[drafts], tokens[drafts] = await decode_rate(stream, load, drafts)
        after = EngineMetrics.parse(server.metrics(), MODEL)
        for kind in ("draft", "accepted"):
            name = f"naiad_spec_decode_num_{kind}_tokens_total"
            counted[kind] += int(after.total(name) - before.total(name))
    if tokens[0] != tokens[DRAFT_TOKENS]:
        raise RuntimeError(f"speculation changed the {load.text} text of {load.streams} streams")
    off, on = rates[0], rates[DRAFT_TOKENS]
    return Result(load.text, load.streams, off, on, on / off, counted["draft"], counted["accepted"])


def summary(results: list[Result]) -> str:
    """Medians of every kind of text and number of streams."""
    rows = []
    for text, streams in dict.fromkeys((one.text, one.streams) for one in results):
        rounds = [one for one in results if (one.text, one.streams) == (text, streams)]
        ratios = [one.ratio for one in rounds]
        drafted, accepted = (sum(getattr(one, f"{kind}_tokens") for one in rounds) for kind in ("drafted", "accepted"))
        rows.append(
            (
                f"{text}, {streams} streams",
                f"{statistics.median(one.tokens_per_second_off for one in rounds):.1f}",
                f"{statistics.median(one.tokens_per_second_on for one in rounds):.1f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})",
                f"{accepted / drafted:.0%} of {drafted / len(rounds):.0f} a round" if drafted else "none drafted",
            )
        )
    return table(("text", "tokens/s off", "tokens/s on", "ratio (min - max)", "accepted drafts"), rows)


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculation", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="counted rounds, after one that is not")
    parser.add_argument(
        "--texts", nargs="+", default=[*TEXTS, "misleading"], choices=[*TEXTS, "misleading"], help="all unless named"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/speculation.json"))
    arguments = parser.parse_args()
    variant = {MODEL: {"max_draft_tokens": str(DRAFT_TOKENS)}}
    with linked_models(variant, source=demo_model(MODEL)) as repository, run_triton(repository) as server:
        results = asyncio.run(measure(server, arguments.texts, arguments.repeats))
    print(f"{machine()}\n{summary(results)}\nthe outputs were the same; the goal is nowhere below {GOAL:g}")
    write_report(arguments.output, {"new_tokens": NEW_TOKENS, "rounds": [asdict(one) for one in results]})


if __name__ == "__main__":
    main()
