"""What Kafka's clients log in with: read or made anew for each connection, so that a rotated one is taken up.

aiokafka (0.14) asks a provider for OAUTHBEARER's tokens at each connection, and keeps a password for good; Faust hands it
on as it is. So a password that stands in a file travels as a `PasswordFile`, which is read where a connection logs in.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any, Self

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator

from streams.errors import BrokerUnavailable
from streams.settings import KafkaSettings


class PasswordFile(str):
    """A password as it was when it was first read, and the file that has the present one."""

    __slots__ = ("path",)
    path: Path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a password.

        Raises:
            OSError: the file cannot be read.
        """
        password = cls(path.read_text(encoding="utf-8").strip())
        password.path = path
        return password


_handshake = AIOKafkaConnection._do_sasl_handshake  # noqa: SLF001 -- there is no public way


async def _handshake_with_present_password(connection: Any) -> None:
    known = connection._sasl_plain_password  # noqa: SLF001
    if isinstance(known, PasswordFile):
        connection._sasl_plain_password = PasswordFile.read(known.path)  # noqa: SLF001
    await _handshake(connection)


_step = OAuthAuthenticator.step


async def _step_to_the_end(authenticator: Any, payload: bytes | None) -> Any:
    # A broker that refuses a token says why, and fails the login once that is acknowledged (RFC 7628, 3.2.3). aiokafka takes
    # what it says for success: clients would start without an end, and nobody be told.
    return (b"\x01", True) if payload else await _step(authenticator, payload)


def _mend_logins() -> None:
    """Have aiokafka's connections log in so; again, it changes nothing."""
    AIOKafkaConnection._do_sasl_handshake = _handshake_with_present_password  # noqa: SLF001
    OAuthAuthenticator.step = _step_to_the_end


class IamTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens for Amazon MSK, signed with AWS's own chain of credentials."""

    def __init__(self, region: str) -> None:
        self._region = region

    async def token(self) -> str:
        """A token that is valid for a quarter of an hour.

        Raises:
            OSError: there are no credentials.
        """
        return await asyncio.to_thread(self._sign)

    def _sign(self) -> str:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 -- of the extra `aws`
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        try:
            token, _ = MSKAuthTokenProvider.generate_auth_token(self._region)
        except (BotoCoreError, ValueError) as error:
            raise OSError(f"no token of IAM: {error}") from error
        return str(token)


class _FilesContext(ssl.SSLContext):
    """TLS with a client certificate that is read again for each new connection."""

    kafka: KafkaSettings

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection."""
        self.load()
        return super().wrap_bio(*arguments, **options)

    def load(self) -> None:
        """Read the certificate and its key."""
        password = self.kafka.ssl_keyfile_password
        if self.kafka.ssl_certfile is not None:
            self.load_cert_chain(
                self.kafka.ssl_certfile,
                self.kafka.ssl_keyfile,
                password.get_secret_value() if password else None,
            )


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS context that the settings ask for, or None for plain connections.

    Raises:
        BrokerUnavailable: a certificate or key cannot be read.
    """
    if not kafka.uses_tls:
        return None
    try:
        # As `ssl.create_default_context`, which makes no subclass.
        context = _FilesContext(ssl.PROTOCOL_TLS_CLIENT)
        context.kafka = kafka
        if kafka.ssl_cafile is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(kafka.ssl_cafile)
        context.check_hostname = kafka.ssl_check_hostname
        context.load()
    except OSError as exc:  # ssl.SSLError is one
        raise BrokerUnavailable(f"the TLS files of MESS_KAFKA_SSL_... cannot be used: {exc}") from exc
    return context


def login_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the options by which a client of aiokafka logs in; none where brokers ask for nothing.

    Raises:
        BrokerUnavailable: the file of the password cannot be read.
    """
    if not kafka.uses_sasl:
        return {}
    _mend_logins()
    if kafka.uses_iam:
        return {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_oauth_token_provider": IamTokens(kafka.iam_region or ""),
        }
    return {
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": _password(kafka),
    }


def _password(kafka: KafkaSettings) -> str:
    if kafka.sasl_password_file is None:
        return kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
    try:
        return PasswordFile.read(kafka.sasl_password_file)
    except OSError as exc:
        raise BrokerUnavailable(f"MESS_KAFKA_SASL_PASSWORD_FILE cannot be read: {exc}") from exc
