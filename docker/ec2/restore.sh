#!/usr/bin/env bash
# Restores a backup into an empty stack, and starts it: restore.sh [--from postgres|topics|both] BACKUP
#
#   postgres  tracks, lists, offsets and interactions as they were; the topics start empty
#   topics    tracks and interactions are read again and every list is computed again
#   both      the dump first, which serves at once; then the topics, so that the log is there again, too
#
# The stack may not hold anything yet: neither tracks in Postgres nor messages in the topics.
set -euo pipefail
# shellcheck source=docker/ec2/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

from=both
if [ "${1:-}" = --from ]; then
  from=${2:?usage: restore.sh [--from postgres|topics|both] BACKUP}
  shift 2
fi
backup=${1:?usage: restore.sh [--from postgres|topics|both] BACKUP}
case $from in postgres | topics | both) ;; *) die "--from $from: postgres, topics or both" ;; esac
require_own_database "restore it where it runs, with pg_restore or its provider's snapshots; nothing was changed"
[ -f "$backup/SHA256SUMS" ] || die "$backup is no backup: it has no SHA256SUMS"
(cd "$backup" && sha256sum --check --quiet --strict SHA256SUMS >&2) || die "$backup is damaged"

take_lock
"$DOCKER_DIR/production-env.sh" secrets "$ENV_FILE" "$MESS_SECRETS_DIR"
MESS_IMAGE=${MESS_IMAGE:-$(cat "$STATE_DIR/current" 2>/dev/null || setting MESS_IMAGE mess-ai:latest)}
export MESS_IMAGE
workers=$(setting MESS_WORKERS 1)

restore_postgres() {
  say "restoring Postgres"
  compose up --detach --wait postgres >&2
  if [ -n "$(psql_as_admin mess <<<"SELECT 1 FROM pg_tables WHERE schemaname = 'public' AND tablename = 'tracks'")" ] &&
    [ "$(psql_as_admin mess <<<"SELECT count(*) FROM tracks")" != 0 ]; then
    die "the database holds tracks already; a restore needs an empty one"
  fi
  # The schema as the backup has it, then the version's own migrations.
  psql_as_admin postgres <<<"DROP DATABASE mess WITH (FORCE); CREATE DATABASE mess OWNER mess;
    REVOKE CONNECT, TEMPORARY ON DATABASE mess FROM PUBLIC; GRANT CONNECT ON DATABASE mess TO mess_api" >&2
  compose exec -T postgres pg_restore --username postgres --dbname mess --exit-on-error <"$backup/postgres.dump"
}

# A worker that finds the log shorter than the store's offsets knows that it is another one. So it has to have looked
# before the topics are filled.
wait_for_worker() {
  say "waiting for the worker to take the empty log"
  local deadline=$((SECONDS + ${MESS_READY_SECONDS:-240}))
  until [ "$(psql_as_admin mess <<<"SELECT count(*) FROM ingest_partitions WHERE consumed_offset > 0")" = 0 ]; do
    if ((SECONDS >= deadline)); then die "no worker has taken the partitions: compose logs worker"; fi
    sleep 1 9>&-
  done
}

restore_topics() {
  local copy topic
  for copy in "$backup"/*.jsonl.gz; do
    topic=$(basename "$copy" .jsonl.gz)
    say "writing $topic"
    gzip -dc "$copy" | compose run --rm --no-deps -T mess topics load "$topic" -
  done
}

if [ "$from" != topics ]; then restore_postgres; fi
say "starting the stack"
compose up --detach --scale "worker=$workers" >&2
wait_ready || die "the API is not ready: compose logs setup api"
if [ "$from" = both ]; then wait_for_worker; fi
if [ "$from" != postgres ]; then restore_topics; fi
say "done in $SECONDS s; the lists follow: $(url_of_api)/health/detailed"
