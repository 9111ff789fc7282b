"""`naiad reload`: a running `naiad serve` takes up what has changed in its repository."""

import argparse
import os

from services.cli import exit_codes
from services.common.setting import SettingsError
from services.common.settings import SupervisorSettings, load_settings
from services.supervisor.control import NotRunningError, call


def run(arguments: argparse.Namespace) -> int:
    """Waits until the new models are served, or are refused."""
    try:
        folder = load_settings(SupervisorSettings, os.environ).log_directory
        ok, message = call(folder, "reload", arguments.timeout)
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    except NotRunningError:
        raise exit_codes.CommandError(
            f"no naiad serve has its logs in {folder}: set NAIAD_LOG_DIRECTORY as it has", exit_codes.UNAVAILABLE
        ) from None
    except TimeoutError:
        raise exit_codes.CommandError(f"no answer after {arguments.timeout:g} s; it goes on") from None
    if not ok:
        raise exit_codes.CommandError(message)
    print(message)
    return exit_codes.OK
