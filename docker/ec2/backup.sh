#!/usr/bin/env bash
# Backs up: backup.sh DIR makes DIR/mess-TIME/ with a dump of Postgres and copies of the topics, whoever runs the two.
#
# Either of the two rebuilds every list: the dump at once, the copy of track-ingest, and of each generation's topic those of it,
# by computing them again. With
# MESS_BACKUP_KEEP=N only the newest N backups of DIR are kept. Nothing is stopped.
#
# With MESS_BACKUP_REPOSITORY in the settings, the backup is sent there, too, encrypted, and old ones are removed there by
# MESS_BACKUP_RETENTION. `backup.sh --list` tells what is there.
set -euo pipefail
# shellcheck source=docker/ec2/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

target=${1:?usage: backup.sh DIR, or backup.sh --list}
require_password_login
take_lock
"$DOCKER_DIR/production-env.sh" secrets "$ENV_FILE" "$MESS_SECRETS_DIR"
if [ "$target" = --list ]; then
  require_repository
  repository snapshots --compact
  exit
fi
if [ -n "$(setting MESS_BACKUP_REPOSITORY)" ]; then require_repository; fi
MESS_IMAGE=$(cat "$STATE_DIR/current" 2>/dev/null || setting MESS_IMAGE mess-ai:latest)
export MESS_IMAGE
name=mess-$(date -u +%Y%m%dT%H%M%SZ)
install -d -m 700 "$target" "$target/.$name.partial"
trap 'rm -rf "$target/.$name.partial"' EXIT

say "dumping Postgres"
client pg_dump --format custom --compress 6 </dev/null \
  >"$target/.$name.partial/postgres.dump"
# Compacted or kept for a month: what the lists and popularity are computed from.
own=$(compose run --rm --no-deps -T mess spaces list --topics </dev/null) || die "the generations cannot be listed"
for topic in track-ingest track-interactions $own; do
  say "copying $topic"
  compose run --rm --no-deps -T mess topics dump "$topic" </dev/null | gzip -6 --rsyncable \
    >"$target/.$name.partial/$topic.jsonl.gz"
done
(cd "$target/.$name.partial" && sha256sum -- * >SHA256SUMS)
# It has its name only when it is whole.
sync "$target/.$name.partial"/*
mv "$target/.$name.partial" "$target/$name"
trap - EXIT

if [ -n "${MESS_BACKUP_KEEP:-}" ]; then
  find "$target" -mindepth 1 -maxdepth 1 -type d -name 'mess-*Z' | sort | head -n "-$MESS_BACKUP_KEEP" |
    while IFS= read -r old; do rm -rf -- "$old"; done
fi
open_repository() {
  local said
  if said=$(repository cat config 2>&1 >/dev/null); then return; fi
  case $said in
    *"Is there a repository at"*) repository init >&2 ;; # or says why that cannot be
    *) echo "$said" >&2 && return 1 ;;
  esac
}

# Called where failures are asked for, so each is passed on.
send() {
  open_repository && (cd "$target/$name" && repository backup --quiet --host mess --tag "$name" .) >&2
}

forget_old() {
  local -a kept
  read -ra kept <<<"$(setting MESS_BACKUP_RETENTION "--keep-daily 7 --keep-weekly 5 --keep-monthly 12")"
  repository unlock --quiet >&2 && repository forget --quiet --host mess --group-by host --prune "${kept[@]}" >&2
}

where=$(setting MESS_BACKUP_REPOSITORY)
if [ -n "$where" ]; then
  say "sending it to $where"
  send || die "$target/$name is whole, and was not sent: restic says above why"
  forget_old || die "$target/$name was sent, and old ones were not removed: restic says above why"
fi
say "done in $SECONDS s"
du -sh "$target/$name" | sed 's/\t/  /'
