"""Signatures of entries: Ed25519 over the manifest, which has the hash of every other file, and config.pbtxt."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.limits import CONFIG, MANIFEST, SIGNATURE

PublicKey = Ed25519PublicKey
PrivateKey = Ed25519PrivateKey

_ALGORITHM = "ed25519"
_MAX_KEY_BYTES = 16 * 1024


class KeyFileError(ValueError):
    """A key cannot be used. The message is one line."""


def load_public_key(path: Path) -> PublicKey:
    """An Ed25519 public key in PEM. Raises KeyFileError."""
    key = _load(path, "public", serialization.load_pem_public_key)
    if not isinstance(key, PublicKey):
        raise KeyFileError(f"{path} is no Ed25519 public key")
    return key


def load_private_key(path: Path) -> PrivateKey:
    """An Ed25519 private key in PEM without a password. Raises KeyFileError."""
    key = _load(path, "private", lambda content: serialization.load_pem_private_key(content, password=None))
    if not isinstance(key, PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 private key")
    return key


def make_key_pair() -> tuple[bytes, bytes]:
    """A new private key and its public key, both in PEM."""
    private = PrivateKey.generate()
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private_pem, public_pem


def make_signature(manifest: bytes, config: bytes, name: str, key: PrivateKey) -> bytes:
    """Content of the signature file of the entry `name`."""
    signature = base64.b64encode(key.sign(_statement(manifest, config, name))).decode()
    return (json.dumps({"format_version": 1, "algorithm": _ALGORITHM, "signature": signature}) + "\n").encode()


def check_signature(content: bytes, manifest: bytes, config: bytes, name: str, key: PublicKey) -> None:
    """Raises ModelScanError unless `content` is the signature of these files with the private part of `key`."""
    try:
        document = json.loads(content.decode("utf-8"))
        if document["format_version"] != 1 or document["algorithm"] != _ALGORITHM:
            raise ValueError
        signature = base64.b64decode(document["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise ModelScanError(SIGNATURE, "is no signature") from None
    try:
        key.verify(signature, _statement(manifest, config, name))
    except InvalidSignature:
        cause = f"does not fit {MANIFEST} and {CONFIG}, or was made with another key"
        raise ModelScanError(SIGNATURE, cause) from None


def _statement(manifest: bytes, config: bytes, name: str) -> bytes:
    """What is signed. It begins with its purpose, so that no signature of something else is ever taken for one."""
    hashes = [
        f"{file} {hashlib.sha256(content).hexdigest()}" for file, content in ((MANIFEST, manifest), (CONFIG, config))
    ]
    return "\n".join(["naiad model entry v1", name, *hashes, ""]).encode()


def _load(path: Path, kind: str, load: Any) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return load(content)
    except Exception:  # the package raises what its parsers raise, of many types; the content must not be quoted
        raise KeyFileError(f"{path} is no {kind} key in PEM without a password") from None
