"""Tiny checkpoints with random weights, saved as transformers would save them, with a tokenizer of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from exporters.quality import quality_text

VOCABULARY_SIZE = 320
LABELS = {
    "classify": ["negative", "neutral", "positive"],
    "classify_tokens": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "classify_pairs": ["relevant"],
}
_SPECIAL = ["<pad>", "<s>", "</s>"]

# Wide weights, so that logits differ by more than rounding and greedy tokens are not decided by chance.
_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 256, "initializer_range": 0.3,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_ENCODER: dict[str, Any] = {
    **{key: value for key, value in _DECODER.items() if key not in ("bos_token_id", "eos_token_id")},
    "initializer_range": 0.1,
}

DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 16},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 24},
    "gemma2": {
        "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 20, "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 10.0, "query_pre_attn_scalar": 8,
    },
    "phi": {"partial_rotary_factor": 0.5},
    "gpt_neox": {"rotary_pct": 0.5},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
}


def tiny_tokenizer(model_input_names: list[str] | None = None) -> Any:
    """A byte-level BPE tokenizer trained on the exporters' own text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([quality_text()], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        **({"model_input_names": model_input_names} if model_input_names else {}),
    )  # fmt: skip


def save_tiny(directory: Path, model_type: str, task: str, **overrides: Any) -> Path:
    """Saves a checkpoint of `model_type` for "generate", "embed", "classify", "classify_tokens" or "classify_pairs".

    The last is a classifier of one label whose tokenizer joins two texts as checkpoints of this type do. Returns the
    checkpoint's directory.
    """
    torch.manual_seed(7)
    base, special = (_DECODER, DECODERS) if task == "generate" else (_ENCODER, ENCODERS)
    settings = {**base, **special.get(model_type, {}), **overrides}
    if task in LABELS:
        names = LABELS[task]
        settings |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    config = transformers.AutoConfig.for_model(model_type, **settings)
    kinds = {
        "generate": transformers.AutoModelForCausalLM,
        "embed": transformers.AutoModel,
        "classify": transformers.AutoModelForSequenceClassification,
        "classify_pairs": transformers.AutoModelForSequenceClassification,
        "classify_tokens": transformers.AutoModelForTokenClassification,
    }
    model = kinds[task].from_config(config)
    _perturb(model)
    model.save_pretrained(directory)
    if task == "classify_pairs":
        has_types = "type_vocab_size" not in settings and model_type != "distilbert"
        _pair_tokenizer("roberta" in model_type, has_types).save_pretrained(directory)
    else:
        tiny_tokenizer().save_pretrained(directory)
    return directory


def _pair_tokenizer(two_between: bool, has_types: bool) -> Any:
    """Joins two texts with one token in between, as BERT does, or with two, as RoBERTa does."""
    second = int(has_types)
    # <s> is what the checkpoints of RoBERTa's kind call padding, and those leave out padding when they count positions.
    tokenizer = tiny_tokenizer(["input_ids", "attention_mask", *(["token_type_ids"] if has_types else [])])
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A </s>",
        pair=f"</s> $A </s>{' </s>' if two_between else ''} $B:{second} </s>:{second}",
        special_tokens=[("</s>", 2)],
    )
    return tokenizer


def _perturb(model: Any) -> None:
    """Makes norms and biases differ from the ones and zeros that they start as, which would hide a mix-up."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
