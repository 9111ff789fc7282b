"""What is generated under a guide fits it: the real model, through the whole stack, under all sorts of sampling."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import grpc
import jsonschema
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.support.guided_schemas import GUIDED_SCHEMAS
from tests.support.stack import Stack

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

DOCUMENTS_A_REQUEST = 4
# Each round asks for DOCUMENTS_A_REQUEST documents of each schema.
SLOW_ROUNDS = 5


def sampling_of(number: int) -> generation_pb2.SamplingOptions:
    """Ways of sampling that pull the model away from what the guide wants."""
    return (
        generation_pb2.SamplingOptions(temperature=1.0, seed=number),
        generation_pb2.SamplingOptions(temperature=0.7, top_p=0.9, seed=number),
        generation_pb2.SamplingOptions(temperature=1.5, top_k=40, repetition_penalty=1.3, seed=number),
        generation_pb2.SamplingOptions(temperature=1.0, presence_penalty=1.0, frequency_penalty=1.0, seed=number),
        generation_pb2.SamplingOptions(temperature=1.0, min_p=0.02, seed=number),
    )[number % 5]


def completions(
    stack: Stack, prompt: str, guide: generation_pb2.Guide, sampling: generation_pb2.SamplingOptions, n: int = 1
) -> list[str]:
    """Texts of completions that ended by themselves."""
    request = generation_pb2.GenerateRequest(model="chat", guide=guide, sampling=sampling)
    request.chat.messages.add(role="user", content=prompt)
    request.sampling.n = n
    request.stopping.max_tokens = 400
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    response = stub.Generate(request, timeout=600)
    assert {completion.finish_reason for completion in response.completions} == {generation_pb2.FINISH_REASON_STOP}
    return [completion.text for completion in response.completions]


def check_documents(stack: Stack, rounds: int, names: list[str], n: int) -> None:
    """Generates `n` documents of each schema in each round, many at once, and validates every one."""

    def generate(job: tuple[int, str]) -> list[tuple[str, str]]:
        number, name = job
        prompt, schema = GUIDED_SCHEMAS[name]
        guide = generation_pb2.Guide(json_schema=json.dumps(schema))
        return [(name, text) for text in completions(stack, prompt, guide, sampling_of(number), n)]

    with ThreadPoolExecutor(6) as pool:
        jobs = [(number, name) for number in range(rounds) for name in names]
        documents = [document for batch in pool.map(generate, jobs) for document in batch]
    assert len(documents) == rounds * len(names) * n
    for name, text in documents:
        jsonschema.validate(json.loads(text), GUIDED_SCHEMAS[name][1], jsonschema.Draft202012Validator)


def test_documents_of_five_schemas_validate(stack: Stack) -> None:
    check_documents(stack, 1, ["person", "sentiment", "call", "tree", "counts"], 2)


@pytest.mark.slow
def test_200_documents_of_ten_schemas_validate(stack: Stack) -> None:
    assert len(GUIDED_SCHEMAS) * SLOW_ROUNDS * DOCUMENTS_A_REQUEST == 200
    check_documents(stack, SLOW_ROUNDS, list(GUIDED_SCHEMAS), DOCUMENTS_A_REQUEST)


def test_texts_match_their_expression(stack: Stack) -> None:
    expression = r"(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, \d{1,2} (January|May|June) (19|20)\d{2}"
    guide = generation_pb2.Guide(regex=expression)
    for number in range(3):
        for text in completions(stack, "When did you last travel?", guide, sampling_of(number), 2):
            assert re.fullmatch(expression, text), text


def test_the_model_chooses_among_what_the_guide_leaves(stack: Stack) -> None:
    guide = generation_pb2.Guide(regex="The capital of France is (Berlin|London|Madrid|Paris|Rome)\\.")
    greedy = generation_pb2.SamplingOptions(temperature=0)
    assert completions(stack, "What is the capital of France?", guide, greedy) == ["The capital of France is Paris."]


def test_any_json_object_parses(stack: Stack) -> None:
    guide = generation_pb2.Guide(json_object=True)
    sampling = generation_pb2.SamplingOptions(temperature=0)
    (text,) = completions(stack, "Give the name and the age of one person as a short JSON object.", guide, sampling)
    assert isinstance(json.loads(text), dict)


def test_a_wrong_guide_is_refused_by_name(stack: Stack) -> None:
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    for guide, reason in (
        (generation_pb2.Guide(regex="(a"), "not closed"),
        (generation_pb2.Guide(json_schema='{"type": "array", "uniqueItems": true}'), "uniqueItems"),
    ):
        request = generation_pb2.GenerateRequest(model="chat", text="x", guide=guide)
        request.stopping.max_tokens = 4
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(request, timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in str(caught.value.details())
