"""What is taken from Triton's log when it has ended."""

from services.supervisor.triton_log import TritonLog

LOADING = 'I1123 22:34:00.000001 12 model_lifecycle.cc:472] "loading: chat:1"'
NO_GPU = 'E1123 22:34:00.000001 12 server.cc:241] "CudaDriverHelper has not been initialized."'
CHAT = "E1123 22:34:00.000002 12 model_lifecycle.cc:642] \"failed to load 'chat' version 1: Invalid argument: x\""
TABLE = "| exit_timeout | 15 |"
END = "error: creating server: Internal - failed to load all models"


def test_only_failures_are_shown() -> None:
    assert TritonLog().important([NO_GPU, LOADING, CHAT, TABLE, END]) == [CHAT, END]


def test_the_cause_is_the_first_model_that_did_not_load() -> None:
    assert TritonLog().cause([CHAT, END]) == "failed to load 'chat' version 1: Invalid argument: x"


def test_without_a_failed_model_the_last_failure_is_the_cause() -> None:
    assert TritonLog().cause([END]) == END


def test_a_log_without_failures_is_shown_whole() -> None:
    assert TritonLog().important([LOADING, TABLE]) == [LOADING, TABLE]
    assert TritonLog().cause([]) is None
