"""Small tokenizers and repository entries, made in a moment, for unit tests."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ("hello world, the quick brown fox jumps over the lazy dog. ", "Paris is the capital of France. ") * 4
BOS, EOS = "<s>", "</s>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_level_tokenizer() -> Tokenizer:
    """A GPT-2-like tokenizer: any bytes, ids 0 and 1 are <s> and </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback_tokenizer() -> Tokenizer:
    """A Llama-2-like tokenizer: spaces as U+2581, unknown characters as byte tokens <0x00> .. <0xFF>."""
    vocab = {BOS: 0, EOS: 1, "<unk>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in ("\u2581", "\u2581hello", "\u2581world", "h", "e", "l", "o", "w", "r", "d", "中", "."):
        vocab[piece] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(BOS, special=True), AddedToken(EOS, special=True)])
    return tokenizer


def bert_tokenizer() -> Tokenizer:
    """A BERT-like tokenizer with [CLS] and [SEP]."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "good", "bad", "film", "##s", "a", "b", "c", "d"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def listed_file(path: Path) -> dict[str, Any]:
    """A file of an entry's own folder as the manifest names it."""
    content = path.read_bytes()
    return {"path": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def write_model(
    repository: Path,
    name: str,
    task: str,
    tokenizer: Tokenizer,
    *,
    chat_template: str | None = None,
    context_length_tokens: int = 64,
    changes: dict[str, Any] | None = None,
) -> Path:
    """Writes a repository entry without graph; the folder. `changes` replace keys of the manifest."""
    directory = repository / name
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {"tokenizer": listed_file(directory / "tokenizer.json")}
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
        files["chat_template"] = listed_file(directory / "chat_template.jinja")
    vocabulary_size = tokenizer.get_vocab_size(with_added_tokens=True)
    manifest: dict[str, Any] = {
        "format_version": 1,
        "name": name,
        "task": task,
        "architecture": "test",
        "precision": "fp32",
        "limits": {"context_length_tokens": context_length_tokens, "vocabulary_size": vocabulary_size},
        "special_tokens": {"bos_id": 0, "eos_ids": [1]} if task == "generate" else {},
        "files": files,
        **(changes or {}),
    }
    (directory / "naiad.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory
