"""Settings that are missing or wrong end a command with one line."""

import pytest
import typer

from mess.settings import read_settings
from serving.settings import ServingSettings
from store.settings import StoreSettings
from streams.settings import KafkaSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("settings", "given", "said"),
    [
        (StoreSettings, {}, "mess: MESS_DATABASE_URL is not set."),
        (ServingSettings, {"port": 70_000}, "mess: MESS_API_PORT is wrong: Input should be less than"),
        (
            ServingSettings,
            {"address_rate_limit": "often"},
            "mess: MESS_API_ADDRESS_RATE_LIMIT is wrong: 'often'",
        ),
        (
            KafkaSettings,
            {"bootstrap_servers": "x:1", "security_protocol": "SASL_SSL"},
            "mess: MESS_KAFKA_... is wrong: SASL_SSL needs",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: type,
    given: dict[str, object],
    said: str,
) -> None:
    """The variable's name, what is wrong with it, and what to do."""
    monkeypatch.delenv("MESS_DATABASE_URL", raising=False)
    with pytest.raises(typer.Exit) as ended:
        read_settings(settings, **given)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(said)
    assert second.startswith("  Set MESS_")
    assert ended.value.exit_code == 2


def test_settings_of_the_environment_are_read_beside_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given counts more than the environment."""
    monkeypatch.setenv("MESS_KAFKA_BOOTSTRAP_SERVERS", "env:1")
    monkeypatch.setenv("MESS_KAFKA_COMPRESSION", "gzip")
    read = read_settings(KafkaSettings, bootstrap_servers="given:1")
    assert (read.bootstrap_servers, read.compression) == ("given:1", "gzip")
