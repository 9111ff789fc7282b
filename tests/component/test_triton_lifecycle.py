"""Loading, refusing to load, unloading and ending, with and without live requests."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.component.conftest import SLOW_DECODER
from tests.support.triton import TritonFailedToStartError, run_triton
from tests.support.triton_stream import InferStream, generate_request
from tests.synthetic.make_decoder import expected_tokens, make_decoder

pytestmark = pytest.mark.component


def _refusal(repository: Path) -> str:
    """The log of a server that must not start."""
    with pytest.raises(TritonFailedToStartError) as caught, run_triton(repository):
        pass
    return str(caught.value)


def test_an_unknown_parameter_keeps_the_model_out_and_the_log_names_it(tmp_path: Path) -> None:
    make_decoder(tmp_path, "decoder", parameters={"max_step_token": "64"})
    assert "config.pbtxt: parameters.max_step_token is not a known key" in _refusal(tmp_path)


def test_a_value_out_of_range_keeps_the_model_out_and_the_log_names_the_range(tmp_path: Path) -> None:
    make_decoder(tmp_path, "decoder", parameters={"max_active_requests": "0"})
    assert 'max_active_requests is "0"; it must be an integer from 1 to 4096' in _refusal(tmp_path)


def test_two_instances_keep_the_model_out(tmp_path: Path) -> None:
    config = make_decoder(tmp_path, "decoder") / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 2"))
    assert "instance_group.count is 2; it must be 1, one engine a model" in _refusal(tmp_path)


def test_a_manifest_of_another_format_version_keeps_the_model_out(tmp_path: Path) -> None:
    manifest = make_decoder(tmp_path, "decoder") / "naiad.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format_version": 2}))
    assert "naiad.json: format_version is 2; it must be 1" in _refusal(tmp_path)


def test_a_truncated_graph_keeps_the_model_out(tmp_path: Path) -> None:
    graph = make_decoder(tmp_path, "decoder") / "1" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert "but naiad.json says" in _refusal(tmp_path)


def test_a_missing_onnxruntime_keeps_the_model_out_and_the_log_names_the_setting(tmp_path: Path) -> None:
    make_decoder(tmp_path, "decoder")
    arguments = ["--backend-config=naiad,onnxruntime_library=/nowhere/libonnxruntime.so"]
    with pytest.raises(TritonFailedToStartError) as caught, run_triton(tmp_path, arguments=arguments):
        pass
    assert "/nowhere/libonnxruntime.so" in str(caught.value)


def test_the_log_says_what_the_kernels_run_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_decoder(tmp_path, "decoder")
    monkeypatch.setenv("NAIAD_SIMD_LEVEL", "scalar")
    with run_triton(tmp_path) as server:
        assert "kernels on the CPU use scalar" in server.log()


def test_unknown_instructions_keep_the_model_out_and_the_log_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_decoder(tmp_path, "decoder")
    monkeypatch.setenv("NAIAD_SIMD_LEVEL", "mmx")
    assert "NAIAD_SIMD_LEVEL is 'mmx'" in _refusal(tmp_path)


async def test_unloading_lets_live_requests_end_and_the_model_can_come_back(tmp_path: Path) -> None:
    make_decoder(tmp_path, "slow", SLOW_DECODER, {"intra_op_threads": "1"})
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with run_triton(tmp_path, arguments=arguments) as server:
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            async with InferStream(server.grpc_address) as stream:
                await stream.send(generate_request("slow", "live", [1, 2, 3], 60, ignore_eos=True))
                first = await stream.next_response("live")
                unload = service_pb2.RepositoryModelUnloadRequest(model_name="slow")
                await stub.RepositoryModelUnload(unload, metadata=server.key)
                rest = await stream.rest("live")
                # Asked apart from the stream: a request for a model that is gone would not be safe there
                # (docs/decisions/0002-talking-to-triton.md).
                ready = await stub.ModelReady(service_pb2.ModelReadyRequest(name="slow"))
            assert rest.finish_reason == "length"
            assert first.error_message == ""
            assert len(rest.tokens) >= 59
            assert not ready.ready
            # An open stream keeps every model that it has used in memory; now it is closed.
            server.wait_for_log("successfully unloaded 'slow'")
            load = service_pb2.RepositoryModelLoadRequest(model_name="slow")
            await stub.RepositoryModelLoad(load, metadata=server.key)
            async with InferStream(server.grpc_address) as stream:
                again = await stream.generate("slow", "again", [1, 2, 3], 5, ignore_eos=True)
            assert again.tokens == expected_tokens(SLOW_DECODER, [1, 2, 3], 5, ignore_eos=True)
        assert server.stop() == 0


async def test_the_server_ends_in_order_after_its_live_requests(tmp_path: Path) -> None:
    make_decoder(tmp_path, "slow", SLOW_DECODER, {"intra_op_threads": "1"})
    with run_triton(tmp_path) as server:
        async with InferStream(server.grpc_address) as stream:
            await stream.send(generate_request("slow", "live", [1, 2, 3], 200, ignore_eos=True))
            await stream.next_response("live")
            server.terminate()
            rest = await stream.rest("live")
            assert rest.finish_reason == "length"
        assert server.wait() == 0
        assert "successfully unloaded 'slow'" in server.log()


async def test_a_client_that_vanishes_frees_its_requests(tmp_path: Path) -> None:
    make_decoder(tmp_path, "slow", SLOW_DECODER, {"intra_op_threads": "1", "max_active_requests": "1"})
    with run_triton(tmp_path) as server:
        channel = grpc.aio.insecure_channel(server.grpc_address)
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        await call.write(generate_request("slow", "gone", [1, 2, 3], 1000, ignore_eos=True))
        await call.read()
        await channel.close()
        # The only place in the engine is free again long before the thousand tokens are through.
        async with InferStream(server.grpc_address) as stream:
            next_one = await stream.generate("slow", "next", [1], 2, ignore_eos=True)
        assert next_one.finish_reason == "length"
        sample = server.metrics()
        assert 'finished_reason="cancelled"' in sample
        assert server.stop() == 0
