"""What a pause costs on this machine: a service's work for one call, done again at once, and after waiting idle.

`python -m benchmarks.pause_cost [--repeats 300] [--output FILE.json]`. The work is what the classification service does
for an Embed of one short text but for gRPC: read the message, tokenize, write the request to Triton, read its answer,
write the answer and a log line. Nothing else should run. What then takes longer is code and data that have left the
caches, as where neighbours share them; `tier_cost` cannot tell that from the work itself.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from naiad.v1 import classification_pb2
from tokenizers import Tokenizer
from tritonclient.grpc import service_pb2

from benchmarks.report import machine, table, write_report
from benchmarks.tier_cost import TEXT
from services.common.triton_messages import infer_request, read_reply
from tests.support.models import demo_model

PAUSES_MS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
EMBEDDING_SIZE = 384


@dataclass(frozen=True)
class Result:
    """The work after one length of pause; the median, and the middle half of the repetitions."""

    pause_ms: float
    p25_us: float
    p50_us: float
    p75_us: float


def work_of_a_call(tokenizer: Tokenizer) -> Callable[[], None]:
    """One call's work, without gRPC."""
    message = classification_pb2.EmbedRequest(model="embed", texts=[TEXT]).SerializeToString()
    vector = np.linspace(-1, 1, EMBEDDING_SIZE, dtype=np.float32)[None]
    response = service_pb2.ModelInferResponse(id="1", raw_output_contents=[vector.tobytes()])
    response.outputs.add(name="embeddings", datatype="FP32", shape=vector.shape)
    response.parameters["queue_us"].int64_param = 20
    answer_of_triton = response.SerializeToString()

    def work() -> None:
        request = classification_pb2.EmbedRequest.FromString(message)
        ids = np.array(tokenizer.encode(request.texts[0]).ids, np.int32)
        lengths = np.array([len(ids)], np.int32)
        inputs = {"input_ids": ids, "sequence_lengths": lengths, "token_type_ids": np.zeros_like(ids)}
        infer_request(request.model, "1", inputs, {}, ("embeddings",)).SerializeToString()
        reply = read_reply(service_pb2.ModelInferResponse.FromString(answer_of_triton))
        answer = classification_pb2.EmbedResponse()
        for row in reply.outputs["embeddings"]:
            answer.results.add().embedding.vectors.add().values.extend((row / np.linalg.norm(row)).tolist())
        answer.SerializeToString()
        json.dumps({"method": "Embed", "duration_ms": 4.1, "queue_us": reply.int_parameter("queue_us")})

    return work


def measure(work: Callable[[], None], repeats: int) -> list[Result]:
    """All pauses in turns, so that a busy minute of the machine is in each."""
    samples: dict[float, list[float]] = {pause_ms: [] for pause_ms in PAUSES_MS}
    for _ in range(repeats):
        for pause_ms, taken in samples.items():
            work()
            if pause_ms:
                time.sleep(pause_ms / 1e3)
            begun_s = time.perf_counter()
            work()
            taken.append((time.perf_counter() - begun_s) * 1e6)
    return [Result(pause_ms, *statistics.quantiles(taken, n=4)) for pause_ms, taken in samples.items()]


def main() -> None:
    """Measures, prints the table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pause_cost", description=__doc__)
    parser.add_argument("--repeats", type=int, default=300, help="of each pause (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/pause-cost.json"))
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(demo_model("embed") / "tokenizer.json"))
    tokenizer.no_padding()
    work = work_of_a_call(tokenizer)
    for _ in range(100):
        work()
    results = measure(work, arguments.repeats)
    rows = [(f"{one.pause_ms:g}", *(f"{us:.0f}" for us in (one.p50_us, one.p25_us, one.p75_us))) for one in results]
    print(f"{machine()}\n{table(('idle before, ms', 'the work, median us', 'quarter', 'three quarters'), rows)}")
    print(f"after {PAUSES_MS[5]:g} ms of nothing: {results[5].p50_us / results[0].p50_us:.1f} times as long as at once")
    write_report(arguments.output, {"repeats": arguments.repeats, "results": [asdict(one) for one in results]})


if __name__ == "__main__":
    main()
