"""`naiad serve`: the whole system in the foreground."""

import argparse
import asyncio
import os
import sys
from dataclasses import fields
from pathlib import Path

from services.cli import exit_codes
from services.cli.table import format_table
from services.common.addresses import SERVICE_SETTINGS
from services.common.setting import SettingsError
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
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
        reporter.progress(f"starting Triton with {', '.join(system.triton_options.models())}")
        asyncio.run(_supervise(system, reporter))
    except (SettingsError, StartError) as error:
        print(f"naiad: {error}", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.OK


async def _supervise(system: System, reporter: Reporter) -> None:
    await Supervisor(system.stages(reporter), reporter, on_ready=lambda: reporter.plain(describe(system))).run()


def describe(system: System) -> str:
    """Where everything listens, and what to try."""
    endpoints = [*system.services, system.triton]
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
