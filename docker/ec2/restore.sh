#!/usr/bin/env bash
# Restores a backup into an empty stack, and starts it: restore.sh [--from postgres|topics|both] BACKUP
#
#   postgres  tracks, lists, offsets and interactions as they were; the topics start empty
#   topics    tracks and interactions are read again and every list is computed again; further generations are not there
#   both      the dump first, which serves at once; then the topics, so that the log is there again, too
#
# BACKUP is a directory that backup.sh has made, or repository:latest or repository:ID for one that it has sent away.
# Neither may hold anything yet, whoever runs them: no tracks in Postgres, no messages in the topics.
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

require_password_login
take_lock
"$DOCKER_DIR/production-env.sh" secrets "$ENV_FILE" "$MESS_SECRETS_DIR"
if [[ $backup == repository:* ]]; then
  require_repository
  fetched=$STATE_DIR/fetched
  rm -rf "$fetched"
  trap 'rm -rf "$fetched"' EXIT
  install -d -m 700 "$fetched"
  say "fetching ${backup#repository:} from $(setting MESS_BACKUP_REPOSITORY)"
  repository restore "${backup#repository:}" --host mess --target "$fetched" >&2 || die "it cannot be fetched: restic says above why"
  backup=$fetched
fi
[ -f "$backup/SHA256SUMS" ] || die "$backup is no backup: it has no SHA256SUMS"
(cd "$backup" && sha256sum --check --quiet --strict SHA256SUMS >&2) || die "$backup is damaged"

MESS_IMAGE=${MESS_IMAGE:-$(cat "$STATE_DIR/current" 2>/dev/null || setting MESS_IMAGE mess-ai:latest)}
export MESS_IMAGE
workers=$(setting MESS_WORKERS 1)

restore_postgres() {
  local tracks
  say "restoring Postgres"
  if runs_here postgres; then compose up --detach --wait postgres >&2; fi
  tracks=$(sql "SELECT to_regclass('tracks')") || die "Postgres does not answer: nothing was changed"
  if [ -n "$tracks" ] && [ "$(sql "SELECT count(*) FROM tracks")" != 0 ]; then
    die "the database holds tracks already; a restore needs an empty one"
  fi
  # The schema as the backup has it; the version's own migrations follow at the start.
  if [ -n "$tracks" ]; then compose run --rm --no-deps -T mess migrate --down-to base </dev/null >&2; fi
  client pg_restore --clean --if-exists --exit-on-error --no-comments <"$backup/postgres.dump"
}

# A worker that finds the log shorter than the store's offsets knows that it is another one. So it has to have looked
# before the topics are filled.
wait_for_worker() {
  say "waiting for the worker to take the empty log"
  local deadline=$((SECONDS + ${MESS_READY_SECONDS:-240}))
  until [ "$(sql "SELECT count(*) FROM ingest_partitions WHERE consumed_offset > 0")" = 0 ]; do
    if ((SECONDS >= deadline)); then die "no worker has taken the partitions: compose logs worker"; fi
    sleep 1 9>&-
  done
}

restore_topics() {
  local copy topic
  for copy in "$backup"/*.jsonl.gz; do
    topic=$(basename "$copy" .jsonl.gz)
    if [[ $from = topics && $topic == track-embeddings.* ]]; then
      say "passing over $topic: mess spaces create, then mess topics load the copy into the topic that it names"
      continue
    fi
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
