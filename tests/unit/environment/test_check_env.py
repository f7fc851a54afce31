"""What is said of an environment before anything is started in it."""

import pytest
from typer.testing import CliRunner, Result

from mess.cli import build_cli

pytestmark = pytest.mark.unit

GOOD = "k3J9-vQz7.Lm2xT8"
FIT = {
    "MESS_DATABASE_URL": f"postgresql://mess:{GOOD}@db:5432/mess",
    "MESS_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
}


def mess(*arguments: str, **environment: str | None) -> Result:
    """Run the command in an environment with nothing else of ours in it."""
    return CliRunner().invoke(build_cli(), list(arguments), env=environment)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what this process has in its environment away."""
    for name in ("MESS_DATABASE_URL", "MESS_KAFKA_BOOTSTRAP_SERVERS", "PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)


def test_everything_that_is_missing_or_wrong_is_listed_at_once() -> None:
    """One run names every setting of every part, without showing values."""
    result = mess(
        "check-env", MESS_INGEST_PARTITIONS="0", MESS_API_PORT="http", MESS_API_KEY_RATE_LIMIT="fast"
    )
    assert result.exit_code == 2
    for name in (
        "MESS_DATABASE_URL: is not set",
        "MESS_KAFKA_BOOTSTRAP_SERVERS: is not set",
        "MESS_INGEST_PARTITIONS: ",
        "MESS_API_PORT: ",
        "MESS_API_KEY_RATE_LIMIT: ",
    ):
        assert name in result.output
    assert mess("check-env", **FIT).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"MESS_DATABASE_URL": "postgresql://mess:change-me@db/mess"}, "MESS_DATABASE_URL: its password is a default"),
        ({"MESS_DATABASE_URL": "postgresql://mess:development@db/mess"}, "its password is a default"),
        ({"MESS_DATABASE_URL": "postgresql://mess:Sh0rt-one@db/mess"}, "has 9 characters, 16 are the least"),
        ({"MESS_DATABASE_URL": "postgresql://mess@db/mess"}, "PGPASSWORD: is not set"),
        ({"MESS_DATABASE_URL": "postgresql://mess@db/mess", "PGPASSWORD": "MyPassword12345678"}, "PGPASSWORD: is a"),
        (
            {"MESS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "MESS_KAFKA_SASL_USERNAME": "mess"},
            "MESS_KAFKA_SASL_PASSWORD: is not set",
        ),
    ],
)  # fmt: skip
def test_production_refuses_secrets_that_are_missing_or_guessable(changes: dict[str, str], line: str) -> None:
    """The command says so, and worker and API do not start; the secret itself is not shown."""
    environment = FIT | changes
    for command in (["check-env", "--production"], ["worker"], ["api"]):
        result = mess(*command, **environment, MESS_PRODUCTION="true")
        assert result.exit_code == 2, result.output
        assert line in result.output
        assert "Sh0rt-one" not in result.output
    if "SASL_SSL" not in changes.values():
        assert mess("check-env", **environment).exit_code == 0


def test_production_takes_secrets_that_nobody_guesses() -> None:
    """A long random password in the URL or in PGPASSWORD will do, and over a socket none is needed."""
    for changes in (
        {},
        {"MESS_DATABASE_URL": "postgresql://mess@db/mess", "PGPASSWORD": GOOD},
        {"MESS_DATABASE_URL": "postgresql:///mess?host=/run/postgresql"},
    ):
        result = mess("check-env", "--production", **FIT | changes)
        assert result.exit_code == 0, result.output
