"""`naiad serve`: the whole system in the foreground."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path

from services.cli import exit_codes
from services.cli.table import format_table
from services.common.addresses import SERVICE_SETTINGS
from services.common.model_scan import ModelScanError
from services.common.model_scan.signature import KeyFileError, load_public_key
from services.common.setting import SettingsError
from services.supervisor.control import control_socket
from services.supervisor.errors import StartError
from services.supervisor.reload import ModelReloader
from services.supervisor.reporter import Reporter
from services.supervisor.restart import RestartPolicy
from services.supervisor.served_models import ServedModels, serve_models
from services.supervisor.supervisor import Supervisor
from services.supervisor.system import Endpoint, System, plan

EXAMPLES = {
    "generation": 'naiad generate --chat "Name the capital of France."',
    "classification": 'naiad classify --model sentiment "A wonderful, moving film."',
    "tokenization": 'naiad tokenize "Hello, world!"',
}


def run(arguments: argparse.Namespace) -> int:
    """Runs until Ctrl-C or SIGTERM, which is a good end; any other end is a failure."""
    wanted = [name for name in SERVICE_SETTINGS if not getattr(arguments, f"no_{name}")]
    reporter = Reporter()
    try:
        system = plan(os.environ, Path(arguments.repository) if arguments.repository else None, wanted)
        system.check()
        system.begin_logs()
        with _checked_models(system, reporter) as models:
            system = system.serving(models.path)
            reporter.progress(f"starting Triton with {', '.join(system.triton_options.models())}")
            asyncio.run(_supervise(system, models, reporter))
    except (SettingsError, StartError, KeyFileError) as error:
        print(f"naiad: {error}", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.OK


@contextmanager
def _checked_models(system: System, reporter: Reporter) -> Iterator[ServedModels]:
    """The models, scanned before anything opens them. Raises StartError, KeyFileError."""
    repository = system.settings.model_repository
    key_path = system.settings.public_key_path
    public_key = load_public_key(key_path) if key_path else None
    begun_s = time.monotonic()
    with ExitStack() as resources:
        try:
            models = resources.enter_context(serve_models(repository, public_key))
        except ModelScanError as error:
            raise StartError(f"a model in {repository} is refused: {error}") from None
        except OSError as error:
            raise StartError(f"{repository} cannot be served: {error.strerror}") from None
        entries = models.state.entries
        megabytes = sum(entry.size_bytes for entry in entries) / 1e6
        signed = ", signatures too" if public_key else ""
        reporter.progress(
            f"checked {len(entries)} models{signed} ({megabytes:.0f} MB, {time.monotonic() - begun_s:.1f} s)"
        )
        if models.in_place:
            reporter.progress(f"no links to {repository} can be made: it is served in place, so do not change it")
        yield models


async def _supervise(system: System, models: ServedModels, reporter: Reporter) -> None:
    stages = system.stages(reporter)
    policy = RestartPolicy(most_deaths=system.settings.max_deaths_per_minute)
    supervisor = Supervisor(stages, reporter, on_ready=lambda: reporter.plain(describe(system)), policy=policy)
    engines = [member.spec.name for member in stages[0]]
    reloader = ModelReloader(models, supervisor, engines, reporter)
    async with control_socket(system.settings.log_directory, reloader.reload):
        await supervisor.run()


def describe(system: System) -> str:
    """Where everything listens, and what to try."""
    endpoints = [*system.services, *system.tritons]
    table = format_table(
        ("PART", "GRPC", "METRICS"), [(endpoint.name, endpoint.address, endpoint.metrics_url) for endpoint in endpoints]
    )
    trials = [f"  {_environment_prefix(service)}{EXAMPLES[service.name]}" for service in system.services]
    return "\n".join(
        [
            "",
            table,
            "",
            f"Logs are in {system.settings.log_directory}. In another shell, try:",
            *trials,
            "",
            "Ctrl-C stops everything.",
        ]
    )


def _environment_prefix(service: Endpoint) -> str:
    """What another shell needs to find a service that is not at its usual port."""
    usual_port = next(field.default for field in fields(SERVICE_SETTINGS[service.name]) if field.name == "port")
    return "" if service.port == usual_port else f"NAIAD_{service.name.upper()}_ADDRESS={service.address} "
