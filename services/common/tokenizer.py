"""Tokenizers of the models: text to token ids and back, whole or piece by piece."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

from tokenizers import Encoding, Tokenizer, decoders

from services.common.errors import invalid_field

REPLACEMENT = "\ufffd"
# A token window that still ends in U+FFFD after this many tokens is not an unfinished character any more.
MAX_HELD_TOKENS = 64
CONTEXT_TOKENS = 8
# So little text is read by the caller's thread: the library's own threads take longer to wake than to work on it.
FEW_CHARACTERS = 1024
MAX_CACHED_TOKENS = 1 << 16
MASK_TOKENS = ("[MASK]", "<mask>")  # of BERT, DistilBERT, ELECTRA and ALBERT; of RoBERTa and XLM-R
ItemT = TypeVar("ItemT")


class Encoded:
    """Tokens of one text or pair.

    Lists are made when they are asked for: for a text of a mebibyte each of them takes tens of megabytes.
    """

    def __init__(self, encoding: Encoding, kept: Sequence[int] | None) -> None:
        """`kept` are the positions that are left after a cut, None when nothing was cut."""
        self._encoding = encoding
        self._kept = kept
        self._length = len(encoding if kept is None else kept)

    @property
    def ids(self) -> list[int]:
        """Token ids."""
        return self._select(self._encoding.ids)

    @property
    def tokens(self) -> list[str]:
        """Tokens as strings of the vocabulary."""
        return self._select(self._encoding.tokens)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """First and one past the last code point in the text that the token came from; (0, 0) for none."""
        return self._select(self._encoding.offsets)

    @property
    def type_ids(self) -> list[int]:
        """Which text of a pair a token belongs to, as the model wants it."""
        return self._select(self._encoding.type_ids)

    @property
    def word_ids(self) -> list[int | None]:
        """Number of the word that a token is part of, as the tokenizer splits words; None for a special token."""
        return self._select(self._encoding.word_ids)

    @property
    def sequence_ids(self) -> list[int | None]:
        """0 or 1 for a token of the first or second text; None for a special token that was put around them."""
        return self._select(self._encoding.sequence_ids)

    @property
    def truncated(self) -> bool:
        """Whether tokens were cut."""
        return self._kept is not None

    def __len__(self) -> int:
        return self._length

    def _select(self, values: list[ItemT]) -> list[ItemT]:
        return values if self._kept is None else [values[i] for i in self._kept]


class TextTokenizer:
    """One model's tokenizer. Its methods may run in several threads at once; encoding releases the GIL."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        # Checkpoints often carry the settings of their training; here the caller decides.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.vocabulary_size = tokenizer.get_vocab_size(with_added_tokens=True)
        # Whether the bytes of a text are those of its tokens, one after the other, whatever comes before them.
        self.decodes_tokens_alone = isinstance(tokenizer.decoder, decoders.ByteLevel)
        # One token as text, special ones included; part of a character becomes U+FFFD.
        self.token_text = lru_cache(maxsize=MAX_CACHED_TOKENS)(self._token_text)
        special = {i: token.content for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self.special_ids = frozenset(special)
        # The token that stands for a word that is not shown, None if the model was not trained with any.
        self.mask_id = next((i for i, content in special.items() if content in MASK_TOKENS), None)

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "TextTokenizer":
        """Loads the content of a tokenizer.json; `name` is the file's in errors. Raises ValueError."""
        try:
            tokenizer = cls(Tokenizer.from_buffer(content))
            # The library starts its threads with the first batch, as many as the calling thread has cores, and on
            # those: all of them here, one in the event loop of a service (`cpu_core.py`).
            tokenizer.count([""])
            return tokenizer
        except Exception as error:  # the library raises nothing more precise
            raise ValueError(f"{name} cannot be loaded: {error}") from error

    def encode_ids(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of one text."""
        if len(text) <= FEW_CHARACTERS:
            encoding = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        else:
            encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]
        ids: list[int] = encoding.ids
        return ids

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def count(self, texts: Sequence[str], add_special_tokens: bool = True) -> list[int]:
        """Number of tokens of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [len(encoding) for encoding in encodings]

    def encode(
        self, texts: Sequence[str], add_special_tokens: bool = True, max_length: int | None = None
    ) -> list[Encoded]:
        """Tokens of each text, cut to `max_length` with the special tokens kept."""
        if sum(map(len, texts)) <= FEW_CHARACTERS:
            encodings = [self._tokenizer.encode(text, add_special_tokens=add_special_tokens) for text in texts]
        else:
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return [_encoded(encoding, max_length) for encoding in encodings]

    def encode_pairs(self, pairs: Sequence[tuple[str, str]], max_length: int | None = None) -> list[Encoded]:
        """Tokens of each pair with special tokens; the longer text of a pair is cut first."""
        return [_encoded(encoding, max_length) for encoding in self._tokenizer.encode_batch(list(pairs))]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of the ids; malformed bytes become U+FFFD."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    def _token_text(self, token_id: int) -> str:
        return self.decode((token_id,), skip_special_tokens=False)

    def check_ids(self, ids: Sequence[int], field: str, vocabulary_size: int) -> None:
        """Raises INVALID_FIELD for the first id that the model does not have."""
        if ids and (min(ids) < 0 or max(ids) >= vocabulary_size):
            index = next(i for i, token in enumerate(ids) if not 0 <= token < vocabulary_size)
            raise invalid_field(f"{field}[{index}]", f"{ids[index]} is not a token id, 0 to {vocabulary_size - 1}")


def _encoded(encoding: Encoding, max_length: int | None) -> Encoded:
    fits = max_length is None or len(encoding) <= max_length
    return Encoded(encoding, None if fits or max_length is None else _kept_positions(encoding.sequence_ids, max_length))


def _kept_positions(sequence_ids: Sequence[int | None], max_length: int) -> list[int]:
    """Positions that stay: all special tokens (None), then as much of each text as there is room for."""
    special_count = sum(1 for sequence in sequence_ids if sequence is None)
    first = sum(1 for sequence in sequence_ids if sequence == 0)
    second = len(sequence_ids) - special_count - first
    room = [*_split_room(max(0, max_length - special_count), first, second)]
    kept = []
    for position, sequence in enumerate(sequence_ids):
        if sequence is None:
            kept.append(position)
        elif room[sequence] > 0:
            room[sequence] -= 1
            kept.append(position)
    return kept[:max_length]


def _split_room(room: int, first: int, second: int) -> tuple[int, int]:
    """Longest first: the shorter text stays whole if it takes at most half, else each gets half."""
    shorter, longer = min(first, second), max(first, second)
    if shorter + longer > room:
        shorter, longer = (shorter, room - shorter) if shorter <= room // 2 else (room // 2, room - room // 2)
    return (shorter, longer) if first <= second else (longer, shorter)


class IncrementalDetokenizer:
    """Text of a growing sequence of tokens, in pieces that never hold part of a character.

    The pieces together are the decoding of all ids (with byte-fallback tokenizers, whose decoder drops a whole run of
    byte tokens for one malformed byte, characters that were already complete stay). A token is decoded together with
    the few before it, because a decoder's treatment of spaces depends on them.
    """

    def __init__(
        self, tokenizer: TextTokenizer, context_ids: Sequence[int] = (), skip_special_tokens: bool = True
    ) -> None:
        """`context_ids` come before the first token; their text is not part of the output."""
        self._tokenizer = tokenizer
        self._hidden_ids = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._context: list[int] = []
        self._context_text = ""
        self._held: list[int] = []
        if not tokenizer.decodes_tokens_alone:
            self._set_context([token for token in context_ids[-CONTEXT_TOKENS:] if token not in self._hidden_ids])

    def push(self, ids: Sequence[int]) -> str:
        """The text that the ids complete; may be empty."""
        return "".join([self.push_one(token) for token in ids])

    def push_one(self, token: int) -> str:
        """The text that one id completes; may be empty."""
        if token in self._hidden_ids:
            return ""
        if self._tokenizer.decodes_tokens_alone and not self._held:
            text = self._tokenizer.token_text(token)
            if text and REPLACEMENT not in text:
                return text
        self._held.append(token)
        text = self._new_text()
        unfinished = not text or text.endswith(REPLACEMENT)
        return "" if unfinished and len(self._held) < MAX_HELD_TOKENS else self._take(text)

    def finish(self) -> str:
        """What is left, with U+FFFD in place of an unfinished character."""
        return self._take(self._new_text()) if self._held else ""

    def _take(self, text: str) -> str:
        if not self._tokenizer.decodes_tokens_alone:
            self._set_context(self._held)
        self._held = []
        return text

    def _set_context(self, ids: list[int]) -> None:
        self._context = ids
        self._context_text = self._tokenizer.token_text(ids[0]) if len(ids) == 1 else self._decode(ids)

    def _new_text(self) -> str:
        text = self._decode(self._context + self._held)
        if text.startswith(self._context_text):
            return text[len(self._context_text) :]
        return self._decode(self._held)  # the context ended within a character, which these tokens do not continue

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False) if ids else ""
