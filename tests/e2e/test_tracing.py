"""Spans of the real stack, as a collector gets them."""

from pathlib import Path

import pytest
from naiad.v1 import classification_pb2, generation_pb2

from services import client
from tests.support.models import demo_model, exact_chat, repository_of
from tests.support.otlp_receiver import otlp_receiver
from tests.support.stack import running_stack

pytestmark = pytest.mark.e2e

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METADATA = (("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),)
SECRET = "wonderful"


def test_one_trace_holds_the_calls_of_two_services_and_what_their_engines_did(tmp_path: Path) -> None:
    repository = repository_of([exact_chat(), demo_model("sentiment")], "tracing")
    with otlp_receiver() as (receiver, endpoint):  # noqa: SIM117 - the last spans come when the stack ends
        with running_stack(repository, tmp_path, NAIAD_OTLP_ENDPOINT=endpoint) as stack:
            with client.connect(stack.address("generation")) as generator:
                request = generation_pb2.GenerateRequest(model="chat", text=SECRET)
                request.stopping.max_tokens = 4
                answer = generator.generation.Generate(request, metadata=METADATA)
            with client.connect(stack.address("classification")) as classifier:
                texts = classification_pb2.ClassifyRequest(model="sentiment", texts=[SECRET])
                classifier.classification.Classify(texts, metadata=METADATA)
            spans = {span.name: span for span in receiver.take(4)}
    assert {span.trace_id for span in spans.values()} == {TRACE_ID}
    for call_name, engine_name in (
        ("naiad.v1.GenerationService/Generate", "text_completion chat"),
        ("naiad.v1.ClassificationService/Classify", "classify sentiment"),
    ):
        call, engine = spans[call_name], spans[engine_name]
        assert (call.parent_span_id, engine.parent_span_id) == (SPAN_ID, call.span_id)
        assert call.start_ns <= engine.start_ns <= engine.end_ns <= call.end_ns
        measured_us = sum(value for key, value in engine.attributes.items() if key.endswith("_us"))
        assert 0 < measured_us * 1000 <= engine.end_ns - engine.start_ns
    assert spans["text_completion chat"].attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens
    assert SECRET.encode() not in receiver.bytes
