# What deploy.sh, backup.sh and restore.sh share. Sourced, never run.
# shellcheck shell=bash

DOCKER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPOSITORY=$(dirname "$DOCKER_DIR")
ENV_FILE=${MESS_ENV_FILE:-$DOCKER_DIR/.env.production}
STATE_DIR=${MESS_STATE_DIR:-/var/lib/mess-ai}
LOCK_FILE=${MESS_LOCK_FILE:-/run/lock/mess-ai.lock}
export MESS_SECRETS_DIR=${MESS_SECRETS_DIR:-$DOCKER_DIR/secrets}
export REPOSITORY STATE_DIR

say() { printf '%s  %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }

die() {
  printf 'mess: %s\n' "$*" >&2
  exit 1
}

# One deployment, backup or restore at a time on a machine.
take_lock() {
  mkdir -p "$(dirname "$LOCK_FILE")"
  exec 9>>"$LOCK_FILE"
  if ! flock --nonblock 9; then
    die "another run holds $LOCK_FILE ($(tail -n 1 "$LOCK_FILE")): wait for it"
  fi
  # What runs now: for whoever is refused. Emptied through the descriptor, as the lock is on the file.
  : >"$LOCK_FILE"
  echo "$(basename "$0"), process $$, since $(date -u +%FT%TZ)" >&9
}

# MESS_COMPOSE_FILES, in the settings or the environment, names further files, separated by colons: overrides. They are
# relative to the root of the repository.
compose() {
  local files=(--file "$DOCKER_DIR/docker-compose.prod.yml") file
  local IFS=:
  for file in ${MESS_COMPOSE_FILES-$(setting MESS_COMPOSE_FILES)}; do
    case $file in
      '') ;;
      /*) files+=(--file "$file") ;;
      *) files+=(--file "$REPOSITORY/$file") ;;
    esac
  done
  docker compose --env-file "$ENV_FILE" "${files[@]}" "$@" 9>&-
}

# The last value of NAME in the settings, or a default.
setting() {
  local value
  value=$(sed -n "s/^$1=//p" "$ENV_FILE" | tail -n 1)
  printf '%s' "${value:-${2:-}}"
}

url_of_api() {
  local address
  address=$(setting MESS_API_BIND 0.0.0.0)
  if [ "$address" = 0.0.0.0 ]; then address=127.0.0.1; fi
  printf 'http://%s:%s' "$address" "$(setting MESS_API_PORT 8000)"
}

# Waits until the API can answer reads; fails after MESS_READY_SECONDS.
wait_ready() {
  local url deadline=$((SECONDS + ${MESS_READY_SECONDS:-240}))
  url=$(url_of_api)/health/ready
  until curl --silent --fail --max-time 5 --output /dev/null "$url" 9>&-; do
    if ((SECONDS >= deadline)); then return 1; fi
    sleep 1 9>&-
  done
}

# Whether compose runs Kafka, Postgres or Caddy here; production-env.sh sees to it that others run the first two where it
# does not.
runs_here() { # kafka|postgres|tls
  [[ ,${COMPOSE_PROFILES:-$(setting COMPOSE_PROFILES)}, == *,$1,* ]]
}

# Dies where Postgres is logged in to by IAM, which pg_dump and pg_restore do not know.
require_password_login() {
  if grep -qs '^MESS_DATABASE_IAM_REGION=.' "$DOCKER_DIR/settings.env"; then
    die "MESS_DATABASE_IAM_REGION is set, and backups log in by password: use the provider's snapshots, or a role without rds_iam; nothing was done"
  fi
}

# pg_dump, pg_restore or psql as the schema's owner, on the database of the settings.
client() { compose run --rm --no-deps -T client "$@"; }

sql() { # STATEMENTS
  client psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 <<<"$1"
}

# restic on the repository of the settings. Its locks of killed runs are no hindrance: take_lock has seen to that.
repository() {
  RESTIC_REPOSITORY=$(setting MESS_BACKUP_REPOSITORY) RESTIC_PASSWORD_FILE=$MESS_SECRETS_DIR/backup_password \
    restic --cache-dir "$STATE_DIR/restic" "$@" 9>&-
}

require_repository() {
  [ -n "$(setting MESS_BACKUP_REPOSITORY)" ] || die "MESS_BACKUP_REPOSITORY is not set in $ENV_FILE"
  command -v restic >/dev/null || die "restic is missing: apt-get install restic"
  mkdir -p "$STATE_DIR"
}
