"""`naiad sign`: signs models on the disk, which are checked first."""

import argparse
import os
from pathlib import Path

from services.cli import exit_codes
from services.cli.commands.verify import model_directories
from services.common.model_scan import ModelScanError, scan_entry
from services.common.model_scan.limits import CONFIG, MANIFEST, SIGNATURE
from services.common.model_scan.signature import (
    KeyFileError,
    PrivateKey,
    load_private_key,
    make_key_pair,
    make_signature,
)
from services.common.setting import SettingsError
from services.common.settings import SupervisorSettings, load_settings


def run(arguments: argparse.Namespace) -> int:
    """Signs each model; ends at the first that does not pass the check."""
    try:
        settings = load_settings(SupervisorSettings, os.environ)
        directories = model_directories(arguments, settings)
        if arguments.new_key:
            _write_key_pair(Path(arguments.new_key))
        key = load_private_key(Path(arguments.key or arguments.new_key))
        for directory in directories:
            _sign(directory, key)
            print(f"{directory} is signed")
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    except (KeyFileError, ModelScanError) as error:
        raise exit_codes.CommandError(str(error)) from None
    except OSError as error:
        raise exit_codes.CommandError(f"{error.filename}: {error.strerror}") from None
    return exit_codes.OK


def _sign(directory: Path, key: PrivateKey) -> None:
    scan_entry(directory)
    content = make_signature(
        (directory / MANIFEST).read_bytes(), (directory / CONFIG).read_bytes(), directory.name, key
    )
    # A new file in place of the old one: what is served has links to the old one.
    fresh = directory.parent / f".{directory.name}-{SIGNATURE}"
    fresh.write_bytes(content)
    fresh.replace(directory / SIGNATURE)


def _write_key_pair(path: Path) -> None:
    private, public = make_key_pair()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(private)
    path.with_name(f"{path.name}.pub").write_bytes(public)
