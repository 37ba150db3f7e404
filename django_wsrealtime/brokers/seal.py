"""Seals what is put on a bus, so that only processes with this project's secret can add to it.

A sealed value is ``mac ‖ data``. The MAC (16 bytes of keyed BLAKE2b, RFC 7693) covers what kind of
thing it is, the name it stands under, and the data: an entry copied to another topic, or passed off
as a signal, does not verify. With encryption keys the data is a Fernet token, as in channels_redis.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from django.conf import settings
from django.utils.crypto import salted_hmac

from ..errors import ConfigurationError
from ..instrumentation import count, warn_once

SIZE = 16
"""Bytes of a MAC."""


class Kind:
    """What kinds of things are sealed."""

    ENTRY = b"E"
    RESET = b"R"
    SIGNAL = b"S"
    ECHO = b"H"
    ATTENDANCE = b"A"
    CLAIM = b"C"


class Crypter(Protocol):
    """What :class:`cryptography.fernet.MultiFernet` does."""

    def encrypt(self, msg: bytes) -> bytes: ...

    def decrypt(self, msg: bytes) -> bytes: ...


def make_crypter(keys: Sequence[str | bytes]) -> Crypter | None:
    """The cipher for channels_redis' ``symmetric_encryption_keys``; the first one encrypts.

    Raises:
        ConfigurationError: the keys are no list, or ``cryptography`` is not installed.
    """
    if not keys:
        return None
    if isinstance(keys, str | bytes):
        raise ConfigurationError("symmetric_encryption_keys is a string; expected a list of keys.")
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise ConfigurationError(
            "symmetric_encryption_keys needs cryptography: pip install channels-redis[cryptography]"
        ) from None
    return MultiFernet(
        Fernet(base64.urlsafe_b64encode(hashlib.sha256(raw).digest()))
        for raw in (key.encode() if isinstance(key, str) else key for key in keys)
    )


class Seal:
    """Seals and opens values of one deployment.

    Args:
        deployment: part of the key; what another deployment sealed does not verify here.
        encryption_keys: see :func:`make_crypter`.
    """

    def __init__(self, *, deployment: str, encryption_keys: Sequence[str | bytes] = ()) -> None:
        secrets = [settings.SECRET_KEY, *getattr(settings, "SECRET_KEY_FALLBACKS", ())]
        self._macs = [
            hashlib.blake2b(
                key=salted_hmac(
                    "django_wsrealtime.brokers", deployment, secret=secret, algorithm="sha256"
                ).digest(),
                digest_size=SIZE,
            )
            for secret in secrets
        ]
        self._crypter = make_crypter(encryption_keys)
        self._invalid = _invalid_token() if self._crypter is not None else ()

    def close(self, kind: bytes, name: str, data: bytes) -> bytes:
        """Seal ``data`` as a value of this kind and name."""
        if self._crypter is not None:
            data = self._crypter.encrypt(data)
        return _mac(self._macs[0], kind, name, data) + data

    def open(self, kind: bytes, name: str, sealed: bytes) -> bytes | None:
        """The data of a sealed value, or ``None`` (counted) if this project did not seal it."""
        mac, data = sealed[:SIZE], sealed[SIZE:]
        if not any(hmac.compare_digest(mac, _mac(own, kind, name, data)) for own in self._macs):
            self.reject(name)
            return None
        if self._crypter is None:
            return data
        try:
            return self._crypter.decrypt(data)
        except self._invalid:
            self.reject(name)
            return None

    def reject(self, name: str) -> None:
        """Count something on the bus that this project did not put there."""
        count("bus.rejected")
        warn_once(
            "bus.rejected",
            f"Something on the bus did not verify and was skipped (first: {name!a}). Do all"
            " processes share SECRET_KEY, WSREALTIME['DEPLOYMENT'] and the encryption keys? Put an"
            " old SECRET_KEY into SECRET_KEY_FALLBACKS while it is replaced.",
        )


def _invalid_token() -> tuple[type[Exception], ...]:
    from cryptography.fernet import InvalidToken

    return (InvalidToken,)


def _mac(keyed: hashlib.blake2b, kind: bytes, name: str, data: bytes) -> bytes:
    mac = keyed.copy()
    raw = name.encode()
    mac.update(b"%b%d:%b" % (kind, len(raw), raw))
    mac.update(data)
    return mac.digest()
