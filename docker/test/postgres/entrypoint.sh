#!/bin/bash
# Makes the database the first time, runs what is in /docker-entrypoint-initdb.d, and becomes the server.
set -euo pipefail

if [ "$(id -u)" -eq 0 ]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  chown postgres:postgres /var/lib/postgresql "$(dirname "$PGDATA")"
  exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=${POSTGRES_PASSWORD:-$(cat "$POSTGRES_PASSWORD_FILE")}
  # shellcheck disable=SC2086 # options, separated by spaces
  initdb --username postgres --pwfile <(printf '%s\n' "$password") --auth-local trust \
    ${POSTGRES_INITDB_ARGS:-} >/dev/null
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl --silent --wait --options "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" start
  export PGHOST=/var/run/postgresql
  for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
  pg_ctl --silent --wait --mode fast stop
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
