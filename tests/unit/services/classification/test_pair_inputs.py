"""Pairs put together by hand are the pairs that the tokenizer makes."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, processors

from services.classification.pair_inputs import PairInput, PairTemplate
from services.common.errors import NaiadError, Reason
from services.common.tokenizer import TextTokenizer
from tests.support.small_models import bert_tokenizer, byte_fallback_tokenizer, byte_level_tokenizer

TEXTS = ("hello world", "", " a", "good  film.", "中 é")


def roberta() -> Tokenizer:
    tokenizer = byte_level_tokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


@pytest.mark.parametrize("make", [bert_tokenizer, roberta, byte_level_tokenizer, byte_fallback_tokenizer])
def test_a_pair_of_ids_is_the_pair_of_the_tokenizer(make: Callable[[], Tokenizer]) -> None:
    tokenizer = TextTokenizer(make())
    template = PairTemplate.of(tokenizer)
    ids = tokenizer.encode_plain(TEXTS)
    for first, first_ids in zip(TEXTS, ids, strict=True):
        for second, second_ids in zip(TEXTS, ids, strict=True):
            (expected,) = tokenizer.encode_pairs([(first, second)])
            pair = PairInput(template, first_ids, second_ids)
            assert (pair.ids, pair.type_ids, len(pair)) == (expected.ids, expected.type_ids, len(expected))


def test_a_tokenizer_without_pairs_is_our_error() -> None:
    only_first = bert_tokenizer()
    only_first.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(NaiadError) as caught:
        PairTemplate.of(TextTokenizer(only_first))
    assert caught.value.reason is Reason.INTERNAL
