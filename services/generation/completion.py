"""One completion: engine replies in, text, tokens and log-probabilities out; free of gRPC."""

from collections.abc import Sequence

from services.common.infer_reply import FINISH_REASON, InferReply
from services.common.text_models import TextModel
from services.common.tokenizer import IncrementalDetokenizer, TextTokenizer
from services.generation.events import Delta, Finished, FinishReason, PositionLogprobs, TokenLogprob
from services.generation.parameters import Generation
from services.generation.stop_text import StopTextMatcher


class CompletionReader:
    """Follows one completion. `finished` is set when its text has ended, `last_reply` when the engine has."""

    def __init__(self, index: int, model: TextModel, generation: Generation, context_ids: Sequence[int]) -> None:
        """`context_ids` are the last tokens of the prompt."""
        stopping = generation.stopping
        own_ends = () if stopping.ignore_eos else model.entry.eos_ids
        self.index = index
        self.completion_tokens = 0
        self.total_logprob = 0.0
        self.finished: Finished | None = None
        self.last_reply: InferReply | None = None
        self._tokenizer = model.tokenizer
        self._detokenizer = IncrementalDetokenizer(model.tokenizer, context_ids)
        self._matcher = StopTextMatcher(stopping.stop_texts)
        self._stop_token_ids = frozenset((*own_ends, *stopping.stop_token_ids))
        self._wanted = generation.wanted
        self._held_stop_token: int | None = None

    def read(self, replies: Sequence[InferReply]) -> Delta:
        """What the replies add. After a stop text nothing is added any more."""
        delta = Delta(self.index)
        for reply in replies:
            if self.finished is None and reply.token_ids:
                self._read_tokens(reply, delta)
            if FINISH_REASON in reply.parameters:
                self.last_reply = reply
                if self.finished is None:
                    self._end(reply, delta)
        return delta

    def _read_tokens(self, reply: InferReply, delta: Delta) -> None:
        for row, token in enumerate(reply.token_ids):
            self._show_held_token(delta)
            if self.finished is not None:
                return
            self.completion_tokens += 1
            if self._wanted.token_ids:
                delta.token_ids.append(token)
            if "output_log_probs" in reply.outputs:
                self._read_logprobs(reply, row, token, delta)
            if token in self._stop_token_ids:
                # Whether it stopped the completion or was passed over is known with the next token or the end.
                self._held_stop_token = token
            else:
                self._show(self._detokenizer.push_one(token), delta)
            if self.finished is not None:
                return

    def _read_logprobs(self, reply: InferReply, row: int, token: int, delta: Delta) -> None:
        logprob = float(reply.outputs["output_log_probs"][row])
        self.total_logprob += logprob
        if self._wanted.logprobs:
            top_ids = reply.outputs["top_log_prob_ids"][row].tolist() if self._wanted.top_logprobs else ()
            top_values = reply.outputs["top_log_prob_values"][row].tolist() if self._wanted.top_logprobs else ()
            delta.logprobs.append(position_logprobs(self._tokenizer, (token, logprob), top_ids, top_values))

    def _show_held_token(self, delta: Delta) -> None:
        if self._held_stop_token is not None:
            token, self._held_stop_token = self._held_stop_token, None
            self._show(self._detokenizer.push_one(token), delta)

    def _show(self, text: str, delta: Delta) -> None:
        matched = self._matcher.push(text)
        delta.text += matched.text
        if matched.stop is not None:
            self.finished = Finished(self.index, FinishReason.STOP, stop_text=matched.stop)

    def _end(self, reply: InferReply, delta: Delta) -> None:
        reason = FinishReason(str(reply.parameters[FINISH_REASON]))
        if reason is not FinishReason.STOP:
            self._show_held_token(delta)
        if self.finished is None:
            self._show(self._detokenizer.finish(), delta)
        if self.finished is None:
            delta.text += self._matcher.finish()
            stop_token = reply.int_parameter("stop_token_id") if reason is FinishReason.STOP else None
            self.finished = Finished(self.index, reason, stop_token_id=stop_token)


def position_logprobs(
    tokenizer: TextTokenizer, chosen: tuple[int, float], top_ids: Sequence[int], top_values: Sequence[float]
) -> PositionLogprobs:
    """One position with the texts of its tokens."""

    def token_logprob(token: int, logprob: float) -> TokenLogprob:
        return TokenLogprob(token, tokenizer.token_text(token), logprob)

    return PositionLogprobs(
        token_logprob(*chosen), tuple(token_logprob(*pair) for pair in zip(top_ids, top_values, strict=True))
    )
