#!/usr/bin/env bash
# Runs a command with a Docker engine of its own, for machines that have none and no init system to run one:
#
#   docker/test/with-engine.sh docker/test/run.sh
#
# As root, on Debian. The engine is Debian's docker.io, started by hand on a socket of its own, its data in
# MESS_ENGINE_DIR (/tmp/mess-engine by default), which is kept for the next time: rm -rf it when done. Compose, which
# Debian 12 has as version 1 alone, is built from its Go module; that takes Go and five minutes, once.
set -euo pipefail

readonly COMPOSE_VERSION=v2.40.3
directory=${MESS_ENGINE_DIR:-/tmp/mess-engine}
mkdir -p "$directory/config/cli-plugins" "$directory/compose"
export DOCKER_HOST=unix://$directory/socket DOCKER_CONFIG=$directory/config

if [ ! -x /usr/sbin/dockerd ] || ! command -v debootstrap >/dev/null || ! command -v iptables >/dev/null; then
  # The packages would start the engine: the policy says no, unless somebody has one already.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io debootstrap iptables >/dev/null
  if [ -n "$(trap -p EXIT)" ]; then
    rm -f "$policy"
    trap - EXIT
  fi
fi
# Debian's own client: another one in the PATH may lack what its engine has built in.
PATH=/usr/sbin:/usr/bin:$PATH

plugin=$DOCKER_CONFIG/cli-plugins/docker-compose
if [ ! -x "$plugin" ]; then
  echo "building docker compose $COMPOSE_VERSION"
  (
    cd "$directory/compose"
    [ -e go.mod ] || go mod init compose-build >/dev/null 2>&1
    go get "github.com/docker/compose/v2/cmd@$COMPOSE_VERSION" >/dev/null 2>&1
    go build -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$COMPOSE_VERSION" -o "$plugin.new" \
      github.com/docker/compose/v2/cmd
  )
  mv "$plugin.new" "$plugin"
fi

dockerd --host "$DOCKER_HOST" --data-root "$directory/data" --exec-root "$directory/exec" --pidfile "$directory/pid" \
  >"$directory/dockerd.log" 2>&1 &
engine=$!
# shellcheck disable=SC2329 # called at the end
stop() {
  docker ps --quiet | xargs --no-run-if-empty docker stop --time 5 >/dev/null || true
  kill "$engine" 2>/dev/null || true
  wait "$engine" || true
}
trap stop EXIT
for _ in $(seq 60); do
  if docker info >/dev/null 2>&1; then break; fi
  kill -0 "$engine" || { tail -n 5 "$directory/dockerd.log" >&2; exit 1; }
  sleep 1
done
"$@"
