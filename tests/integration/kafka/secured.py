"""A broker that asks who one is: by password (SCRAM), by certificate (mTLS) and by token (OAUTHBEARER), all over TLS."""

import asyncio
import datetime
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mess.stack.jars import kafka_jars
from mess.stack.java import find_java
from mess.stack.kafka import EmbeddedKafka
from mess.stack.ports import LOOPBACK, pick_free
from tests.support.polling import until

USER = "mess"
# Brokers cut a connection that has been logged in for so long: the client has to log in again, with what is valid then.
LOGIN_MS = 2_000


class Authority:
    """Signs certificates; its own is in `ca`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {directory.name}")])
        self.ca = directory / "ca.pem"
        certificate = self._sign(self._name, self._key.public_key(), ca=True)
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certificate(self, name: str) -> Path:
        """A file with a new key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path = self._directory / f"{name}.pem"
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        path.write_bytes(
            key.private_bytes(pem, pkcs8, serialization.NoEncryption())
            + self._sign(subject, key.public_key()).public_bytes(pem)
        )
        return path

    def _sign(self, subject: x509.Name, key: Any, *, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ip_address(LOOPBACK))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(addresses, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@dataclass
class SecuredBroker:
    """A running broker.

    Attributes:
        plain: where whoever comes is let in.
        scram: where `USER` logs in by password.
        mtls: where one shows a certificate of `authority`.
        token: where a token is asked for, which need not be signed.
        authority: who signs the broker's certificate and those of clients.
    """

    plain: str
    scram: str
    mtls: str
    token: str
    authority: Authority

    def set_password(self, password: str) -> None:
        """Let `USER` log in by this password from now on."""
        admin = AdminClient({"bootstrap.servers": self.plain})
        change = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), password.encode()
        )
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result()


class _Node(EmbeddedKafka):
    """The node of the local stack with further listeners."""

    listeners: dict[str, int]
    store: Path
    ca: Path

    def properties(self) -> str:
        """The node's properties; the last value of a name counts."""
        login = "org.apache.kafka.common.security"
        protocols = {"SCRAM": "SASL_SSL", "MTLS": "SSL", "TOKEN": "SASL_SSL"}
        places = {name: f"{name}://{LOOPBACK}:{port}" for name, port in self.listeners.items()}
        advertised = ",".join(places[name] for name in places if name != "CONTROLLER")
        return super().properties() + "".join(
            f"{line}\n"
            for line in (
                f"listeners={','.join(places.values())}",
                f"advertised.listeners={advertised}",
                "listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
                + ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={self.store}",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={self.ca}",
                "listener.name.mtls.ssl.client.auth=required",
                "listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512",
                f"listener.name.scram.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;",
                f"listener.name.scram.scram-sha-512.connections.max.reauth.ms={LOGIN_MS}",
                "listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER",
                f"listener.name.token.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule "
                'required unsecuredLoginStringClaim_sub="broker";',
            )
        )


@contextmanager
def secured_broker(directory: Path) -> Iterator[SecuredBroker]:
    """Run a secured broker around a block."""
    authority = Authority(directory / "ours")
    names = ("CLIENT", "CONTROLLER", "SCRAM", "MTLS", "TOKEN")
    ports = dict(zip(names, pick_free(len(names)), strict=True))
    node = _Node(
        directory / "broker",
        find_java(),
        kafka_jars(lambda _: None),
        port=ports["CLIENT"],
        controller_port=ports["CONTROLLER"],
        log=directory / "log",
    )
    node.listeners, node.store, node.ca = ports, authority.certificate("broker"), authority.ca
    node.prepare(lambda _: None)
    service = node.service()
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(service.argv, env=service.env, stdout=log, stderr=log)
    with process:
        try:
            probe = service.probe
            assert probe is not None
            asyncio.run(until(probe))
            at = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
            yield SecuredBroker(at["CLIENT"], at["SCRAM"], at["MTLS"], at["TOKEN"], authority)
        finally:
            process.kill()
