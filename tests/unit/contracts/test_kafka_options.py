"""Kafka security is configuration, and the same for every client."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka import codec
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import ValidationError

from streams.errors import BrokerUnavailable
from streams.kafka.clients import aiokafka_options, faust_broker_options
from streams.kafka.topics import TRACK_INGEST, partition_of, topic_specs
from streams.settings import KafkaSettings, StreamSettings

pytestmark = pytest.mark.unit
SASL = {"sasl_username": "mess", "sasl_password": "hush"}


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has a MESS_KAFKA_ variable; a password does not show itself."""
    monkeypatch.setenv("MESS_KAFKA_BOOTSTRAP_SERVERS", "a:9092, b:9093,[::1]:9094")
    monkeypatch.setenv("MESS_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("MESS_KAFKA_SASL_USERNAME", "mess")
    monkeypatch.setenv("MESS_KAFKA_SASL_PASSWORD", "hush")
    kafka = KafkaSettings()
    assert kafka.servers == ["a:9092", "b:9093", "[::1]:9094"]
    assert "hush" not in repr(kafka)
    assert faust_broker_options(kafka)["broker"] == ["kafka://a:9092", "kafka://b:9093", "kafka://[::1]:9094"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bootstrap_servers": "nowhere"},
        {"bootstrap_servers": "a:99999"},
        {"bootstrap_servers": " , "},
        {"security_protocol": "SASL_SSL"},
        {"sasl_mechanism": "GSSAPI"},
        {"ssl_keyfile": "key.pem"},
        {"security_protocol": "SASL_SSL", "sasl_username": "mess", "sasl_password_file": "/nowhere"},
        {"security_protocol": "SASL_SSL", "sasl_username": "mess", "sasl_password_file": "/dev/null"},
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "OAUTHBEARER",
            "iam_region": "eu-central-1",
        },
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"},
        {"replication_factor": 2, "min_insync_replicas": 3},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    """A setting that cannot work is refused before any connection is tried."""
    with pytest.raises(ValidationError):
        KafkaSettings(**{"bootstrap_servers": "a:9092", **wrong})


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_and_aiokafka_get_the_same_security(protocol: str) -> None:
    """Faust hands its driver the options that our own clients use."""
    credentials = SASL if protocol.startswith("SASL") else {}
    kafka = KafkaSettings(
        bootstrap_servers="a:9092", security_protocol=protocol, sasl_mechanism="SCRAM-SHA-512", **credentials
    )
    ours = aiokafka_options(kafka)
    theirs = credentials_to_aiokafka_auth(faust_broker_options(kafka)["broker_credentials"])
    for name in theirs.keys() - {"ssl_context"}:
        assert theirs[name] == ours[name]
    assert isinstance(ours["ssl_context"], ssl.SSLContext) == protocol.endswith("SSL")
    assert (theirs.get("ssl_context") is None) == (ours["ssl_context"] is None)
    kinds = {"SSL": SSLCredentials, "PLAINTEXT": type(None)}
    assert isinstance(faust_broker_options(kafka)["broker_credentials"], kinds.get(protocol, SASLCredentials))


async def test_a_login_by_iam_is_the_same_for_both_and_signed_for_amazons_brokers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token is a presigned URL of AWS's own package."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    kafka = KafkaSettings(
        bootstrap_servers="a:9098",
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        iam_region="eu-central-1",
    )
    ours = aiokafka_options(kafka)
    theirs = credentials_to_aiokafka_auth(faust_broker_options(kafka)["broker_credentials"])
    assert theirs["sasl_mechanism"] == ours["sasl_mechanism"] == "OAUTHBEARER"
    for options in (ours, theirs):
        token = await options["sasl_oauth_token_provider"].token()
        url = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        assert url.startswith("https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect")


@pytest.mark.parametrize(("settings", "least"), [((1, None), 1), ((3, None), 2), ((3, 1), 1), ((4, 3), 3)])
def test_writes_need_as_many_replicas_as_the_settings_say(
    settings: tuple[int, int | None], least: int
) -> None:
    """Of all topics alike."""
    factor, given = settings
    kafka = KafkaSettings(bootstrap_servers="a:1", replication_factor=factor, min_insync_replicas=given)
    found = {spec.config["min.insync.replicas"] for spec in topic_specs(kafka, StreamSettings())}
    assert found == {str(least)}


def test_unreadable_certificates_are_one_clear_error(tmp_path: Path) -> None:
    """A CA file that is no certificate is named as a setting's fault."""
    (tmp_path / "ca.pem").write_text("no certificate")
    kafka = KafkaSettings(bootstrap_servers="a:9092", security_protocol="SSL", ssl_cafile=tmp_path / "ca.pem")
    with pytest.raises(BrokerUnavailable, match="MESS_KAFKA_SSL_"):
        aiokafka_options(kafka)


def test_topics_are_configured_for_what_they_hold() -> None:
    """Track events and lists are compacted; a refused message of any accepted size fits its dead letter."""
    specs = {
        s.name: s
        for s in topic_specs(KafkaSettings(bootstrap_servers="a:1"), StreamSettings(ingest_partitions=3))
    }
    assert {name for name, spec in specs.items() if spec.config["cleanup.policy"] == "compact"} == {
        "track-ingest",
        "recommendations",
    }
    assert specs[TRACK_INGEST].partitions == 3
    largest = int(specs[TRACK_INGEST].config["max.message.bytes"])
    assert 5_000_000 < largest < int(specs["dead-letters"].config["max.message.bytes"])


@pytest.mark.parametrize(("key", "partition"), [(b"21", 1_173_551_340 % 8), (b"foobar", 1_357_151_166 % 8)])
def test_keys_belong_to_the_partition_that_kafka_gives_them(key: bytes, partition: int) -> None:
    """The rule is murmur2 (values of Kafka's own tests), as Java's client and `partitioner=murmur2_random` of librdkafka have it."""
    assert partition_of(key, 8) == partition


@pytest.mark.parametrize("name", ["gzip", "lz4"])
def test_what_is_compressed_is_compressed_at_a_low_level(name: str) -> None:
    """What a producer compresses is as large as level 1 makes it: the level is a default of aiokafka's that we set."""
    encode, decode = getattr(codec, f"{name}_encode"), getattr(codec, f"{name}_decode")
    text = b"".join(b'{"track_id":"a/%d","score":0.%d}' % (i, i * 7919) for i in range(2_000))
    plain = encode(text)
    assert len(plain) == len(encode(text, 1))
    assert len(encode(text, 9)) < len(plain)
    assert decode(plain) == text
