import numpy as np
import pytest

from services.common.infer_reply import signed_bits
from services.common.triton_messages import infer_request, read_reply
from tests.support.fake_triton import infer_response, parameters_of, tensors_of


def test_messages_carry_tensors_and_parameters_unchanged() -> None:
    inputs = {"input_ids": np.array([1, 2], np.int32), "logit_bias_values": np.array([0.5], np.float32)}
    parameters = {"flag": True, "count": -3, "share": 0.25, "name": "x"}
    request = infer_request("chat", "r1", inputs, parameters, ["logits"])
    assert tensors_of(request) == {"input_ids": [1, 2], "logit_bias_values": [0.5]}
    assert parameters_of(request) == parameters
    assert (request.model_name, request.id, request.outputs[0].name) == ("chat", "r1", "logits")
    reply = read_reply(infer_response("r1", {"logits": np.ones((2, 3), np.float32)}, {"queue_us": 7}, final=True))
    assert reply.outputs["logits"].shape == (2, 3)
    assert (reply.int_parameter("queue_us"), reply.int_parameter("absent"), reply.final) == (7, 0, True)


def test_a_tensor_that_contradicts_its_shape_is_refused() -> None:
    response = infer_response("r1", {"logits": np.ones((2, 3), np.float32)}, {}, final=True)
    response.outputs[0].shape[0] = 5
    with pytest.raises(ValueError, match="reshape"):
        read_reply(response)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_seeds_keep_their_bits(seed: int) -> None:
    assert signed_bits(seed) % 2**64 == seed
    assert -(2**63) <= signed_bits(seed) < 2**63
