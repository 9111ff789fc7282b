"""What a newcomer tries first, through the `naiad` command."""

import json

import numpy as np
import pytest

from tests.support.stack import SERVICES, Stack

pytestmark = pytest.mark.e2e


def test_a_chat_question_is_answered(stack: Stack) -> None:
    result = stack.run_cli("generate", "--chat", "Name the capital of France.")
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout


def test_the_sentiment_of_a_text_and_of_its_opposite_differ(stack: Stack) -> None:
    result = stack.run_cli(
        "classify", "--model", "sentiment", "--json", "A wonderful, moving film.", "A dull, lifeless film."
    )
    assert result.returncode == 0, result.stderr
    good, bad = (json.loads(line) for line in result.stdout.splitlines())
    best = [item["scores"][0] for item in (good, bad)]
    assert [score["label"] for score in best] == ["positive", "negative"]
    assert all(0.5 < score["score"] <= 1 for score in best)


def test_embeddings_order_texts_as_transformers_does(stack: Stack) -> None:
    texts = ["A cat sits on the mat.", "A kitten rests on the rug.", "The central bank raised interest rates."]
    result = stack.run_cli("embed", "--json", *texts)
    assert result.returncode == 0, result.stderr
    vectors = np.array([json.loads(line)["embedding"] for line in result.stdout.splitlines()])
    assert vectors.shape == (3, 384)
    served = vectors @ vectors.T
    expected = _transformers_cosines(texts)
    np.testing.assert_allclose(served, expected, atol=0.02)
    assert served[0, 1] > served[0, 2] and served[0, 1] > served[1, 2]


def _transformers_cosines(texts: list[str]) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from exporters.demo import embed_checkpoint

    checkpoint = embed_checkpoint()
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), AutoModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        pooled = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    vectors = torch.nn.functional.normalize(torch.stack(pooled), dim=-1)
    return np.asarray(vectors @ vectors.T)


@pytest.mark.parametrize("text", ["Hello, world!", "El niño comió piñas.", "你好，世界", "👩‍👩‍👧‍👦 family"])
def test_tokens_turn_back_into_the_text(stack: Stack, text: str) -> None:
    tokenized = stack.run_cli("tokenize", "--model", "chat", "--json", text)
    assert tokenized.returncode == 0, tokenized.stderr
    ids = json.loads(tokenized.stdout)["token_ids"]
    back = stack.run_cli("tokenize", "--model", "chat", "--detokenize", *map(str, ids))
    assert back.stdout.rstrip("\n") == text


def test_scoring_finds_sense_more_probable_than_nonsense(stack: Stack) -> None:
    perplexities = []
    for text in ("The sun rises in the east.", "East the in rises sun the."):
        result = stack.run_cli("score", "--model", "chat", "--json", text)
        assert result.returncode == 0, result.stderr
        perplexities.append(json.loads(result.stdout)["perplexity"])
    assert perplexities[0] < perplexities[1]


def test_models_are_listed_with_their_tasks(stack: Stack) -> None:
    result = stack.run_cli("models", "--json")
    assert result.returncode == 0, result.stderr
    listed = {model["name"]: model for model in map(json.loads, result.stdout.splitlines())}
    assert {name: listed[name]["task"] for name in ("chat", "embed", "sentiment")} == {
        "chat": "generate",
        "embed": "embed",
        "sentiment": "classify",
    }
    assert all(listed[name]["ready"] for name in ("chat", "embed", "sentiment"))


def test_an_unknown_model_is_named_and_the_command_fails(stack: Stack) -> None:
    result = stack.run_cli("generate", "--model", "no-such-model", "Hello")
    assert result.returncode == 1
    assert "no-such-model" in result.stderr and len(result.stderr.splitlines()) <= 2


def test_every_service_says_that_it_serves(stack: Stack) -> None:
    assert {stack.health(name) for name in SERVICES} == {1}
