"""Fine-tunes a BERT-like encoder to judge pairs of texts with the Hugging Face `Trainer`, and measures how it ranks.

Imports torch and transformers, which takes seconds: import it only when there is something to train.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, Trainer

from examples.classifier_training import freeze_below_top, load_with_new_head, save_checkpoint, trainer_arguments
from examples.pair_texts import Choice, Pair, PairData
from examples.training_record import TrainingOptions

FloatArray = npt.NDArray[np.float64]
_BATCH_PAIRS = 64


class EncodedPairs:
    """A map-style data set of token ids, kinds of segments and labels.

    With one label the target is a probability; with two it is the place of the label.
    """

    def __init__(self, pairs: Sequence[Pair], one_label: bool, tokenizer: Any, max_length: int) -> None:
        texts = [pair.first for pair in pairs], [pair.second for pair in pairs]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length)
        targets: list[Any] = [[float(pair.fits)] if one_label else int(not pair.fits) for pair in pairs]
        keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
        self._rows = [
            {**{key: encoded[key][row] for key in keys}, "labels": target} for row, target in enumerate(targets)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def train_pairs(
    base: str, data: PairData, labels: tuple[str, ...], options: TrainingOptions, output: Path
) -> dict[str, dict[str, float]]:
    """Trains, measures once on the held-out choices after the last epoch, and saves model and tokenizer in `output`.

    labels: one that means "fits", or that one and then its opposite. Returns ranking_scores of the model and of the
    cosine of the base model's mean vectors. Raises DataError as load_with_new_head does.
    """
    transformers.set_seed(options.seed)
    one_label = len(labels) == 1
    # One label: its own yes or no, which transformers calls multi-label.
    problem = "multi_label_classification" if one_label else "single_label_classification"
    model, tokenizer = load_with_new_head(base, labels, AutoModelForSequenceClassification, problem)
    max_length = min(options.max_length_tokens, tokenizer.model_max_length, model.config.max_position_embeddings)
    if options.trained_layers is not None:
        freeze_below_top(model, options.trained_layers)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=trainer_arguments(options, len(data.train), scratch),
            train_dataset=EncodedPairs(data.train, one_label, tokenizer, max_length),
            processing_class=tokenizer,
        )
        trainer.train()
    own = ranking_scores([_fit(model, tokenizer, choice, max_length) for choice in data.held_out])
    save_checkpoint(model, tokenizer, output)
    return {"model": own, "cosine": ranking_scores(_cosines(base, data.held_out, max_length))}


def ranking_scores(scores: Sequence[FloatArray]) -> dict[str, float]:
    """`first`: how often the fitting pair, which is the first, has the best score; `mrr`: the mean of 1 / its rank."""
    ranks = np.array([1 + int((row[1:] >= row[0]).sum()) for row in scores])
    return {"first": round(float((ranks == 1).mean()), 4), "mrr": round(float((1 / ranks).mean()), 4)}


def _fit(model: Any, tokenizer: Any, choice: Choice, max_length: int) -> FloatArray:
    """How well each pair fits: its logit, or by how much the logit of the first label is above the second's."""
    encoded = tokenizer(
        [first for first, _ in choice.pairs], [second for _, second in choice.pairs],
        truncation=True, max_length=max_length, padding=True, return_tensors="pt",
    )  # fmt: skip
    model.eval()
    with torch.no_grad():
        logits = model(**encoded).logits.double().numpy()
    scores: FloatArray = logits[:, 0] if logits.shape[1] == 1 else logits[:, 0] - logits[:, 1]
    return scores


def _cosines(base: str, choices: Sequence[Choice], max_length: int) -> list[FloatArray]:
    model, tokenizer = AutoModel.from_pretrained(base, use_safetensors=True).eval(), AutoTokenizer.from_pretrained(base)
    texts = list(dict.fromkeys(text for choice in choices for pair in choice.pairs for text in pair))
    vectors: dict[str, FloatArray] = {}
    for at in range(0, len(texts), _BATCH_PAIRS):
        part = texts[at : at + _BATCH_PAIRS]
        encoded = tokenizer(part, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**encoded).last_hidden_state
        mask = encoded["attention_mask"][:, :, None]
        mean = ((hidden * mask).sum(1) / mask.sum(1)).double().numpy()
        vectors |= zip(part, mean / np.linalg.norm(mean, axis=1, keepdims=True), strict=True)
    return [np.array([vectors[first] @ vectors[second] for first, second in choice.pairs]) for choice in choices]
