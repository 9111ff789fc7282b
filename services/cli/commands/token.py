"""`naiad token`: makes bearer tokens. Only their hashes are kept."""

import argparse
import contextlib
import json
import os
import secrets
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.cli import exit_codes
from services.common.access_settings import OFF
from services.common.setting import SettingsError
from services.common.settings import ClientSettings, load_settings
from services.common.tenant_file import TenantFileError, digest_of, load_tenants, read_tenants

PREFIX = "naiad_"  # by which scanners for leaked secrets know it
TOKEN_BYTES = 32


def run(arguments: argparse.Namespace) -> int:
    """`naiad token new TENANT`: adds the token's hash to the file and prints the token, this once."""
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    entry = _entry(token, arguments.expires_days)
    if arguments.print_only:
        print(json.dumps({"tenants": {arguments.tenant: {"tokens": [entry]}}}), file=sys.stderr)
    else:
        path = _path(arguments.file)
        try:
            _add(path, arguments.tenant, entry)
        except TenantFileError as error:
            raise exit_codes.CommandError(str(error)) from None
        except OSError as error:
            raise exit_codes.CommandError(f"{path} cannot be written: {error.strerror}") from None
    print(token)
    return exit_codes.OK


def _path(argument: str | None) -> Path:
    if argument is not None:
        return Path(argument)
    try:
        configured = load_settings(ClientSettings).tenants_file
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    if configured == OFF:
        raise exit_codes.CommandError("name the file with --file, or set NAIAD_TENANTS_FILE", exit_codes.WRONG_USAGE)
    return Path(configured)


def _entry(token: str, expires_days: float | None) -> dict[str, str]:
    now = datetime.now(UTC)
    entry = {"sha256": digest_of(token).hex(), "created": now.isoformat(timespec="seconds")}
    if expires_days is not None:
        entry["expires"] = (now + timedelta(days=expires_days)).isoformat(timespec="seconds")
    return entry


def _add(path: Path, tenant: str, entry: dict[str, str]) -> None:
    """Replaces the file by one with the entry, as a whole: a service that reads meanwhile sees one or the other."""
    content: dict[str, Any] = {"tenants": {}}
    if path.exists():
        load_tenants(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    content.setdefault("tenants", {}).setdefault(tenant, {}).setdefault("tokens", []).append(entry)
    read_tenants(content)
    # Behind a link, the file itself is replaced. Only the owner may read a new one: it shows who there is.
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    descriptor, staged = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(staged).chmod(mode)
        Path(staged).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(staged).unlink()
        raise
