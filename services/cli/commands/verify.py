"""`naiad verify`: checks models on the disk as `naiad serve` does, without serving them."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.cli import exit_codes
from services.cli.table import format_table
from services.common.model_scan import ModelScanError, ScannedEntry, scan_entry
from services.common.model_scan.entry import entry_names
from services.common.model_scan.signature import KeyFileError, load_public_key
from services.common.setting import SettingsError
from services.common.settings import SupervisorSettings, load_settings


def run(arguments: argparse.Namespace) -> int:
    """Checks each model; fails when one does not pass, after all have been tried."""
    try:
        settings = load_settings(SupervisorSettings, os.environ)
        key_path = Path(arguments.public_key) if arguments.public_key else settings.public_key_path
        public_key = load_public_key(key_path) if key_path else None
    except (SettingsError, KeyFileError) as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    passed, failed = [], False
    for directory in model_directories(arguments, settings):
        try:
            passed.append(scan_entry(directory, public_key))
        except ModelScanError as error:
            failed = True
            print(f"naiad: {error}", file=sys.stderr)
    _print(passed, arguments.json)
    return exit_codes.FAILED if failed else exit_codes.OK


def model_directories(arguments: argparse.Namespace, settings: SupervisorSettings) -> list[Path]:
    """Folders of the models that the command is about."""
    repository = Path(arguments.repository) if arguments.repository else settings.model_repository
    try:
        names = entry_names(repository)
    except ModelScanError as error:
        raise exit_codes.CommandError(str(error)) from None
    unknown = [name for name in arguments.models if name not in names]
    if unknown:
        raise exit_codes.CommandError(f"there is no model {unknown[0]} in {repository}")
    if not names:
        raise exit_codes.CommandError(f"there is no model in {repository}")
    return [repository / name for name in arguments.models or names]


def _print(entries: Sequence[ScannedEntry], as_json: bool) -> None:
    if as_json:
        for entry in entries:
            print(
                json.dumps(
                    {"name": entry.name, "digest": entry.digest, "bytes": entry.size_bytes, "signed": entry.signed}
                )
            )
    elif entries:
        rows = [
            (entry.name, f"{entry.size_bytes / 1e6:.1f} MB", "yes" if entry.signed else "not checked", entry.digest)
            for entry in entries
        ]
        print(format_table(("MODEL", "SIZE", "SIGNATURE", "DIGEST"), rows))
