"""ClassifyZeroShot, free of gRPC."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.classify_logic import Scored, scored_bytes
from services.classification.encoder_client import EMBEDDINGS, EncoderJob
from services.classification.label_vectors import LabelVectors
from services.classification.pair_inputs import PairInput, SharedTexts, run_pairs, tokenize_shared
from services.classification.scores import NliColumns, best_first, entailment_scores
from services.classification.text_batches import TextBatches, Timings, check_items
from services.classification.vectors import cosines
from services.common.activation import activate
from services.common.errors import NaiadError, Reason, Violations, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.text_models import TextModel
from services.common.tokenizer import Encoded

FloatArray = npt.NDArray[np.float32]
DEFAULT_TEMPLATE = "This text is about {}."
PLACE = "{}"
# Cosines of good and bad labels are a few tenths apart; their softmax over this tells them apart. It is the temperature
# that sentence-transformers train with.
TEMPERATURE = 0.05


@dataclass(frozen=True)
class ZeroShotOptions:
    """The labels, and how texts are scored against them."""

    labels: Sequence[str]
    hypothesis_template: str = DEFAULT_TEMPLATE
    multi_label: bool = False
    truncate: bool = False

    def sentences(self) -> list[str]:
        """What each label says of a text."""
        return [self.hypothesis_template.replace(PLACE, label) for label in self.labels]


@dataclass(frozen=True)
class ZeroShotAnswer:
    """Scores of each text, or why it has none, and whether they are those of an NLI model (else of vectors)."""

    outcomes: list[Scored | NaiadError]
    entailment: bool
    timings: Timings


class ZeroShotLogic:
    """Scores of labels that the call names."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches
        self._label_vectors = LabelVectors()

    async def classify_zero_shot(
        self, model_name: str, texts: Sequence[str], options: ZeroShotOptions
    ) -> ZeroShotAnswer:
        """Scores of each text. Raises NaiadError."""
        batches = self._batches
        with batches.admission.request():
            model = await batches.models.get(model_name, Task.CLASSIFY, Task.EMBED)
            columns = nli_columns(model.entry) if model.entry.task is Task.CLASSIFY else None
            check_items(texts, "texts")
            _check_options(options)
            batches.check_response_size(len(texts) * scored_bytes(options.labels), "texts")
            if columns is not None:
                return await self._entail(model, texts, options, columns)
            return await self._compare_vectors(model, texts, options)

    async def _entail(
        self, model: TextModel, texts: Sequence[str], options: ZeroShotOptions, columns: NliColumns
    ) -> ZeroShotAnswer:
        shared = SharedTexts(options.sentences(), "a label", "texts", _label_too_long)
        tokenized = await tokenize_shared(self._batches, model, shared, texts, options.truncate)
        template, hypotheses, good = tokenized.template, tokenized.shared, tokenized.good
        pairs = [PairInput(template, ids, hypothesis) for ids in good for hypothesis in hypotheses]
        answer = await run_pairs(self._batches, model, pairs, "texts")
        scores: Iterator[FloatArray] = iter(())
        if good:
            logits = np.concatenate(answer.rows).reshape(len(good), len(hypotheses), -1)
            scores = iter(entailment_scores(logits, columns, options.multi_label))
        outcomes = [
            outcome
            if isinstance(outcome, NaiadError)
            else _scored(next(scores), options, template.special_tokens + len(outcome))
            for outcome in tokenized.outcomes
        ]
        return ZeroShotAnswer(outcomes, True, tokenized.timings(answer))

    async def _compare_vectors(
        self, model: TextModel, texts: Sequence[str], options: ZeroShotOptions
    ) -> ZeroShotAnswer:
        batches, entry = self._batches, model.entry
        sentences = options.sentences()
        vectors = self._label_vectors.known(model, sentences)
        missing = [sentence for sentence in sentences if sentence not in vectors]
        begun_s = time.perf_counter()
        label_tokens = await self._tokenize_sentences(model, sentences, missing)
        labels_us = round((time.perf_counter() - begun_s) * 1e6)
        tokenized = await batches.tokenize(model, texts, "texts", options.truncate)
        good = tokenized.good
        answer = await batches.run(entry, [*label_tokens, *good], EncoderJob(EMBEDDINGS, entry.hidden_size))
        new = {sentence: row[0] for sentence, row in zip(missing, answer.rows, strict=False)}
        self._label_vectors.keep(model, new)
        of_labels = np.stack([(vectors | new)[sentence] for sentence in sentences])
        scores = iter(_vector_scores(answer.rows[len(missing) :], of_labels, options.multi_label))
        scored = (_scored(next(scores), options, len(text)) for text in good)
        timings = Timings(labels_us + tokenized.duration_us, answer.queue_us, answer.compute_us)
        return ZeroShotAnswer(tokenized.fill(scored), False, timings)

    async def _tokenize_sentences(
        self, model: TextModel, sentences: Sequence[str], missing: Sequence[str]
    ) -> list[Encoded]:
        encoded = await self._batches.models.run(sum(map(len, missing)), lambda: model.tokenizer.encode(missing))
        limit = model.entry.context_length_tokens
        for sentence, tokens in zip(missing, encoded, strict=True):
            if len(tokens) > limit:
                raise _label_too_long(sentences.index(sentence), len(tokens), limit)
        self._batches.models.count_tokens(model, sum(map(len, encoded)))
        return encoded


def nli_columns(entry: ModelEntry) -> NliColumns:
    """Which logits tell whether one text follows from another. Raises WRONG_TASK for a model that is not for that."""
    names = [label.casefold() for label in entry.labels]
    if "entailment" not in names:
        wanted = 'a label "entailment", or its task is embed'
        raise NaiadError(Reason.WRONG_TASK, f"model: {entry.name!r} cannot score labels: it needs {wanted}")
    contradiction = names.index("contradiction") if "contradiction" in names else None
    return NliColumns(names.index("entailment"), contradiction)


def _check_options(options: ZeroShotOptions) -> None:
    if not options.labels:
        raise invalid_field("labels", "no labels; at least 1 is needed")
    violations = Violations()
    first_places: dict[str, int] = {}
    for i, label in enumerate(options.labels):
        violations.require(bool(label.strip()), f"labels[{i}]", "is blank")
        first = first_places.setdefault(label, i)
        violations.require(first == i, f"labels[{i}]", f"is the same as labels[{first}]")
    template = options.hypothesis_template
    violations.require(template.count(PLACE) == 1, "hypothesis_template", f'must have "{PLACE}" exactly once')
    violations.raise_if_any()


def _label_too_long(place: int, tokens: int, limit: int) -> NaiadError:
    found = f"makes a sentence of {tokens} tokens"
    return invalid_field(f"labels[{place}]", f"{found}, which leaves no room for a text in the model's {limit}")


def _vector_scores(rows: Sequence[FloatArray], labels: FloatArray, multi_label: bool) -> FloatArray:
    """Scores, shape [texts, labels]."""
    if not rows:
        return np.empty((0, len(labels)), np.float32)
    similar = cosines(np.concatenate(rows), labels)
    if not multi_label:
        return activate(similar / np.float32(TEMPERATURE), "softmax")
    halved: FloatArray = ((1 + similar) / 2).astype(np.float32)
    return halved


def _scored(scores: FloatArray, options: ZeroShotOptions, tokens: int) -> Scored:
    return Scored([(options.labels[i], int(i), float(scores[i])) for i in best_first(scores, None)], tokens)
