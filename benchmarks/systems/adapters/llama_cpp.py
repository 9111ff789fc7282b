"""llama.cpp's own server, asked over HTTP: built for this machine, or as the wheel of xllamacpp brings it.

One slot a stream, each with room for the longest prompt; the server batches continuously over the slots.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems.adapters.clock import RunClock
from benchmarks.systems.protocol import About, Answer, Request

SLOTS = 32
SLOT_TOKENS = 2304
START_TIMEOUT_S = 60


class LlamaServer:
    """The adapter; `options["binary"]` names a llama-server, without one xllamacpp's runs in this process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._in_process: Any = None
        self._port = 0

    def load(self, options: dict[str, Any]) -> About:
        """Starts the server and waits until it is well."""
        model, threads = options["gguf"], int(options["threads"])
        if "binary" in options:
            versions = self._start(Path(options["binary"]), model, threads)
        else:
            versions = self._start_in_process(model, threads)
        self._wait_until_well()
        return About(
            versions,
            weights="Q4_1 as shipped, 8-bit activations",
            weight_bytes=Path(model).stat().st_size,
            kv_cache="fp16",
            settings=f"{SLOTS} slots of {SLOT_TOKENS} tokens, continuous batching, over HTTP",
        )

    def _start(self, binary: Path, model: str, threads: int) -> dict[str, str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        arguments = {
            "--model": model,
            "--host": "127.0.0.1",
            "--port": self._port,
            "--parallel": SLOTS,
            "--ctx-size": SLOTS * SLOT_TOKENS,
            "--threads": threads,
            "--threads-batch": threads,
            "--threads-http": SLOTS + 2,
            "--cache-ram": 0,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        self._server = subprocess.Popen([str(binary), *words, "--no-kv-unified"])
        told = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"version: (.*)", told.stdout + told.stderr)
        return {"llama.cpp": found[1] if found else "unknown"}

    def _start_in_process(self, model: str, threads: int) -> dict[str, str]:
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = model
        parameters.n_parallel, parameters.n_ctx = SLOTS, SLOTS * SLOT_TOKENS
        parameters.kv_unified, parameters.cache_ram_mib, parameters.verbosity = False, 0, 0
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.n_threads_http = SLOTS + 2
        self._in_process = xllamacpp.Server(parameters)
        self._port = int(self._in_process.listening_address.rpartition(":")[2])
        return {"xllamacpp": version("xllamacpp")}

    def _wait_until_well(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._server is not None and self._server.poll() is not None:
                raise RuntimeError(f"llama-server ended with {self._server.returncode}")
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == http.client.OK:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.1)
        raise TimeoutError(f"not well after {START_TIMEOUT_S} s")

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """One HTTP call and one thread a request."""
        clock = RunClock()
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda request: self._complete(request, clock, reuse_prefix), requests))

    def _complete(self, request: Request, clock: RunClock, reuse_prefix: bool) -> Answer:
        answer = Answer()
        body = {
            "prompt": list(request.prompt),
            "n_predict": request.new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "cache_prompt": reuse_prefix,
            "return_tokens": True,
            "timings_per_token": True,
        }
        clock.wait_until(request.arrival_s)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        try:
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != http.client.OK:
                answer.error = f"HTTP {response.status}"
                return answer
            for line in response:
                if line.startswith(b"data: {"):
                    self._take(json.loads(line[6:]), answer, clock.now_s())
        finally:
            connection.close()
        return answer

    @staticmethod
    def _take(event: dict[str, Any], answer: Answer, when_s: float) -> None:
        # A token that ends within a character is counted at once but sent with the next one, or never.
        answer.tokens += event.get("tokens", [])
        counted = int(event.get("timings", {}).get("predicted_n", len(answer.token_times_s)))
        answer.token_times_s += [when_s] * (counted - len(answer.token_times_s))

    def close(self) -> None:
        """Ends the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(30)


def create() -> LlamaServer:
    """The adapter."""
    return LlamaServer()
