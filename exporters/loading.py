"""Loads a checkpoint with transformers, in float32, with eager attention: the reference that exports must equal."""

from __future__ import annotations

from typing import Any

from exporters.errors import ExportError
from exporters.options import Task, TaskChoice
from exporters.source import Source, first_line

_REFERENCE_ATTENTION = "eager"
# Parameters that a checkpoint may lack because the served output does not depend on them.
_UNUSED_WHEN_EMBEDDING = ("pooler.", "cls.", "lm_head.", "classifier.", "predictions.")


def choose_task(source: Source, asked: TaskChoice) -> Task:
    """The task asked for, or the one that the checkpoint's architecture says."""
    if asked != "auto":
        return asked
    if source.gguf_file:
        return "generate"
    architecture = str(next(iter(source.config.get("architectures") or []), ""))
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "generate"
    if architecture.endswith("ForSequenceClassification"):
        return "classify"
    if architecture.endswith("ForTokenClassification"):
        return "classify_tokens"
    if architecture.endswith(("Model", "ForMaskedLM", "ForPreTraining")):
        return "embed"
    raise ExportError(
        f"{source.asked}: cannot tell the task from architecture {architecture or '(none)'}: "
        "give --task generate, embed, classify or classify_tokens"
    )


def load_model(source: Source, task: Task) -> Any:
    """The transformers model, ready to compute."""
    import torch
    import transformers

    kinds = {
        "generate": transformers.AutoModelForCausalLM,
        "embed": transformers.AutoModel,
        "classify": transformers.AutoModelForSequenceClassification,
        "classify_tokens": transformers.AutoModelForTokenClassification,
    }
    where: dict[str, Any] = {"gguf_file": source.gguf_file} if source.gguf_file else {"use_safetensors": True}
    try:
        model, info = kinds[task].from_pretrained(
            source.directory,
            dtype=torch.float32,
            attn_implementation=_REFERENCE_ATTENTION,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
            **where,
        )
    except Exception as error:  # transformers raises every type there is for a checkpoint that it does not know
        raise ExportError(f"{source.asked}: transformers cannot load it for {task}: {first_line(error)}") from error
    _refuse_missing(source, task, sorted(info["missing_keys"]))
    return model.eval().requires_grad_(requires_grad=False)


def reference_attention(model: Any) -> None:
    """Puts transformers' own attention back, after a trace."""
    model.set_attn_implementation(_REFERENCE_ATTENTION)


def _refuse_missing(source: Source, task: Task, missing: list[str]) -> None:
    if task == "embed":
        missing = [name for name in missing if not name.startswith(_UNUSED_WHEN_EMBEDDING)]
    if missing:
        raise ExportError(f"{source.asked} lacks {len(missing)} of the weights that {task} needs, such as {missing[0]}")


def load_tokenizer(source: Source) -> Any:
    """The checkpoint's tokenizer, as a fast (tokenizers library) one."""
    import transformers

    where: dict[str, Any] = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source.directory, local_files_only=True, trust_remote_code=False, **where
        )
    except Exception as error:  # as above
        raise ExportError(f"{source.asked}: transformers cannot load its tokenizer: {first_line(error)}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ExportError(f"{source.asked}: {type(tokenizer).__name__} has no fast tokenizer, which serving needs")
    return tokenizer
