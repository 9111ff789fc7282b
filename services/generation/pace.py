"""How fast the engine has worked of late for one model: whether there is time for a request, and whether it waited."""

from services.common.deadline import RecentTimes

_LEAST_PROMPT_TOKENS = 32  # the time of a shorter prompt is that of a step, whatever its length
_DRIFT = 1.005  # a best time that is not reached any more is forgotten, slowly
_SHARING = 2.0  # prompts share steps with streams in flight, which is no queue


class Pace:
    """Of one model. Durations count from the moment when a request is handed to the engine."""

    def __init__(self) -> None:
        self._first_tokens = RecentTimes()
        self._wholes = RecentTimes()
        self._best_s_per_prompt_token: float | None = None

    def check(self, prompt_tokens: int, max_tokens: int | None, deadline_s: float | None) -> None:
        """Raises DEADLINE_EXCEEDED when a request of this size is usually not done in the time that it has.

        `max_tokens` is None when a part of the answer is of use, too: then only the first token must be there in time.
        """
        self._first_tokens.check(prompt_tokens, deadline_s)
        if max_tokens is not None:
            self._wholes.check(max_tokens, deadline_s)

    def note_first_token(self, prompt_tokens: int, duration_s: float) -> float | None:
        """Takes the time to a first token; gives the part of it that was waiting, None while that is not known."""
        self._first_tokens.add(prompt_tokens, duration_s)
        if prompt_tokens < _LEAST_PROMPT_TOKENS:
            return duration_s
        if self._best_s_per_prompt_token is None:
            return None
        return max(0.0, duration_s - _SHARING * prompt_tokens * self._best_s_per_prompt_token)

    def note_prefill(self, computed_tokens: int, duration_s: float) -> None:
        """Takes how long the engine worked on the tokens of a prompt that were not in its cache."""
        if computed_tokens < _LEAST_PROMPT_TOKENS:
            return
        found_s, best_s = duration_s / computed_tokens, self._best_s_per_prompt_token
        self._best_s_per_prompt_token = found_s if best_s is None else min(found_s, best_s * _DRIFT)

    def note_whole(self, max_tokens: int, duration_s: float) -> None:
        """Takes the time to the last token of a request that might have had `max_tokens`."""
        self._wholes.add(max_tokens, duration_s)
