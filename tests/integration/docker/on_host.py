"""The deployment's scripts on this machine: what compose would run in containers runs here, on services that others run.

A stand-in for `docker` runs `compose run client` and `compose run mess` as the same commands on the host, and notes every
call. `compose up` applies the migrations and makes topics, as the job `setup` does.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mess.stack.postgres import postgres_binaries
from tests.support.services import KafkaBroker

DOCKER = Path(__file__).parents[3] / "docker"

STAND_IN = """#!/bin/bash
set -euo pipefail
echo "$*" >>"$CALLS"
set -a
. <(grep -E '^MESS_(DATABASE_URL|KAFKA_BOOTSTRAP_SERVERS|KAFKA_SECURITY_PROTOCOL)=' "$MESS_ENV_FILE")
set +a
while [ "$1" != run ] && [ "$1" != up ]; do shift; done
action=$1
shift
if [ "$action" = up ]; then "$PYTHON" -m mess migrate && exec "$PYTHON" -m mess topics create; fi
while [[ $1 == -* ]]; do shift; done
service=$1
shift
case $service in
  client) exec "$@" --dbname "$MESS_DATABASE_URL" ;;
  mess) exec "$PYTHON" -m mess "$@" ;;
esac
"""


@dataclass
class Deployment:
    """A deployment whose Postgres and Kafka others run.

    Attributes:
        directory: where its settings, secrets and state are.
        database_url: its Postgres, as the schema's owner.
        broker: its Kafka.
        further: further lines of its settings.
    """

    directory: Path
    database_url: str
    broker: KafkaBroker
    further: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        programs = self.directory / "bin"
        programs.mkdir(parents=True)
        for name, text in (("docker", STAND_IN), ("curl", "#!/bin/sh\nexit 0\n")):
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        settings = self.directory / "env"
        subprocess.run([DOCKER / "production-env.sh", "generate", settings], check=True, capture_output=True)
        host = urlsplit(self.database_url)
        with settings.open("a", encoding="utf-8") as file:
            file.write(
                "COMPOSE_PROFILES=\nMESS_NETWORK_INTERNAL=false\n"
                f"MESS_DATABASE_URL={self.database_url}\n"
                f"MESS_API_DATABASE_URL=postgresql://mess_api@{host.hostname}:{host.port}{host.path}\n"
                f"MESS_KAFKA_BOOTSTRAP_SERVERS={self.broker.bootstrap_servers}\n"
            )
            file.writelines(f"{line}\n" for line in self.further)

    def run(self, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of docker/ec2."""
        path = f"{self.directory}/bin:{postgres_binaries()}:{os.environ['PATH']}"
        return subprocess.run(
            [DOCKER / "ec2" / script, *map(str, arguments)],
            env={
                **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
                "PATH": path,
                "HOME": str(self.directory),
                "PYTHON": sys.executable,
                "CALLS": str(self.directory / "calls"),
                "MESS_ENV_FILE": str(self.directory / "env"),
                "MESS_SECRETS_DIR": str(self.directory / "secrets"),
                "MESS_STATE_DIR": str(self.directory),
                "MESS_LOCK_FILE": str(self.directory / "lock"),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """Every call of docker so far."""
        return (self.directory / "calls").read_text(encoding="utf-8").splitlines()
