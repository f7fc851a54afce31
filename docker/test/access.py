# ruff: noqa: INP001 -- a script that runs commands and tells what they do
"""Steps: who is let in, and what operators see."""

import datetime
import json
import os
from typing import Any

from stack import (
    PUBLIC,
    ROOT,
    Wrong,
    compose,
    from_prometheus,
    get,
    logged,
    mess,
    publish_one,
    require,
    run,
    say,
    setting,
    until,
)


def letters() -> list[Any]:
    """The dead letters that nothing was done about."""
    return [
        json.loads(line) for line in mess("dead-letters", "list", "--json").splitlines() if line[:1] == "{"
    ]


def tell_operators() -> None:
    """A wrong event and one from the future: what the commands, the log and the metrics say of them."""
    wrong = {"track_id": "wrong/dimension", "embedding": [1.0, 2.0], "metadata": {}}
    mess("publish", "-", "--dimension", "2", given=json.dumps(wrong) + "\n")
    until("the dead letter is there", letters, 60)
    say("dead letters:\n" + mess("dead-letters", "list").rstrip())
    [letter] = letters()
    require(letter["reason"] == "wrong_aspects", str(letter))
    require("wrong/dimension" in mess("dead-letters", "show", letter["place"]), "the letter cannot be shown")
    mess("dead-letters", "replay", letter["place"])
    until("it is refused again", lambda: letters() and letters() != [letter], 60)
    mess("dead-letters", "drop", "--all", "--yes")
    require(not letters(), "the letters were not dropped")

    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    publish_one("from/the-future", event_time=later.isoformat())
    found = "events are ahead of this machine's clock"
    until("the worker tells of it", lambda: logged("worker", found), 30)
    query = "query?query=sum(mess_future_events_total)"
    until("the metric moves", lambda: '"1"' in from_prometheus(query), 60)
    say("an event from the future: " + logged("worker", found))
    said = compose("run", "--rm", "-T", "--no-deps", "mess", "check-env", "--production", "--connect")
    say("check-env says:\n" + said.rstrip())


def ask_for_passwords() -> None:
    """With SASL on the stack's own Kafka everything goes on, and who has no password is refused."""
    setting("MESS_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    setting("MESS_KAFKA_SASL_USERNAME", "mess")
    setting("MESS_KAFKA_PASSWORD", "0f9e8d7c6b5a49382716")
    files = os.environ.get("MESS_COMPOSE_FILES", "")
    os.environ["MESS_COMPOSE_FILES"] = f"{files}:{ROOT}/docker/docker-compose.sasl.yml"
    run("docker/ec2/deploy.sh")
    publish_one("after/sasl")
    try:
        plain = "MESS_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"
        said = compose("run", "--rm", "-T", "--no-deps", "-e", plain, "mess", "topics", "check")
    except Wrong:
        say("with SASL a client without a password is refused, the others go on")
    else:
        raise Wrong(f"a client without a password was let in: {said}")


def stand_in_front() -> None:
    """TLS in front of an API that asks for keys: with one in, without it not, too often not, revoked not."""
    setting("COMPOSE_PROFILES", "kafka,postgres,tls")
    setting("MESS_DOMAIN", "localhost")
    setting("MESS_TLS_BIND", "127.0.0.1")
    setting("MESS_API_TRUSTED_PROXIES", "172.16.0.0/12")
    setting("MESS_API_REQUIRE_KEYS", "true")
    require(f"public     {PUBLIC}/" in run("docker/ec2/deploy.sh"), "the public address is not told")
    path = "/recommend/bach%2Fbwv66.6?top_k=3"
    until("Caddy passes requests on", lambda: get(path, url=PUBLIC)[0] == 401, 60)
    key = compose(
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "--quiet-pull",
        "mess",
        "keys",
        "create",
        "trial",
        "--rate",
        "20/minute",
    )
    key = next(word for word in key.split() if word.startswith("mess_"))
    until("the key is known", lambda: get(path, url=PUBLIC, Authorization=f"Bearer {key}")[0] == 200, 30)
    for hidden in ("/metrics", "/health/detailed"):
        require(get(hidden, url=PUBLIC)[0] == 404, f"{hidden} is passed on")
    answers = [get(path, url=PUBLIC, X_API_Key=key)[0] for _ in range(25)]
    require(set(answers) == {200, 429}, f"25 requests at 20/minute: {answers}")
    mess("keys", "revoke", key.split("_")[1], "--yes")
    until("the key is of no use", lambda: get(path, url=PUBLIC, X_API_Key=key)[0] == 401, 30)
    say("behind TLS a key opens, none is 401, too many are 429, revoked is 401; metrics are not passed on")
