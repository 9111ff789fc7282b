import pytest

from services.common.errors import FieldViolation, NaiadError, Reason, invalid_field
from services.generation.engine_errors import with_field
from services.generation.parameters import Generation, Guide, GuideKind, Prompt, Sampling, Stopping, Wanted

GENERATION = Generation(
    model="chat",
    prompt=Prompt("chat.messages"),
    sampling=Sampling(),
    stopping=Stopping(),
    wanted=Wanted(),
    guide=Guide(GuideKind.REGEX, "(", "guide.regex"),
)


@pytest.mark.parametrize(
    ("message", "field", "description"),
    [
        ("max_tokens: the prompt is too long", "stopping.max_tokens", "the prompt is too long"),
        ("top_k is -1; it must be 0 or more", "sampling.top_k", "is -1; it must be 0 or more"),
        ("num_sequences is 17; it must be from 1 to 16", "sampling.n", "is 17; it must be from 1 to 16"),
        ("prompt_token_ids holds -1", "chat.messages", "holds -1"),
        ("guided_decoding_guide: two\nlines", "guide.regex", "two\nlines"),
    ],
)
def test_a_name_of_the_engine_becomes_the_field(message: str, field: str, description: str) -> None:
    error = with_field(NaiadError(Reason.INVALID_FIELD, message), GENERATION)
    assert error.reason is Reason.INVALID_FIELD
    assert error.field_violations == (FieldViolation(field, description),)


@pytest.mark.parametrize(
    "error",
    [
        NaiadError(Reason.INVALID_FIELD, "something else is wrong"),
        NaiadError(Reason.INVALID_FIELD, ""),
        NaiadError(Reason.INTERNAL, "max_tokens: a bug"),
        invalid_field("text", "max_tokens"),
    ],
)
def test_other_errors_stay_as_they_are(error: NaiadError) -> None:
    assert with_field(error, GENERATION) is error
