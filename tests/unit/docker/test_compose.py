"""The compose files keep the rules that make a stack operable."""

import re
from pathlib import Path

import pytest

from mess.stack.jars import KAFKA_VERSION
from mess.stack.postgres import MAJOR_VERSION
from serving.settings import ServingSettings
from streams.kafka.clients import MAX_REQUEST_BYTES
from streams.worker.app import STOP_SECONDS
from tests.unit.docker.files import DEVELOPMENT, DOCKER, MAIN, NODE, PRODUCTION, Mapping, read_yaml, services

pytestmark = pytest.mark.unit

FILES = pytest.mark.parametrize("path", [PRODUCTION, DEVELOPMENT], ids=lambda path: path.stem)
SERVICES = pytest.mark.parametrize(
    ("path", "name", "service"),
    [
        pytest.param(path, name, service, id=f"{path.stem}-{name}")
        for path in (PRODUCTION, DEVELOPMENT, NODE)
        for name, service in services(path).items()
    ],
)
JOBS = {"setup", "demo", "mess", "client", "test"}
UNITS = {"M": 2**20, "G": 2**30}
MACHINE = 16 * 2**30


def seconds(duration: str) -> int:
    """A duration of compose in seconds."""
    matched = re.fullmatch(r"(\d+)(s|m)", duration)
    assert matched, duration
    return int(matched[1]) * (60 if matched[2] == "m" else 1)


def default(value: str) -> str:
    """A value, of a variable its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def memory(limit: str) -> int:
    """An amount of memory in bytes."""
    limit = default(limit)
    return int(limit[:-1]) * UNITS[limit[-1]]


@SERVICES
def test_each_service_says_when_it_is_restarted(path: Path, name: str, service: Mapping) -> None:
    """What serves is always restarted, a job never."""
    assert service["restart"] == ("no" if name in JOBS else "unless-stopped")


@SERVICES
def test_each_service_rotates_its_log(path: Path, name: str, service: Mapping) -> None:
    """No log can fill the disk: three files of 10 MB."""
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


@SERVICES
def test_each_service_is_limited(path: Path, name: str, service: Mapping) -> None:
    """Processor and memory have a limit, and what is reserved is within it."""
    resources = service["deploy"]["resources"]
    assert 0 < float(default(resources["limits"]["cpus"])) <= 4
    assert memory(resources["reservations"]["memory"]) <= memory(resources["limits"]["memory"])


@SERVICES
def test_each_service_has_a_health_check(path: Path, name: str, service: Mapping) -> None:
    """Docker knows whether what serves is well; a job's end says it."""
    check = service["healthcheck"]
    if name in JOBS:
        assert check == {"disable": True}
    else:
        assert check["test"][0] == "CMD"
        assert seconds(check["timeout"]) <= seconds(check["interval"])


@SERVICES
def test_each_service_has_time_to_stop(path: Path, name: str, service: Mapping) -> None:
    """A stop is not a kill."""
    least = {name: ServingSettings().shutdown_timeout + 5 for name in ("api", "api2")}
    least["worker"] = 2 * STOP_SECONDS
    assert seconds(service["stop_grace_period"]) >= least.get(name, 10)


@SERVICES
def test_each_image_has_a_version_and_can_be_replaced(path: Path, name: str, service: Mapping) -> None:
    """Images are variables with a default, and the default of a foreign one names a version."""
    matched = re.fullmatch(r"\$\{MESS_(?:\w+_)?IMAGE:-([^:}]+):([^}]+)\}", service["image"])
    assert matched, service["image"]
    assert matched[1] == "mess-ai" or re.match(r"v?\d", matched[2])


@SERVICES
def test_what_is_waited_for_is_well_and_not_merely_started(path: Path, name: str, service: Mapping) -> None:
    """Start order is gated by health, or by the success of a job."""
    for needed, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in JOBS else "service_healthy"
        assert how["condition"] == expected, needed


@FILES
def test_worker_and_api_wait_for_migrations_and_topics(path: Path) -> None:
    """Nothing of ours starts before the schema and the topics are there."""
    found = services(path)
    for name in ("worker", "api"):
        assert "setup" in found[name]["depends_on"]
    assert set(found["setup"]["depends_on"]) == {"kafka", "postgres"}
    assert found["setup"]["command"][-1].startswith("mess migrate && mess topics create")


@FILES
def test_the_services_are_those_that_the_local_stack_is_tested_with(path: Path) -> None:
    """Kafka's and Postgres' versions are those of the jars and of the embedded server."""
    found = services(path)
    assert f"apache/kafka:{KAFKA_VERSION}" in found["kafka"]["image"]
    assert f"postgres:{MAJOR_VERSION}" in found["postgres"]["image"]
    assert int(found["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"]) >= MAX_REQUEST_BYTES


@FILES
def test_every_volume_network_and_secret_is_declared(path: Path) -> None:
    """What services name exists."""
    model = read_yaml(path)
    for service in model["services"].values():
        for volume in service.get("volumes", []):
            source = default(volume).split(":")[0]
            if source.startswith("./"):
                assert (DOCKER / source).exists(), source
            elif not source.startswith("/"):
                assert source in model["volumes"], source
        assert set(service.get("networks", [])) <= set(model.get("networks", {}))
        assert set(service.get("secrets", [])) <= set(model.get("secrets", {}))


def published(service: Mapping) -> list[str]:
    """The host addresses that a service's ports are published on, of variables their defaults."""
    return [default(port).split(":")[0] for port in service.get("ports", [])]


def test_production_publishes_the_api_alone_and_grafana_on_loopback() -> None:
    """Kafka, Postgres, workers and Prometheus cannot be reached from outside; Caddy only where it is asked for."""
    found = {name: published(service) for name, service in services(PRODUCTION).items()}
    assert {name: addresses for name, addresses in found.items() if addresses} == {
        "api": ["0.0.0.0"],
        "grafana": ["127.0.0.1"],
        "caddy": ["0.0.0.0", "0.0.0.0"],
    }
    assert services(PRODUCTION)["caddy"]["profiles"] == ["tls"]


def test_development_publishes_on_loopback_alone() -> None:
    """Passwords that everybody knows are of no use from outside."""
    addresses = {address for service in services(DEVELOPMENT).values() for address in published(service)}
    assert addresses == {"127.0.0.1"}


def test_kafka_and_postgres_have_a_network_without_a_way_out() -> None:
    """In production they are in one internal network and in no other; what may have to reach others is in a second one."""
    model = read_yaml(PRODUCTION)
    assert model["networks"]["data"] == {"internal": True}
    for name in ("kafka", "postgres"):
        assert model["services"][name]["networks"] == ["data"], name
    for name in ("worker", "setup", "mess", "client"):
        assert model["services"][name]["networks"] == ["data", "out"], name


def test_a_way_out_is_another_network_than_none() -> None:
    """Compose would leave a network that is there as it is, or cut off what runs in it."""
    out = read_yaml(PRODUCTION)["networks"]["out"]
    assert out["internal"] == "${MESS_NETWORK_INTERNAL:-true}"
    assert "${MESS_NETWORK_INTERNAL:-true}" in out["name"]
    assert "${COMPOSE_PROJECT_NAME}" in out["name"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_limits_leave_room_on_a_machine_of_16_gib(workers: int) -> None:
    """The limits of memory of all that runs, with one worker or two, leave at least 1.25 GiB; processors are not promised twice.

    A worker of another generation is the second one.
    """
    limits, reserved, processors = 0, 0, 0.0
    for name, service in services(PRODUCTION).items():
        if name in JOBS:
            continue
        count = {"worker": 1, "generation": workers - 1}.get(name, 1)
        resources = service["deploy"]["resources"]
        limits += count * memory(resources["limits"]["memory"])
        reserved += count * memory(resources["reservations"]["memory"])
        processors += count * float(resources["reservations"].get("cpus", 0))
    assert limits <= MACHINE - 1.25 * 2**30
    assert reserved <= 0.6 * MACHINE
    assert processors <= 4


def test_kafka_and_postgres_run_only_where_the_settings_say_so() -> None:
    """Each has a profile, which generated settings turn on, and what waits for it does so only then."""
    found = services(PRODUCTION)
    example = (DOCKER / ".env.production.example").read_text(encoding="utf-8")
    assert "\nCOMPOSE_PROFILES=kafka,postgres\n" in example
    for name in ("kafka", "postgres"):
        assert found[name]["profiles"] == [name]
        assert found["setup"]["depends_on"][name]["required"] is False


def test_every_process_of_ours_sees_the_certificates() -> None:
    """In one place, so that one URL and one path do for all, pg_dump included."""
    for name in ("setup", "worker", "api", "mess", "client"):
        volumes = [default(volume) for volume in services(PRODUCTION)[name]["volumes"]]
        assert "./certificates:/etc/mess/certificates:ro" in volumes, name


def test_production_has_no_secret_in_it() -> None:
    """Passwords come as files: no variable of a service holds one."""
    for name, service in services(PRODUCTION).items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert variable.endswith("_FILE"), (name, variable)
                assert value.startswith("/run/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), (name, variable)


def test_our_processes_run_with_nothing_they_do_not_need() -> None:
    """No capability, no new privilege, a file system that cannot be written, an init that reaps."""
    for name in ("setup", "worker", "api", "mess"):
        service = services(PRODUCTION)[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service["init"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_api_connects_as_the_role_that_only_reads() -> None:
    """In both files."""
    assert "//mess_api@" in services(PRODUCTION)["api"]["environment"]["MESS_DATABASE_URL"]
    assert (
        services(PRODUCTION)["api"]["environment"]["MESS_DATABASE_PASSWORD_FILE"]
        == "/run/secrets/api_password"
    )
    assert "owner_password" not in services(PRODUCTION)["api"]["secrets"]
    assert "//mess_api:" in services(DEVELOPMENT)["api"]["environment"]["MESS_DATABASE_URL"]


def test_a_worker_can_be_scaled() -> None:
    """It has no name, port or volume that two could not share."""
    worker = services(PRODUCTION)["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert all(":" not in volume or volume.endswith(":ro") for volume in worker["volumes"])


def test_development_publishes_the_demo_by_itself() -> None:
    """`docker compose up` needs no further step."""
    demo = services(DEVELOPMENT)["demo"]
    assert demo["command"] == ["mess", "demo", "--wait"]
    assert "profiles" not in demo


def test_a_worker_of_another_generation_is_like_any_other() -> None:
    """Only its generation differs, and Prometheus finds it by the workers' name."""
    found = services(PRODUCTION)
    worker, other = found["worker"], found["generation"]
    assert other["profiles"] == ["generation"]
    named = {"MESS_SPACE": "${MESS_SPACE:-default}", "MESS_GENERATION": "${MESS_GENERATION:-2}"}
    assert other["environment"] == {**worker["environment"], **named}
    assert other["networks"] == {"data": {"aliases": ["worker"]}, "out": None}
    assert other["deploy"] == worker["deploy"]


def test_behind_caddy_there_are_two_apis_that_differ_by_name_alone() -> None:
    """The second is not published, Prometheus finds both by one name, and nothing starts or stops one with the other."""
    found = services(PRODUCTION)
    first, second = found["api"], found["api2"]
    own = {"profiles": ["tls"], "ports": [], "networks": {"data": {"aliases": ["api"]}, "front": None}}
    assert second == {**first, **own}
    assert set(second["networks"]) == set(first["networks"])
    for name, service in found.items():
        assert not {"api", "api2"} & set(service.get("depends_on", {})), name
    assert "{$MESS_API_ADDRESSES:api:8000 api2:8000}" in (DOCKER / "caddy" / "Caddyfile").read_text("utf-8")


def test_a_worker_on_another_machine_is_like_any_other() -> None:
    """It differs by what it reaches, and by where it is reached: at the URL that it tells, on the private address alone."""
    worker, node = services(PRODUCTION)["worker"], services(NODE)["worker"]
    assert services(NODE).keys() == {"worker"}
    elsewhere = {"environment", "networks", "depends_on", "ports"}
    assert {k: v for k, v in node.items() if k not in elsewhere} == {
        k: v for k, v in worker.items() if k not in elsewhere
    }
    reached, own = node["environment"], worker["environment"]
    differs = {name for name in reached.keys() | own.keys() if reached.get(name) != own.get(name)}
    assert differs == {"MESS_DATABASE_URL", "MESS_WORKER_URL"} | {
        f"MESS_KAFKA_{name}"
        for name in ("BOOTSTRAP_SERVERS", "SECURITY_PROTOCOL", "SSL_CAFILE", "SSL_CERTFILE", "SSL_KEYFILE")
    }
    assert reached["MESS_WORKER_URL"] == "http://${MESS_NODE_ADDRESS:?}:8001"
    assert node["ports"] == ["${MESS_NODE_ADDRESS:?}:8001:8001"]


def test_what_other_machines_reach_is_encrypted() -> None:
    """Kafka's listener asks for a certificate, Postgres for TLS; both are on the private address, in a network with no way out."""
    model = read_yaml(MAIN)
    kafka, postgres = model["services"]["kafka"], model["services"]["postgres"]
    own = services(PRODUCTION)["kafka"]["environment"]
    for name in ("LISTENERS", "ADVERTISED_LISTENERS", "LISTENER_SECURITY_PROTOCOL_MAP"):
        before, _, nodes = kafka["environment"][f"KAFKA_{name}"].rpartition(",NODES:")
        assert before == own[f"KAFKA_{name}"]
        assert nodes.endswith(":9094") or nodes == "SSL"
    assert kafka["environment"]["KAFKA_LISTENER_NAME_NODES_SSL_CLIENT_AUTH"] == "required"
    for service in (kafka, postgres):
        assert [re.sub(r":\d+:\d+$", "", port) for port in service["ports"]] == ["${MESS_MAIN_ADDRESS:?}"]
        assert service["networks"] == ["data", "nodes"]
    assert "-cssl=on" in postgres["entrypoint"][2]
    rules = [line.split() for line in (DOCKER / "postgres" / "pg_hba.conf").read_text("utf-8").splitlines()]
    assert [rule for rule in rules if rule[0] != "#"] == [
        ["local", "all", "all", "trust"],
        ["host", "all", "all", "samenet", "scram-sha-256"],
        ["hostssl", "mess", "mess", "all", "scram-sha-256"],
    ]
