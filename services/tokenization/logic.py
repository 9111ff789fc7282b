"""What the tokenization service does, free of gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.bounds import MAX_TEXT_BYTES
from services.common.chat_template import Message
from services.common.errors import NaiadError, invalid_field
from services.common.text_models import TextModel, TextModels, check_messages, text_is_too_long
from services.common.tokenizer import Encoded


@dataclass(frozen=True)
class TokenizeOptions:
    """How texts are tokenized. `max_length` is in tokens, None for no cut."""

    add_special_tokens: bool = True
    max_length: int | None = None


@dataclass(frozen=True)
class RenderedChat:
    """A conversation as the model reads it."""

    text: str
    token_ids: list[int]


class TokenizationLogic:
    """Tokenizes with any model of the repository."""

    def __init__(self, models: TextModels) -> None:
        self._models = models

    async def tokenize(
        self, model_name: str, texts: Sequence[str], options: TokenizeOptions
    ) -> list[Encoded | NaiadError]:
        """Tokens, or why there are none, of each text. Raises NaiadError when the whole request is wrong."""
        model = await self._models.get(model_name)
        _check_count(texts, "texts")
        if options.max_length is not None and options.max_length < 1:
            raise invalid_field("max_length", f"{options.max_length} is less than 1")
        good = [text for text in texts if not text_is_too_long(text)]
        encoded = await self._models.run(
            sum(map(len, good)),
            lambda: model.tokenizer.encode(good, options.add_special_tokens, options.max_length),
        )
        self._models.count_tokens(model, sum(map(len, encoded)))
        remaining = iter(encoded)
        return [_too_long(i) if text_is_too_long(text) else next(remaining) for i, text in enumerate(texts)]

    async def detokenize(
        self, model_name: str, sequences: Sequence[Sequence[int]], skip_special_tokens: bool
    ) -> list[str]:
        """Text of each sequence."""
        model = await self._models.get(model_name)
        _check_count(sequences, "sequences")
        for index, ids in enumerate(sequences):
            field = f"sequences[{index}].ids"
            model.tokenizer.check_ids(ids, field, model.tokenizer.vocabulary_size)
        return await self._models.run(
            4 * sum(map(len, sequences)),
            lambda: [model.tokenizer.decode(ids, skip_special_tokens) for ids in sequences],
        )

    async def count(self, model_name: str, texts: Sequence[str], add_special_tokens: bool) -> list[int]:
        """Number of tokens of each text."""
        model = await self._models.get(model_name)
        _check_count(texts, "texts")
        counts = await self._models.run(sum(map(len, texts)), lambda: model.tokenizer.count(texts, add_special_tokens))
        self._models.count_tokens(model, sum(counts))
        return counts

    async def apply_chat_template(
        self, model_name: str, messages: Sequence[Message], add_generation_prompt: bool
    ) -> RenderedChat:
        """The conversation as text and token ids."""
        model = await self._models.get(model_name)
        check_messages(messages, "messages")
        text = await self._models.render_chat(model, messages, add_generation_prompt, "messages")
        ids = await self._models.run(len(text), lambda: model.tokenizer.encode_ids(text, add_special_tokens=False))
        self._models.count_tokens(model, len(ids))
        return RenderedChat(text, ids)

    async def loaded_models(self) -> list[TextModel]:
        """Models whose tokenizer can be used, in alphabetical order."""
        await self._models.load_all()
        return self._models.loaded()


def _check_count(items: Sequence[object], field: str) -> None:
    if not items:
        raise invalid_field(field, "no items; at least 1 is needed")


def _too_long(index: int) -> NaiadError:
    return invalid_field(f"texts[{index}]", f"more than {MAX_TEXT_BYTES} bytes")
