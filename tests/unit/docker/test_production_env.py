"""The settings of production: what is refused, and what is written."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKER

pytestmark = pytest.mark.unit

SCRIPT = DOCKER / "production-env.sh"
SECRETS = ("POSTGRES", "OWNER", "API", "GRAFANA")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [SCRIPT, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def generated(directory: Path, *further: str) -> Path:
    """A file of settings with random secrets, and further lines."""
    path = directory / "env"
    assert run("generate", path).returncode == 0
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in further)
    return path


def refused(path: Path) -> str:
    """What is said of settings that must be refused."""
    done = run("check", path)
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr


def test_generated_settings_are_fit_and_private(tmp_path: Path) -> None:
    """They pass the check, nobody else can read them, and a second time changes nothing."""
    path = generated(tmp_path)
    assert run("check", path).returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert run("generate", path).returncode == 0
    assert path.read_bytes() == before


def test_the_example_is_refused_with_all_that_is_to_be_set(tmp_path: Path) -> None:
    """Not the first alone."""
    path = tmp_path / "env"
    path.write_bytes((DOCKER / ".env.production.example").read_bytes())
    path.chmod(0o600)
    said = refused(path)
    for name in SECRETS:
        assert f"MESS_{name}_PASSWORD: is a default" in said


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """With what to do."""
    said = refused(tmp_path / "none")
    assert len(said.splitlines()) == 1
    assert "generate" in said


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("MESS_API_PASSWORD=", "MESS_API_PASSWORD: is not set"),
        ("MESS_API_PASSWORD=short", "has 5 characters, 16 are the least"),
        ("MESS_API_PASSWORD=my-password-is-password", "is a default or says what it is"),
        ("MESS_API_PASSWORD='abc def ghi jkl mno'", "has other characters"),
        ("MESS_API_PASSWORD=$(touch /tmp/never)-x-x", "has other characters"),
        ("MESS_API_PASSWORD_FILE=/nowhere/at/all", "MESS_API_PASSWORD_FILE cannot be read"),
        ("COMPOSE_PROFILES=kafka,postgres,tls", "MESS_DOMAIN: is not set"),
        ("COMPOSE_PROFILES=kafka,postgres,tls", "MESS_API_BIND: must be 127.0.0.1"),
        ("COMPOSE_PROFILES=postgres", "COMPOSE_PROFILES: add kafka, or name the one that others run in"),
        ("MESS_KAFKA_SECURITY_PROTOCOL=SASL_SSL", "MESS_KAFKA_SASL_USERNAME: is not set"),
        ("MESS_KAFKA_SECURITY_PROTOCOL=SASL_SSL", "MESS_KAFKA_PASSWORD: is not set"),
        ("MESS_BACKUP_REPOSITORY=s3:https://s3.example/bucket", "MESS_BACKUP_PASSWORD: is not set"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    """The last value counts; nothing of it is run, or shown."""
    said = refused(generated(tmp_path, line))
    assert complaint in said
    assert line.partition("=")[2] not in said or line.endswith(("=", "tls", "SASL_SSL", "all"))


ELSEWHERE = {
    "postgres": (
        "MESS_DATABASE_URL=postgresql://mess@postgres.example:5432/mess",
        "MESS_API_DATABASE_URL=postgresql://mess_api@postgres.example:5432/mess",
    ),
    "kafka": ("MESS_KAFKA_BOOTSTRAP_SERVERS=kafka.example:9092",),
}


@pytest.mark.parametrize(("service", "other"), [("postgres", "kafka"), ("kafka", "postgres")])
def test_what_others_run_does_not_run_here_too(tmp_path: Path, service: str, other: str) -> None:
    """Nor nowhere: each of the two is in the profiles, or the settings name another and a way to it."""
    said = refused(generated(tmp_path, *ELSEWHERE[service]))
    assert f"COMPOSE_PROFILES: take {service} out, as" in said
    assert "MESS_NETWORK_INTERNAL: must be false" in said
    further = (f"COMPOSE_PROFILES={other}", "MESS_NETWORK_INTERNAL=false")
    fit = generated(tmp_path, *further)
    done = run("check", fit)
    assert done.returncode == 0, done.stderr


def test_a_postgres_of_others_needs_no_superuser_and_both_roles(tmp_path: Path) -> None:
    """The password of this stack's own superuser is asked for where that runs; the API's URL is a second one."""
    further = ("COMPOSE_PROFILES=kafka", "MESS_NETWORK_INTERNAL=false", "MESS_POSTGRES_PASSWORD=")
    path = generated(tmp_path, *ELSEWHERE["postgres"], *further)
    assert run("check", path).returncode == 0
    with path.open("a", encoding="utf-8") as file:
        file.write("MESS_API_DATABASE_URL=\n")
    assert "MESS_API_DATABASE_URL: is not set" in refused(path)


@pytest.mark.parametrize(
    "url", ["postgresql://mess@postgres:5432/mess", "postgresql://mess@postgres/mess?sslmode=disable"]
)
def test_the_stacks_own_postgres_may_be_named(tmp_path: Path, url: str) -> None:
    """It is not taken for another."""
    assert run("check", generated(tmp_path, f"MESS_DATABASE_URL={url}")).returncode == 0


def test_two_roles_may_not_share_a_password(tmp_path: Path) -> None:
    """The API's role must not be able to write."""
    same = "0123456789abcdefXYZ"
    said = refused(generated(tmp_path, f"MESS_API_PASSWORD={same}", f"MESS_OWNER_PASSWORD={same}"))
    assert "MESS_API_PASSWORD: is the same as MESS_OWNER_PASSWORD" in said
    assert same not in said


def test_settings_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """They hold secrets."""
    path = generated(tmp_path)
    path.chmod(0o644)
    assert "chmod 600" in refused(path)


def test_secrets_are_written_as_files_behind_a_door(tmp_path: Path) -> None:
    """Each is the value alone; the directory is its owner's, while a container's user can read the file it is given."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a-secret-in-a-file-0123", encoding="utf-8")
    value = "0123456789abcdefXYZ"
    path = generated(tmp_path, f'MESS_OWNER_PASSWORD="{value}"', f"MESS_API_PASSWORD_FILE={elsewhere}")
    assert "MESS_API_PASSWORD: is a default" in refused(path)  # for the word in it
    elsewhere.write_text("Zm9vYmFyYmF6cXV4", encoding="utf-8")
    directory = tmp_path / "secrets"
    for _ in range(2):
        assert run("secrets", path, directory).returncode == 0
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = {file.name: file for file in directory.iterdir()}
    assert set(files) == {
        f"{name}_password" for name in ("postgres", "owner", "api", "grafana", "kafka", "backup")
    }
    assert files["owner_password"].read_text(encoding="utf-8") == value
    assert files["api_password"].read_text(encoding="utf-8") == "Zm9vYmFyYmF6cXV4"
    assert {stat.S_IMODE(file.stat().st_mode) for file in files.values()} == {0o444}


def test_kafkas_own_users_are_written_where_sasl_is_set(tmp_path: Path) -> None:
    """For the overlay that has the stack's own broker ask for a password."""
    path = generated(
        tmp_path,
        "MESS_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        "MESS_KAFKA_SASL_USERNAME=mess",
        "MESS_KAFKA_PASSWORD=0123456789abcdefXYZ",
    )
    assert run("secrets", path, tmp_path / "secrets").returncode == 0
    written = (tmp_path / "secrets" / "kafka_jaas").read_text(encoding="utf-8")
    assert 'user_mess="0123456789abcdefXYZ"' in written


def test_whether_keys_are_required_is_said_once_and_plainly(tmp_path: Path) -> None:
    """Not in the other file of settings, where it would have no effect, and nothing but true or false."""
    assert run("check", generated(tmp_path, "MESS_API_REQUIRE_KEYS=true")).returncode == 0
    directory = tmp_path / "docker"
    directory.mkdir()
    script = shutil.copy2(SCRIPT, directory)
    (directory / "settings.env").write_text("MESS_API_REQUIRE_KEYS=true\n", encoding="utf-8")
    done = subprocess.run([script, "check", tmp_path / "env"], capture_output=True, text=True, check=False)
    assert (done.returncode, "MESS_API_REQUIRE_KEYS: stands in" in done.stderr) == (2, True)
    other = tmp_path / "other"
    other.mkdir()
    assert "must be true or false" in refused(generated(other, "MESS_API_REQUIRE_KEYS=yes"))


def test_a_login_by_iam_needs_no_password(tmp_path: Path) -> None:
    """Tokens are made for each connection."""
    path = generated(
        tmp_path, "MESS_KAFKA_SECURITY_PROTOCOL=SASL_SSL", "MESS_KAFKA_SASL_MECHANISM=OAUTHBEARER"
    )
    assert run("check", path).returncode == 0


def test_a_changed_secret_is_written_into_the_file_that_containers_have_mounted(tmp_path: Path) -> None:
    """The same inode: one that took its place would be seen by none that runs."""
    path = generated(tmp_path)
    directory = tmp_path / "secrets"
    assert run("secrets", path, directory).returncode == 0
    file = directory / "owner_password"
    with file.open(encoding="utf-8") as mounted:
        with path.open("a", encoding="utf-8") as settings:
            settings.write("MESS_OWNER_PASSWORD=0123456789abcdefXYZ\n")
        assert run("secrets", path, directory).returncode == 0
        assert mounted.read() == "0123456789abcdefXYZ"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
