"""What a guide costs: time per token with and without one, and the time to compile it.

`python -m benchmarks.guided [--repeats 5] [--output FILE.json]`, or `make bench-guided`. With and without take turns in
one run; times are the engine's own (`decode_us`, `queue_us`). Guides are such that texts do not end within the tokens
that are asked for, so that both sides make the same number of tokens.
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.report import machine, table, write_report
from tests.support.guided_schemas import GUIDED_SCHEMAS
from tests.support.models import demo_model, linked_models
from tests.support.triton import run_triton
from tests.support.triton_stream import Generation, InferStream, Parameter, generate_request

MODEL = "chat"
NEW_TOKENS = 96
STREAM_COUNTS = (1, 8)
PROMPT = "<|im_start|>user\nWrite a long shopping list as JSON.<|im_end|>\n<|im_start|>assistant\n"
_SHOPPING = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["item", "count"],
    },
    "minItems": 50,
}
GUIDES: dict[str, tuple[str, str]] = {
    "schema": ("json_schema", json.dumps(_SHOPPING)),
    "words": ("regex", "([A-Za-z']+[ ,.])+END OF TEXT"),
    "anything": ("regex", "(.|\\n)+END OF TEXT"),
}


@dataclass(frozen=True)
class Round:
    """One round of one guide."""

    guide: str
    streams: int
    token_ms_without: float
    token_ms_with: float
    ratio: float


@dataclass(frozen=True)
class Compilation:
    """One guide that the engine had not seen before, and the same again."""

    guide: str
    first_ms: float
    again_ms: float


def guide_parameters(name: str, variant: str = "") -> dict[str, Parameter]:
    """Parameters of a request with a guide; a `variant` makes the schema a new one that means the same."""
    kind, text = GUIDES[name] if name in GUIDES else ("json_schema", json.dumps(GUIDED_SCHEMAS[name][1]))
    if variant:
        text = json.dumps({**json.loads(text), "title": variant})
    return {"guided_decoding_guide_type": kind, "guided_decoding_guide": text}


async def generate(
    stream: InferStream, prompt: Sequence[int], count: int, tokens: int, parameters: dict[str, Parameter]
) -> list[Generation]:
    """`count` generations at once; raises if one fails."""
    for number in range(count):
        request = generate_request(
            MODEL, str(number), prompt, tokens, temperature=1.0, seed=number, max_draft_tokens=0, **parameters
        )
        await stream.send(request)
    answers = [await stream.rest(str(number), timeout_s=300) for number in range(count)]
    for answer in answers:
        if answer.error_message or answer.finish_reason == "error":
            raise RuntimeError(str(answer.error_message or answer.final["error_message"]))
    return answers


def token_ms(answers: list[Generation]) -> float:
    """Mean time between two tokens."""
    return statistics.mean(one.number("decode_us") / (one.number("completion_tokens") - 1) for one in answers) / 1e3


async def measure(address: str, prompt: Sequence[int], repeats: int) -> tuple[list[Round], list[Compilation]]:
    """All rounds, after one that is not counted; then every schema compiled `repeats` times."""
    rounds, compilations = [], []
    async with InferStream(address) as stream:
        for number in range(repeats + 1):
            for name in GUIDES:
                for count in STREAM_COUNTS:
                    sides: list[tuple[str, dict[str, Parameter]]] = [
                        ("without", {"ignore_eos": True}),
                        ("with", guide_parameters(name)),
                    ]
                    times = {}
                    for side, parameters in sides if number % 2 else reversed(sides):
                        times[side] = token_ms(await generate(stream, prompt, count, NEW_TOKENS, parameters))
                    if number > 0:
                        ratio = times["with"] / times["without"]
                        rounds.append(Round(name, count, times["without"], times["with"], ratio))
        for number in range(repeats):
            for name in GUIDED_SCHEMAS:
                parameters = guide_parameters(name, f"{number}")
                first, again = [
                    (await generate(stream, prompt, 1, 1, parameters))[0].number("queue_us") / 1e3 for _ in range(2)
                ]
                compilations.append(Compilation(name, first, again))
    return rounds, compilations


def summary(rounds: list[Round], compilations: list[Compilation]) -> str:
    """Medians as Markdown."""
    rows = []
    for guide, streams in dict.fromkeys((one.guide, one.streams) for one in rounds):
        same = [one for one in rounds if (one.guide, one.streams) == (guide, streams)]
        ratios = [one.ratio for one in same]
        rows.append(
            (
                f"{guide}, {streams} streams",
                f"{statistics.median(one.token_ms_without for one in same):.2f}",
                f"{statistics.median(one.token_ms_with for one in same):.2f}",
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})",
            )
        )
    costs = table(("guide", "ms a token without", "ms a token with", "ratio (min - max)"), rows)
    compiled = [
        (
            name,
            f"{statistics.median(one.first_ms for one in compilations if one.guide == name):.1f}",
            f"{statistics.median(one.again_ms for one in compilations if one.guide == name):.1f}",
        )
        for name in dict.fromkeys(one.guide for one in compilations)
    ]
    return f"{costs}\n\n{table(('schema', 'ms before the first step, new', 'the same again'), compiled)}"


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guided", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="counted rounds, after one that is not")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/guided.json"))
    arguments = parser.parse_args()
    prompt = Tokenizer.from_file(str(demo_model(MODEL) / "tokenizer.json")).encode(PROMPT).ids
    with linked_models({MODEL: {}}, source=demo_model(MODEL)) as repository, run_triton(repository) as server:
        rounds, compilations = asyncio.run(measure(server.grpc_address, prompt, arguments.repeats))
    print(f"{machine()}\n{summary(rounds, compilations)}")
    figures: dict[str, Any] = {
        "new_tokens": NEW_TOKENS,
        "rounds": [asdict(one) for one in rounds],
        "compilations": [asdict(one) for one in compilations],
    }
    write_report(arguments.output, figures)


if __name__ == "__main__":
    main()
