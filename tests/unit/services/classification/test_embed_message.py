"""The answer of Embed."""

import numpy as np

from services.classification.embed_logic import Embedded
from services.classification.messages.embed import response
from services.classification.text_batches import Timings
from services.common.errors import invalid_field

TIMINGS = Timings(tokenization_us=7, queue_us=1_000_000, compute_us=2_500_003)


def test_floats_arrive_to_the_bit_and_errors_stay_at_their_places() -> None:
    vectors = np.random.default_rng(1).standard_normal((3, 200)).astype(np.float32)
    special = np.array([[0.0, -0.0, np.inf, 1e-45]], np.float32)
    outcomes = [Embedded(vectors[:, :150], 3), invalid_field("texts[1]", "has no tokens"), Embedded(special, 5)]
    first, wrong, last = response(outcomes, TIMINGS).results
    assert first.embedding.tokens == 3
    assert [np.array(vector.values, np.float32).tobytes() for vector in first.embedding.vectors] == [
        vector.tobytes() for vector in vectors[:, :150]
    ]
    assert wrong.error.message == "texts[1]: has no tokens"
    assert np.array(last.embedding.vectors[0].values, np.float32).tobytes() == special.tobytes()


def test_timings_are_durations() -> None:
    timings = response([], TIMINGS).timings
    assert timings.tokenization.ToMicroseconds() == 7
    assert timings.queue.ToMicroseconds() == 1_000_000
    assert timings.compute.ToMicroseconds() == 2_500_003
