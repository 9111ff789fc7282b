"""Writes tokenizer.json and chat_template.jinja, and proves that the file tokenizes as the checkpoint does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporters.errors import ExportError

TOKENIZER_FILE = "tokenizer.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"

_SAMPLES = (
    "Hello, world!",
    "  two leading spaces\tand a tab\nand a line\n\n",
    "Größe, naïve café; 12,345.67 € in the year 2024.",
    "你好世界。これはペンです。 안녕하세요",
    "emoji 👩‍👩‍👧 and combining e\u0301",
    "def f(x):\n    return x ** 2  # code",
    "",
)


def write_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Writes the files into `directory`; padding and truncation are chosen at serving time, so they are off."""
    from tokenizers import Tokenizer

    saved = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    saved.no_padding()
    saved.no_truncation()
    # Not with the library's own method, whose errors do not say that the disk is full.
    (directory / TOKENIZER_FILE).write_text(saved.to_str(pretty=True), encoding="utf-8")
    reread = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    for sample in _SAMPLES:
        if reread.encode(sample).ids != tokenizer(sample)["input_ids"]:
            raise ExportError(f"the saved tokenizer gives other token ids than the checkpoint's for {sample!r}")
    template = chat_template(tokenizer)
    if template:
        (directory / CHAT_TEMPLATE_FILE).write_text(template, encoding="utf-8")


def chat_template(tokenizer: Any) -> str | None:
    """The checkpoint's chat template; the one named "default" when it has several."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return str(template) if template else None


def special_tokens(model: Any, tokenizer: Any) -> dict[str, Any]:
    """`special_tokens` of the manifest; what the checkpoint does not have is left out."""
    config, generation = model.config, getattr(model, "generation_config", None)
    ends: list[int] = []
    for owner in (generation, config, tokenizer):
        value = getattr(owner, "eos_token_id", None)
        ends.extend(value if isinstance(value, list | tuple) else [] if value is None else [value])
    found: dict[str, Any] = {}
    for key, name in (("bos_id", "bos_token_id"), ("pad_id", "pad_token_id")):
        ids = [getattr(owner, name, None) for owner in (tokenizer, generation, config)]
        value = next((number for number in ids if number is not None and number >= 0), None)
        if value is not None:
            found[key] = int(value)
    if ends:
        found["eos_ids"] = sorted({int(number) for number in ends})
    return found
