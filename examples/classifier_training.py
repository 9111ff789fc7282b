"""Fine-tunes a BERT-like encoder as a sequence classifier with the Hugging Face `Trainer`.

Imports torch and transformers, which takes seconds: import it only when there is something to train.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from examples.labelled_texts import DataError, LabelledText, Split
from examples.training_record import TrainingOptions, TrainingResult


class EncodedTexts:
    """A map-style data set of token ids and label ids.

    Padding is left to the collator, so that a batch is only as wide as its longest text.
    """

    def __init__(
        self, texts: tuple[LabelledText, ...], labels: tuple[str, ...], tokenizer: Any, max_length: int
    ) -> None:
        encoded = tokenizer([item.text for item in texts], truncation=True, max_length=max_length)
        self._input_ids: list[list[int]] = encoded["input_ids"]
        self._label_ids = [labels.index(item.label) for item in texts]

    def __len__(self) -> int:
        return len(self._input_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self._input_ids[index], "labels": self._label_ids[index]}


def train_classifier(
    base: str, split: Split, labels: tuple[str, ...], options: TrainingOptions, output: Path
) -> TrainingResult:
    """Trains, measures once on the held-out texts after the last epoch, and saves model and tokenizer in `output`.

    Raises:
        DataError: `base` is not a checkpoint that can be loaded, or has fewer layers than are to be trained.
    """
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    transformers.set_seed(options.seed)
    model, tokenizer = load_with_new_head(
        base, labels, AutoModelForSequenceClassification, "single_label_classification"
    )
    max_length = min(options.max_length_tokens, tokenizer.model_max_length, model.config.max_position_embeddings)
    if options.trained_layers is not None:
        freeze_below_top(model, options.trained_layers)
    train, held_out = (EncodedTexts(part, labels, tokenizer, max_length) for part in (split.train, split.held_out))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=trainer_arguments(options, len(train), scratch),
            train_dataset=train,
            processing_class=tokenizer,
        )
        trainer.train()
        prediction = trainer.predict(held_out)
    expected = np.asarray(prediction.label_ids)
    correct = prediction.predictions.argmax(axis=-1) == expected
    save_checkpoint(model, tokenizer, output)
    return TrainingResult(
        held_out_accuracy=float(correct.mean()),
        accuracy_by_label={label: float(correct[expected == index].mean()) for index, label in enumerate(labels)},
        wall_seconds=time.perf_counter() - wall_start,
        cpu_seconds=time.process_time() - cpu_start,
    )


def load_with_new_head(base: str, labels: tuple[str, ...], kind: Any, problem_type: str | None) -> tuple[Any, Any]:
    """The encoder of `base` under a new head of the Auto class `kind`, and its tokenizer.

    Raises:
        DataError: `base` is not a checkpoint that can be loaded.
    """
    names = dict(enumerate(labels))
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # no warning that the head is new: what may be new is checked below
    try:
        config = AutoConfig.from_pretrained(
            base, num_labels=len(labels), id2label=names, label2id={name: index for index, name in names.items()}
        )
        config.problem_type = problem_type
        # Safetensors only: a pickle file can run code when it is loaded.
        model, loaded = kind.from_pretrained(
            base, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"{base}: cannot be loaded as a base model: {str(error).splitlines()[0]}") from None
    finally:
        transformers.logging.set_verbosity(verbosity)
    _require_encoder_weights(base, model, loaded["missing_keys"])
    return model, tokenizer


def _require_encoder_weights(base: str, model: Any, missing: Iterable[str]) -> None:
    """The head is new, and a pooler may be; an encoder that starts from random numbers is a mistake."""
    random = sorted(name for name in missing if name.startswith(model.base_model_prefix + ".") and "pooler" not in name)
    if random:
        raise DataError(
            f"{base}: holds no encoder for this architecture; missing {random[0]} and {len(random) - 1} more"
        )


def freeze_below_top(model: Any, trained_layers: int) -> None:
    """Trains the topmost layers and the head only. Raises DataError if there are fewer layers."""
    # DistilBERT calls its encoder "transformer"; the other BERT-like models agree on "encoder".
    encoder = getattr(model.base_model, "encoder", None) or getattr(model.base_model, "transformer", None)
    layers = getattr(encoder, "layer", None)
    if layers is None:
        raise DataError(f"--trained-layers does not know where the layers of {type(model).__name__} are")
    if trained_layers > len(layers):
        raise DataError(f"--trained-layers is {trained_layers}, but the base model has {len(layers)} layers")
    frozen = [model.base_model.embeddings, *layers[: len(layers) - trained_layers]]
    for module in (part for top in frozen for part in top.modules()):
        module.requires_grad_(False)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # noise keeps trained weights from overfitting; for the layers above it is only noise


def trainer_arguments(options: TrainingOptions, train_texts: int, scratch: str) -> TrainingArguments:
    """What the `Trainer` is told; `scratch` is a folder that it may write into."""
    steps = -(-train_texts // options.batch_size) * options.epochs
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=4 * options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=steps // 10,
        weight_decay=0.01,
        train_sampling_strategy="group_by_length",  # texts of like length share a batch: little padding
        seed=options.seed,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
    )


def save_checkpoint(model: Any, tokenizer: Any, output: Path) -> None:
    """Saves model and tokenizer in `output`."""
    # The tokenizer file also stores the last padding and truncation, which belong to training and not to the model.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
