"""The four metrics endpoints move under load, and promtool accepts them."""

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from naiad.v1 import (
    classification_pb2,
    classification_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    tokenization_pb2,
    tokenization_pb2_grpc,
)

from tests.support.engine_metrics import scrape
from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

MOVING = {
    "triton": [
        "naiad_prompt_tokens_total",
        "naiad_generation_tokens_total",
        "naiad_request_success_total",
        "naiad_time_to_first_token_seconds_count",
        "naiad_inter_token_latency_seconds_count",
        "naiad_request_queue_time_seconds_count",
        "naiad_e2e_request_latency_seconds_count",
        "naiad_step_tokens_count",
        "naiad_step_sequences_sum",
    ],
    "generation": [
        "naiad_rpc_requests_total",
        "naiad_frontend_time_to_first_token_seconds_count",
        "naiad_frontend_inter_token_latency_seconds_count",
        "naiad_frontend_request_success_total",
    ],
    "classification": ["naiad_rpc_requests_total", "naiad_rpc_duration_seconds_count", "naiad_tokenized_tokens_total"],
    "tokenization": ["naiad_rpc_requests_total", "naiad_tokenized_tokens_total"],
}


def total(page: str, sample: str) -> float:
    """Sum of a sample over all its labels."""
    pattern = re.compile(rf"^{re.escape(sample)}(?:\{{.*\}})? (\S+)$", re.MULTILINE)
    return sum(float(value) for value in pattern.findall(page))


def put_load_on(stack: Stack) -> None:
    generation = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    classification = classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))
    tokenization = tokenization_pb2_grpc.TokenizationServiceStub(stack.channel("tokenization"))
    request = generation_pb2.GenerateStreamRequest(model="chat", text="The weather today is")
    request.stopping.max_tokens = 12
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: list(generation.GenerateStream(request, timeout=60)), range(8)))
    classification.Classify(classification_pb2.ClassifyRequest(model="sentiment", texts=["good", "bad"]), timeout=60)
    classification.Embed(classification_pb2.EmbedRequest(model="embed", texts=["good", "bad"]), timeout=60)
    tokenization.Tokenize(tokenization_pb2.TokenizeRequest(model="chat", texts=["good"]), timeout=60)


def test_metrics_of_every_process_move_under_load(stack: Stack) -> None:
    before = {name: scrape(port) for name, port in stack.metrics_ports.items()}
    put_load_on(stack)
    after = {name: scrape(port) for name, port in stack.metrics_ports.items()}
    still = [
        f"{name}: {sample}"
        for name, samples in MOVING.items()
        for sample in samples
        if not total(after[name], sample) > total(before[name], sample)
    ]
    assert still == []
    kv = re.findall(r'^naiad_kv_cache_blocks\{[^}]*state="(\w+)"[^}]*\} (\S+)$', after["triton"], re.MULTILINE)
    assert {state for state, _ in kv} == {"used", "free", "cached"}
    assert sum(float(blocks) for _, blocks in kv) > 0


def test_the_kv_cache_is_in_use_during_a_stream_and_free_after_it(stack: Stack) -> None:
    generation = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    request = generation_pb2.GenerateStreamRequest(model="chat", text="Count: 1, 2, 3,")
    request.stopping.max_tokens, request.stopping.ignore_eos = 64, True
    during = None
    for event in generation.GenerateStream(request, timeout=60):
        if event.WhichOneof("event") == "delta" and during is None:
            during = scrape(stack.metrics_ports["triton"])
    assert during is not None
    assert total(during, "naiad_num_requests_running") >= 1
    after = scrape(stack.metrics_ports["triton"])
    assert total(after, "naiad_num_requests_running") == 0
    used = re.findall(r'^naiad_kv_cache_blocks\{[^}]*state="used"[^}]*\} (\S+)$', after, re.MULTILINE)
    assert used and set(used) == {"0"}


@pytest.mark.parametrize("name", MOVING)
def test_promtool_accepts_the_metrics(stack: Stack, name: str) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    page = scrape(stack.metrics_ports[name])
    # Triton's own nv_ metrics break naming rules that promtool knows; ours are all that we answer for.
    ours = "".join(line for line in page.splitlines(keepends=True) if re.match(r"(# (HELP|TYPE) )?naiad_", line))
    assert ours
    checked = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
