"""A service that says NOT_SERVING gets no calls, though it would answer."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from services import client
from services.common.server import ServiceApp
from services.common.settings import TokenizationSettings
from services.tokenization.app import build
from tests.support.running_service import running
from tests.support.small_models import bert_tokenizer, write_model

METHOD = "/naiad.v1.TokenizationService/Tokenize"


def answered(app: ServiceApp) -> float:
    return app.metrics.rpc_requests.labels(METHOD, "OK")._value.get()


async def test_calls_go_only_to_services_that_are_healthy(tmp_path: Path) -> None:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    settings = TokenizationSettings(model_repository=tmp_path)
    apps = [build(settings), build(settings)]
    async with AsyncExitStack() as stack:
        servers = [(await stack.enter_async_context(running(app, settings)))[0] for app in apps]
        addresses = [f"127.0.0.1:{server.endpoints.port}" for server in servers]
        naiad = await stack.enter_async_context(client.connect_aio(addresses))

        async def counts_of_ten_calls() -> list[float]:
            before = [answered(app) for app in apps]
            for _ in range(10):
                await naiad.tokenize(model="embed", texts=["hello"])
            return [answered(app) - count for app, count in zip(apps, before, strict=True)]

        async def until(counts: list[float]) -> None:
            async with asyncio.timeout(20):
                while await counts_of_ten_calls() != counts:
                    pass

        await until([5, 5])
        apps[0].health.set_serving(False)
        await until([0, 10])
        apps[0].health.set_serving(True)
        apps[1].health.set_serving(False)
        await until([10, 0])
