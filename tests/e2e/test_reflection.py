"""A client that has no generated code calls every RPC of every service."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import SERVICES, Stack

pytestmark = pytest.mark.e2e

CALLS: dict[str, dict[str, dict[str, Any]]] = {
    "tokenization": {
        "Tokenize": {"model": "chat", "texts": ["Hello"], "returnTokens": True, "returnOffsets": True},
        "Detokenize": {"model": "chat", "sequences": [{"ids": [19556]}]},
        "CountTokens": {"model": "embed", "texts": ["Hello", "Hello there"]},
        "ApplyChatTemplate": {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]},
        "ListModels": {},
    },
    "generation": {
        "Generate": {
            "model": "chat",
            "text": "Once upon",
            "sampling": {"temperature": 0},
            "stopping": {"maxTokens": 4},
        },
        "GenerateStream": {
            "model": "chat",
            "text": "Once upon",
            "sampling": {"temperature": 0},
            "stopping": {"maxTokens": 4},
        },
        "Score": {"model": "chat", "text": "Once upon a time"},
        "ListModels": {},
    },
    "classification": {
        "Classify": {"model": "sentiment", "texts": ["good", "bad"]},
        "ClassifyStream": {"options": {"model": "sentiment"}, "items": [{"id": "1", "text": "good"}]},
        "ClassifyTokens": {"model": "entities", "texts": ["Maria Schmidt flew to Nairobi."]},
        "ClassifyZeroShot": {"model": "embed", "texts": ["good"], "labels": ["praise", "blame"]},
        "Explain": {"model": "sentiment", "text": "A good film", "method": "EXPLAIN_METHOD_OCCLUSION"},
        "Embed": {"model": "embed", "texts": ["good"], "dimensions": 8},
        "Rerank": {"model": "embed", "query": "food", "documents": ["a soup", "a train"]},
        "ListModels": {},
    },
}
EXPECTED_IN_ANSWER = {
    "Tokenize": "tokenIds",
    "Detokenize": "texts",
    "CountTokens": "counts",
    "ApplyChatTemplate": "text",
    "ListModels": "models",
    "Generate": "completions",
    "GenerateStream": "started",
    "Score": "logprobs",
    "Classify": "classification",
    "ClassifyStream": "classification",
    "ClassifyTokens": "entities",
    "ClassifyZeroShot": "classification",
    "Explain": "contribution",
    "Embed": "embedding",
    "Rerank": "results",
}


@pytest.mark.parametrize("service", SERVICES)
def test_every_rpc_can_be_called_by_reflection_alone(stack: Stack, service: str, tmp_path: Path) -> None:
    full_name, calls = SERVICES[service], CALLS[service]
    orders = [{"service": full_name, "method": method, "request": request} for method, request in calls.items()]
    client = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "reflection_client.py"), stack.address(service)],
        input="\n".join(map(json.dumps, orders)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert client.returncode == 0, client.stderr
    listing, *answers = map(json.loads, client.stdout.splitlines())
    assert listing[full_name] == sorted(calls), "a method is not tried by this test, or is gone"
    assert "grpc.health.v1.Health" in listing
    for method, answer in zip(calls, answers, strict=True):
        assert EXPECTED_IN_ANSWER[method] in json.dumps(answer), method
