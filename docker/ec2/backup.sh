#!/usr/bin/env bash
# Backs up: backup.sh DIR makes DIR/mess-TIME/ with a dump of Postgres and copies of the topics, whoever runs the two.
#
# Either of the two rebuilds every list: the dump at once, the copy of track-ingest by computing them again. With
# MESS_BACKUP_KEEP=N only the newest N backups of DIR are kept. Nothing is stopped.
set -euo pipefail
# shellcheck source=docker/ec2/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Compacted or kept for a month: what the lists and popularity are computed from.
readonly TOPICS=(track-ingest track-interactions)

target=${1:?usage: backup.sh DIR}
take_lock
"$DOCKER_DIR/production-env.sh" secrets "$ENV_FILE" "$MESS_SECRETS_DIR"
MESS_IMAGE=$(cat "$STATE_DIR/current" 2>/dev/null || setting MESS_IMAGE mess-ai:latest)
export MESS_IMAGE
name=mess-$(date -u +%Y%m%dT%H%M%SZ)
install -d -m 700 "$target" "$target/.$name.partial"
trap 'rm -rf "$target/.$name.partial"' EXIT

say "dumping Postgres"
client pg_dump --format custom --compress 6 </dev/null \
  >"$target/.$name.partial/postgres.dump"
for topic in "${TOPICS[@]}"; do
  say "copying $topic"
  compose run --rm --no-deps -T mess topics dump "$topic" </dev/null | gzip -6 >"$target/.$name.partial/$topic.jsonl.gz"
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
say "done in $SECONDS s"
du -sh "$target/$name" | sed 's/\t/  /'
