"""Events and results as naiad.v1 messages."""

from google.protobuf.duration_pb2 import Duration
from naiad.v1 import generation_pb2 as pb

from services.generation.events import (
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerationResult,
    PositionLogprobs,
    ScoreResult,
    Started,
    Timings,
    TokenLogprob,
    Usage,
)

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
    FinishReason.CONTENT_FILTER: pb.FINISH_REASON_CONTENT_FILTER,
}


def stream_message(event: Event, request_id: str) -> pb.GenerateStreamResponse:
    """One event of the stream."""
    if isinstance(event, Delta):
        return _delta_message(event)
    if isinstance(event, Started):
        started = pb.StreamStarted(request_id=request_id, prompt_tokens=event.prompt_tokens)
        return pb.GenerateStreamResponse(started=started)
    if isinstance(event, Finished):
        finished = pb.StreamFinished(
            index=event.index,
            finish_reason=_REASONS[event.reason],
            stop_match=_stop_match(event),
            safety_rules=event.safety_rules,
        )
        return pb.GenerateStreamResponse(finished=finished)
    summary = pb.StreamSummary(usage=_usage(event.usage), timings=_timings(event.timings))
    return pb.GenerateStreamResponse(summary=summary)


def _delta_message(event: Delta) -> pb.GenerateStreamResponse:
    message = pb.GenerateStreamResponse()
    delta = message.delta  # filled in place: there is one for each token
    delta.SetInParent()
    delta.index = event.index
    delta.text = event.text
    if event.token_ids:
        delta.token_ids.extend(event.token_ids)
    if event.logprobs:
        delta.logprobs.extend(map(_position, event.logprobs))
    return message


def generate_message(result: GenerationResult) -> pb.GenerateResponse:
    """The whole answer."""
    return pb.GenerateResponse(
        completions=map(_completion, result.completions),
        usage=_usage(result.summary.usage),
        timings=_timings(result.summary.timings),
    )


def score_message(result: ScoreResult) -> pb.ScoreResponse:
    """Scores of a text."""
    return pb.ScoreResponse(
        token_ids=result.token_ids,
        logprobs=map(_position, result.logprobs),
        total_logprob=result.total_logprob,
        perplexity=result.perplexity,
        usage=_usage(result.usage),
        timings=_timings(result.timings),
    )


def _completion(completion: Completion) -> pb.Completion:
    return pb.Completion(
        index=completion.index,
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=_REASONS[completion.finished.reason],
        stop_match=_stop_match(completion.finished),
        logprobs=map(_position, completion.logprobs),
        safety_rules=completion.finished.safety_rules,
    )


def _stop_match(finished: Finished) -> pb.StopMatch | None:
    if finished.stop_text is not None:
        return pb.StopMatch(text=finished.stop_text)
    if finished.stop_token_id is not None:
        return pb.StopMatch(token_id=finished.stop_token_id)
    return None


def _position(position: PositionLogprobs) -> pb.PositionLogprobs:
    return pb.PositionLogprobs(chosen=_token(position.chosen), top=map(_token, position.top))


def _token(token: TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(token_id=token.token_id, token=token.token, logprob=token.logprob)


def _usage(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _timings(timings: Timings) -> pb.Timings:
    return pb.Timings(
        queue=_duration(timings.queue_us),
        prefill=_duration(timings.prefill_us),
        decode=_duration(timings.decode_us),
        time_to_first_token=_duration(timings.time_to_first_token_us),
    )


def _duration(microseconds: int) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(microseconds)
    return duration
