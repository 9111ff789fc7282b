"""What the service expects back from the engine."""

from services.classification.encoder_client import EMBEDDINGS, HIDDEN_STATES, LOGITS, EncoderJob


def test_hidden_states_and_logits_of_tokens_have_a_row_a_token() -> None:
    assert EncoderJob(HIDDEN_STATES, 4).row_per_token
    assert EncoderJob(LOGITS, 4, token_logits=True).row_per_token
    assert not EncoderJob(LOGITS, 4).row_per_token
    assert not EncoderJob(EMBEDDINGS, 4).row_per_token
