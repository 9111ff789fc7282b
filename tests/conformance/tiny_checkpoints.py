"""Tiny checkpoints with random weights, saved as transformers would save them, with a tokenizer of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from exporters.quality import quality_text

VOCABULARY_SIZE = 320
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


def tiny_tokenizer() -> Any:
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
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def save_tiny(directory: Path, model_type: str, task: str, **overrides: Any) -> Path:
    """Saves a checkpoint of `model_type` for "generate", "embed" or "classify" and returns its directory."""
    torch.manual_seed(7)
    base, special = (_DECODER, DECODERS) if task == "generate" else (_ENCODER, ENCODERS)
    settings = {**base, **special.get(model_type, {}), **overrides}
    if task == "classify":
        settings |= {
            "id2label": {0: "negative", 1: "neutral", 2: "positive"},
            "label2id": {"negative": 0, "neutral": 1, "positive": 2},
        }
    config = transformers.AutoConfig.for_model(model_type, **settings)
    kinds = {
        "generate": transformers.AutoModelForCausalLM,
        "embed": transformers.AutoModel,
        "classify": transformers.AutoModelForSequenceClassification,
    }
    model = kinds[task].from_config(config)
    _perturb(model)
    model.save_pretrained(directory)
    tiny_tokenizer().save_pretrained(directory)
    return directory


def _perturb(model: Any) -> None:
    """Makes norms and biases differ from the ones and zeros that they start as, which would hide a mix-up."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
