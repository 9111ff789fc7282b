"""Explain without gRPC, over an encoder whose score is a closed form of the words."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from services.classification.encoder_client import EncoderClient
from services.classification.explain_logic import OCCLUSION, SHAPLEY, ExplainLogic, ExplainOptions, Explanation
from services.classification.messages.explain import response
from services.classification.pack_queue import PackLimits
from services.classification.text_batches import TextBatches, Timings
from services.common.admission import Admission, AdmissionOptions
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.metrics import ServiceMetrics
from services.common.registry import ModelRegistry
from services.common.settings import ClassificationSettings
from services.common.text_models import TextModels
from tests.support.small_models import listed_file

MASK_ID, CLS_ID, SEP_ID, FIRST_WORD_ID = 1, 2, 3, 4
WORD_COUNT = 60
CONTEXT_TOKENS = 40


class WordsChannel:
    """Word number w adds WEIGHTS[w] to the logit of "yes"; words 0 and 1 together 2 more. "no" is always 0."""

    weights = np.linspace(-1, 1, WORD_COUNT)

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.gate: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def infer(self, request: Any) -> InferReply:
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        ids, lengths = (np.frombuffer(raw, np.int32) for raw in request.raw_input_contents[:2])
        logits = []
        for run in np.split(ids, np.cumsum(lengths)[:-1]):
            self.runs.append(tuple(run.tolist()))
            words = {int(token) - FIRST_WORD_ID for token in run if token >= FIRST_WORD_ID}
            logits.append([sum(self.weights[word] for word in words) + 2.0 * ({0, 1} <= words), 0.0])
        return InferReply({"logits": np.array(logits, np.float32)}, {"queue_us": 1, "compute_us": 2}, True)


def write_models(folder: Path) -> Path:
    """ "masked" has a mask token, "plain" has none; the activation is none, so that scores are logits."""
    for name, mask in (("masked", "[MASK]"), ("plain", "[NOTHING]")):
        special = {"[UNK]": 0, mask: MASK_ID, "[CLS]": CLS_ID, "[SEP]": SEP_ID}
        vocabulary = special | {f"w{word}": FIRST_WORD_ID + word for word in range(WORD_COUNT)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS_ID), ("[SEP]", SEP_ID)]
        )
        tokenizer.add_special_tokens([mask, "[CLS]", "[SEP]"])
        entry = folder / name
        entry.mkdir(parents=True)
        tokenizer.save(str(entry / "tokenizer.json"))
        manifest = {
            "format_version": 1,
            "name": name,
            "task": "classify",
            "architecture": "bert",
            "precision": "fp32",
            "limits": {"context_length_tokens": CONTEXT_TOKENS, "vocabulary_size": 64},
            "files": {"tokenizer": listed_file(entry / "tokenizer.json")},
            "encoder": {"hidden_size": 3, "pooling": "mean", "normalize": False, "activation": "none"},
            "labels": ["yes", "no"],
        }
        (entry / "naiad.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def channel() -> WordsChannel:
    return WordsChannel()


@pytest.fixture
async def batches(channel: WordsChannel, tmp_path: Path) -> AsyncIterator[TextBatches]:
    loaded = TextModels(ModelRegistry(write_models(tmp_path)), ClassificationSettings(), ServiceMetrics())
    client = EncoderClient(channel, PackLimits(200, 2))
    yield TextBatches(loaded, client, Admission(AdmissionOptions(4, 100_000, 100, 100)), 1_000_000)
    await loaded.close()


@pytest.fixture
def logic(batches: TextBatches) -> ExplainLogic:
    return ExplainLogic(batches)


async def explain(logic: ExplainLogic, text: str, **options: Any) -> Explanation:
    model = options.pop("model", "masked")
    explanation, timings = await logic.explain(model, text, ExplainOptions(**{"label": "yes", **options}))
    assert timings.compute_us == 2
    return explanation


def text_of(words: int) -> str:
    return " ".join(f"w{word}" for word in range(words))


def sums_up(found: Explanation) -> bool:
    return bool(np.isclose(found.shares.values.sum(), found.score - found.baseline_score, atol=1e-6))


@pytest.mark.parametrize("model", ["masked", "plain"])
async def test_few_words_are_explained_exactly(logic: ExplainLogic, channel: WordsChannel, model: str) -> None:
    found = await explain(logic, text_of(5), model=model)
    expected = WordsChannel.weights[:5] + np.array([1, 1, 0, 0, 0])  # what two bring together is shared by both
    assert np.allclose(found.shares.values, expected, atol=1e-5)
    assert np.all(found.shares.standard_errors == 0)
    assert sums_up(found)
    assert found.samples == 32 == len(channel.runs) == len(set(channel.runs))
    assert found.baseline_score == 0.0
    lengths = {len(run) for run in channel.runs}
    assert lengths == ({7} if model == "masked" else {2, 3, 4, 5, 6, 7})
    assert ((CLS_ID, *[MASK_ID] * 5, SEP_ID) in channel.runs) == (model == "masked")


async def test_many_words_are_explained_from_a_sample_that_the_seed_decides(logic: ExplainLogic) -> None:
    first = await explain(logic, text_of(30))
    again = await explain(logic, text_of(30))
    other = await explain(logic, text_of(30), seed=2**64 - 1)
    expected = WordsChannel.weights[:30] + np.array([1, 1] + [0] * 28)
    for found in (first, other):
        assert np.allclose(found.shares.values, expected, atol=0.1)
        assert sums_up(found)
        assert found.samples <= 512
        assert found.fidelity > 0.8
    assert np.array_equal(first.shares.values, again.shares.values)
    assert not np.array_equal(first.shares.values, other.shares.values)


async def test_more_samples_are_nearer_and_fewer_say_that_they_are_not(logic: ExplainLogic) -> None:
    expected = WordsChannel.weights[:30] + np.array([1, 1] + [0] * 28)
    few = await explain(logic, text_of(30), max_samples=16)
    many = await explain(logic, text_of(30), max_samples=2_000)
    assert few.samples <= 16 and many.samples <= 2_000
    assert sums_up(few) and sums_up(many)
    assert np.abs(many.shares.values - expected).max() < 0.02
    assert few.shares.standard_errors.min() > 10 * many.shares.standard_errors.max()
    assert few.fidelity < many.fidelity


async def test_occlusion_leaves_each_word_out_once(logic: ExplainLogic) -> None:
    found = await explain(logic, text_of(12), method=OCCLUSION, max_samples=1)
    expected = WordsChannel.weights[:12] + np.array([2, 2] + [0] * 10)
    assert np.allclose(found.shares.values, expected, atol=1e-5)
    assert found.samples == 12 + 2 + 32
    assert found.fidelity < 1


@pytest.mark.parametrize("words", [2, 3])
@pytest.mark.parametrize("method", [SHAPLEY, OCCLUSION])
async def test_very_few_words_leave_little_to_hold_out(logic: ExplainLogic, words: int, method: str) -> None:
    found = await explain(logic, text_of(words), method=method)
    assert len(found.words) == words and np.isfinite(found.fidelity)
    assert found.samples == 2**words


async def test_one_word_and_no_word(logic: ExplainLogic) -> None:
    one = await explain(logic, "w59")
    assert one.shares.values.tolist() == [pytest.approx(1.0)] and one.samples == 2 and one.fidelity == 1
    for text in ("", " \n "):
        none = await explain(logic, text)
        assert (len(none.words), none.samples, none.fidelity) == (0, 1, 1.0)
        assert none.score == none.baseline_score == 0.0


async def test_the_best_label_is_explained_unless_another_is_asked_for(logic: ExplainLogic) -> None:
    assert (await explain(logic, "w59", label=None)).label == "yes"
    assert (await explain(logic, "w10", label=None)).label == "no"
    other = await explain(logic, "w59 w3", label="no")
    assert other.label == "no" and np.allclose(other.shares.values, 0)
    assert other.fidelity == 1  # nothing moves the score, and so it says


async def test_a_cut_text_is_explained_as_far_as_it_is_read(logic: ExplainLogic) -> None:
    text = text_of(50)
    with pytest.raises(NaiadError, match="text: has 52 tokens, more than the model's 40"):
        await explain(logic, text)
    found = await explain(logic, text, truncate=True)
    assert [text[word.start : word.end] for word in found.words] == text.split()[:38]


@pytest.mark.parametrize(
    ("text", "options", "field"),
    [
        ("w1", {"label": "maybe"}, "label"),
        ("w1", {"max_samples": 15}, "max_samples"),
        ("w1", {"max_samples": 10_001}, "max_samples"),
        ("w1 " * 10_000, {}, "text"),
    ],
)
async def test_wrong_requests_name_their_field(
    logic: ExplainLogic, channel: WordsChannel, text: str, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(NaiadError) as caught:
        await explain(logic, text, **options)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.field_violations[0].field == field
    assert channel.runs == []


async def test_more_than_a_thousand_words_are_too_many(
    batches: TextBatches, channel: WordsChannel, tmp_path: Path
) -> None:
    manifest = json.loads((tmp_path / "masked" / "naiad.json").read_text())
    manifest["limits"]["context_length_tokens"] = 2_000
    (tmp_path / "masked" / "naiad.json").write_text(json.dumps(manifest))
    with pytest.raises(NaiadError, match="text: more than 1000 words"):
        await explain(ExplainLogic(batches), "w1 " * 1_001)
    assert channel.runs == []


async def test_the_cost_is_that_of_all_runs(batches: TextBatches, channel: WordsChannel) -> None:
    channel.gate = asyncio.Event()
    first = asyncio.create_task(explain(ExplainLogic(batches), text_of(5)))
    await channel.arrived.wait()
    assert batches.admission.tokens == 32 * 7
    assert batches.admission.requests == 1
    channel.gate.set()
    await first
    assert batches.admission.tokens == batches.admission.requests == 0


async def test_a_client_that_leaves_stops_the_runs(batches: TextBatches, channel: WordsChannel) -> None:
    channel.gate = asyncio.Event()
    call = asyncio.create_task(explain(ExplainLogic(batches), text_of(30), max_samples=10_000))
    await channel.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    channel.gate.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(channel.runs) < 50
    assert batches.admission.tokens == batches.admission.requests == 0


async def test_spans_index_the_text_in_code_points_and_bytes(logic: ExplainLogic) -> None:
    text = "  w1 é👩\u200d👩 你 w2"
    explanation = await explain(logic, text)
    message = response(text, ExplainOptions(), explanation, Timings(1, 2, 3))
    assert message.words
    encoded = text.encode()
    for word in message.words:
        assert text[word.span.start_char : word.span.end_char] == word.word
        assert encoded[word.span.start_byte : word.span.end_byte].decode() == word.word
    assert [word.word for word in message.words] == ["w1", "é👩\u200d👩", "你", "w2"]
