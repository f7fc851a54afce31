#!/usr/bin/env bash
# Tries the stack for real: run.sh [--keep] [STEP...], the steps of check.py. Needs root, a running Docker engine with
# compose 2.24 or later, restic, and the repository's virtual environment. Takes half an hour on two cores, and 6 GiB of
# memory.
#
# Builds, deploys as on EC2, publishes the demo, kills, restarts and replaces services under load, backs up, restores,
# compares, rolls back, tries who may get in and the development file, and takes everything down. It listens on loopback
# alone. Where no base image can be pulled it makes them (bases.sh).
#
#   MESS_TEST_LOCAL=yes     never pull: stand-ins from bases.sh
#   MESS_BUILD_OPTIONS      further options of `docker build`, e.g. secrets for pip
#   MESS_TEST_PORT          of the API, 18080 by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

keep=no
if [ "${1:-}" = --keep ]; then
  keep=yes
  shift
fi
docker info >/dev/null || { echo "no Docker engine answers" >&2; exit 1; }
docker compose version >/dev/null || { echo "docker compose is missing" >&2; exit 1; }
command -v restic >/dev/null || { echo "restic is missing: apt-get install restic" >&2; exit 1; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/mess-docker-test.XXXXXX")
export COMPOSE_PROJECT_NAME=mess-test
export MESS_ENV_FILE=$scratch/env MESS_SECRETS_DIR=$scratch/secrets MESS_STATE_DIR=$scratch/state
export MESS_LOCK_FILE=$scratch/lock MESS_TEST_SCRATCH=$scratch MESS_READY_SECONDS=${MESS_READY_SECONDS:-300}

# shellcheck disable=SC2329 # called at the end
down() {
  if [ "$keep" = yes ]; then
    echo "kept: project mess-test, settings in $scratch"
    return
  fi
  docker compose --env-file "$MESS_ENV_FILE" --file docker/docker-compose.prod.yml --profile '*' down --volumes \
    --remove-orphans --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap down EXIT

docker/production-env.sh generate "$MESS_ENV_FILE"
sed -i -E "s/^MESS_API_BIND=.*/MESS_API_BIND=127.0.0.1/; s/^MESS_API_PORT=.*/MESS_API_PORT=${MESS_TEST_PORT:-18080}/
  s/^MESS_GRAFANA_PORT=.*/MESS_GRAFANA_PORT=13000/; s/^MESS_WORKER_CPUS=.*/MESS_WORKER_CPUS=2/" "$MESS_ENV_FILE"
if [ "${MESS_TEST_LOCAL:-}" = yes ] || ! docker pull --quiet postgres:18 >/dev/null 2>&1; then
  docker/test/bases.sh
  for name in kafka postgres prometheus caddy; do
    echo "MESS_${name^^}_IMAGE=mess-base/$name"
  done >>"$MESS_ENV_FILE"
  export MESS_BUILD_OPTIONS="${MESS_BUILD_OPTIONS:-} --build-arg PYTHON_IMAGE=mess-base/python"
  export MESS_COMPOSE_FILES=$PWD/docker/test/local.yml
fi
"${PYTHON:-.venv/bin/python}" docker/test/check.py "$@"
