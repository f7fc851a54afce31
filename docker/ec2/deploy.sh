#!/usr/bin/env bash
# Brings this machine to the version of this checkout, or of MESS_IMAGE; run it as often as you like, as root.
#
# Installs the engine if there is none, mounts MESS_DATA_DEVICE for the data (formats it only when it is empty), builds or
# pulls the image, migrates, starts, waits for /health/ready, and goes back to the image before if that is not reached.
#
#   MESS_ENV_FILE       settings, docker/.env.production by default
#   MESS_DATA_DEVICE    a block device for Docker's volumes, e.g. /dev/nvme1n1; none: they stay on the root disk
#   MESS_IMAGE          an image to pull; none: built from this checkout
#   MESS_READY_SECONDS  how long the API may take, 240 by default
#   MESS_BUILD_OPTIONS  further options of `docker build`
set -euo pipefail
# shellcheck source=docker/ec2/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly VOLUMES_DIR=${MESS_VOLUMES_DIR:-/var/lib/docker/volumes}

check_machine() {
  [ "$(id -u)" -eq 0 ] || die "deploy.sh needs root: sudo $0"
  case $(uname -m) in
    x86_64 | aarch64) ;;
    *) die "this is a machine of architecture $(uname -m); images are for x86_64 and aarch64" ;;
  esac
}

install_engine() {
  if command -v docker >/dev/null && docker compose version >/dev/null 2>&1; then return; fi
  command -v apt-get >/dev/null || die "no Docker with compose here, and no apt-get to install it with: install both by hand"
  say "installing Docker and compose"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends ca-certificates curl docker.io git
  docker compose version >/dev/null 2>&1 ||
    # Ubuntu's name, and Debian's since release 13.
    apt-get install -y -qq --no-install-recommends docker-compose-v2 docker-buildx ||
    apt-get install -y -qq --no-install-recommends docker-compose docker-buildx
  docker compose version >/dev/null 2>&1 || die "docker compose is version 1 here, or missing: install version 2.24 or later"
}

# Docker's volumes on a device of their own: they outlive the instance, images need not.
mount_data() {
  local device=${MESS_DATA_DEVICE:-} kind
  if [ -z "$device" ]; then return; fi
  if mountpoint -q "$VOLUMES_DIR"; then return; fi
  [ -b "$device" ] || die "$device is no block device: see lsblk"
  if [ -n "$(docker ps --quiet 2>/dev/null)" ]; then
    die "containers run on the volumes that $device is to hold: stop them, and move $VOLUMES_DIR by hand"
  fi
  if [ -n "$(lsblk --noheadings --output PARTTYPE "$device" | tr -d ' \n')" ]; then
    die "$device has partitions: name the one to use, or empty it"
  fi
  kind=$(blkid --probe --output value --match-tag TYPE "$device" || true)
  if [ -z "$kind" ]; then
    say "formatting $device, which is empty"
    mkfs.ext4 -q -L mess-data "$device"
  fi
  systemctl stop docker.socket docker 2>/dev/null || true
  if [ -n "$(find "$VOLUMES_DIR" -mindepth 1 -maxdepth 1 -type d 2>/dev/null)" ]; then
    die "there are volumes in $VOLUMES_DIR already; mounting $device there would hide them: move them first"
  fi
  install -d -m 701 "$VOLUMES_DIR"
  kind=$(blkid --probe --output value --match-tag UUID "$device")
  grep -q "$kind" /etc/fstab ||
    echo "UUID=$kind $VOLUMES_DIR auto defaults,nofail,x-systemd.before=docker.service 0 2" >>/etc/fstab
  mount "$VOLUMES_DIR"
  say "$device holds Docker's volumes"
}

start_engine() {
  if docker info >/dev/null 2>&1; then return; fi
  say "starting Docker"
  systemctl enable --now docker
  docker info >/dev/null || die "Docker does not start: journalctl -u docker"
}

# Prints the name of the image to deploy.
get_image() {
  local image=${MESS_IMAGE:-$(setting MESS_IMAGE)} revision architecture
  if [ -n "$image" ]; then
    if ! docker image inspect "$image" >/dev/null 2>&1 || [ "${image##*:}" = latest ]; then
      say "pulling $image"
      docker pull --quiet "$image" >/dev/null || die "$image cannot be pulled; what runs goes on as it is"
    fi
  else
    revision=$(git -C "$REPOSITORY" describe --always --dirty 2>/dev/null || date -u +%Y%m%d%H%M%S)
    image=mess-ai:$revision
    if [[ $revision == *-dirty ]] || ! docker image inspect "$image" >/dev/null 2>&1; then
      say "building $image; ten minutes the first time"
      # shellcheck disable=SC2086 # options, separated by spaces
      DOCKER_BUILDKIT=1 docker build --quiet --file "$DOCKER_DIR/Dockerfile" --target production --tag "$image" \
        --build-arg "REVISION=$revision" --build-arg "CREATED=$(date -u +%FT%TZ)" ${MESS_BUILD_OPTIONS:-} \
        "$REPOSITORY" >/dev/null || die "the image cannot be built; what runs goes on as it is"
    fi
  fi
  architecture=$(docker image inspect --format '{{.Architecture}}' "$image")
  case $architecture:$(uname -m) in
    amd64:x86_64 | arm64:aarch64) ;;
    *) die "$image is for $architecture, this machine is $(uname -m): build it here, or push one for both" ;;
  esac
  printf '%s' "$image"
}

remember() { # NAME VALUE, in one step
  echo "$2" >"$STATE_DIR/.$1.new"
  mv "$STATE_DIR/.$1.new" "$STATE_DIR/$1"
}

recall() { cat "$STATE_DIR/$1" 2>/dev/null || true; }

# Of whichever database the settings name; nothing where there is none yet.
schema_revision() { # IMAGE
  MESS_IMAGE=$1 compose run --rm --no-deps -T mess migrate --show 2>/dev/null </dev/null || true
}

# What others run must answer before anything here is touched.
require_others() { # IMAGE
  local said
  if ! runs_here postgres; then
    said=$(MESS_IMAGE=$1 compose run --rm --no-deps -T mess migrate --show 2>&1 </dev/null) ||
      die "Postgres of MESS_DATABASE_URL: $(tail -n 2 <<<"$said" | tr '\n' ' '); what runs goes on as it is"
  fi
}

# The stack's own that has become another's: stopped, and its volume kept.
stop_replaced() {
  local service
  for service in kafka postgres; do
    if ! runs_here "$service" && [ -n "$(compose --profile "$service" ps --all --quiet "$service")" ]; then
      say "stopping this stack's own $service; its volume stays"
      compose --profile "$service" rm --stop --force "$service" >&2
    fi
  done
}

# Nothing that compose starts below waits for it.
await_setup() { [ "$(docker wait "$(compose ps --all --quiet setup)")" = 0 ]; }

# The names of running workers that compose would make anew, for their image or their settings.
outdated_workers() { # IMAGE
  local running
  running=$(compose ps --quiet worker | wc -l)
  if ((running == 0)); then return; fi
  MESS_IMAGE=$1 compose --dry-run up --detach --no-deps --scale "worker=$running" worker 2>&1 |
    awk '$NF == "Recreate" { print $(NF - 1) }'
}

# Waits until every worker but those named has partitions. To be healthy is not enough: who still loads answers nobody.
wait_workers() { # NAMES
  local deadline=$((SECONDS + ${MESS_READY_SECONDS:-240})) name ready
  while true; do
    ready=yes
    for name in $(compose ps --format '{{.Name}}' worker); do
      if [[ $'\n'$1$'\n' == *$'\n'$name$'\n'* ]]; then continue; fi
      docker exec "$name" python3 -c 'if True:
        import sys, urllib.request
        with urllib.request.urlopen("http://127.0.0.1:8001/metrics", timeout=3) as reply:
            sys.exit("\nmess_worker_active 1.0\n" not in reply.read().decode())' 9>&- 2>/dev/null || ready=no
    done
    if [ "$ready" = yes ]; then return; fi
    if ((SECONDS >= deadline)); then return 1; fi
    sleep 1 9>&-
  done
}

# Replaces the workers that run one at a time: compose itself would stop all of them at once. A single one goes when its
# successor has taken over; of several, the others stand in, as the machine may not have the memory for one more. Called
# where failures are asked for, so each is passed on.
roll_workers() { # IMAGE
  local outdated left old
  outdated=$(outdated_workers "$1")
  if [ -z "$outdated" ]; then return; fi
  # What they need comes first: Kafka and Postgres if they have changed, migrations, topics.
  MESS_IMAGE=$1 compose up --detach --remove-orphans setup >&2 && await_setup || return 1
  left=$outdated
  for old in $outdated; do
    say "replacing $old"
    if [ "$(compose ps --quiet worker | wc -l)" = 1 ]; then
      add_workers "$1" 2 && wait_workers "$left" || return 1
    fi
    docker stop "$old" >/dev/null && docker rm --volumes "$old" >/dev/null || return 1
    # Its successor may have its name, and is waited for.
    left=$(grep -v -x -F "$old" <<<"$left" || true)
    add_workers "$1" "$(setting MESS_WORKERS 1)" && wait_workers "$left" || return 1
  done
}

# Workers are made here alone, and always so: to compose before 2.29.7 they differ by whether --no-deps was given, and those
# of another kind would be replaced at each deployment, all at once.
add_workers() { # IMAGE COUNT
  MESS_IMAGE=$1 compose up --detach --no-deps --no-recreate --scale "worker=$2" worker >&2
}

# The services of the API: behind Caddy there are two.
apis() { if runs_here tls; then echo api2 api; else echo api; fi; }

wait_healthy() { # SERVICE
  local deadline=$((SECONDS + ${MESS_READY_SECONDS:-240}))
  until [ "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps --quiet "$1")" 2>/dev/null 9>&-)" = healthy ]; do
    if ((SECONDS >= deadline)); then return 1; fi
    sleep 1 9>&-
  done
}

# Made here alone, like workers, and one after the other: the one that is not being replaced answers.
start_apis() { # IMAGE
  local service
  for service in $(apis); do
    MESS_IMAGE=$1 compose up --detach --no-deps "$service" >&2 && wait_healthy "$service" || return 1
    if [ "$service" = api2 ]; then
      # Both are known to a Caddy that still runs with a file of an earlier version; without a change it does nothing.
      wait_healthy caddy && compose exec -T caddy caddy reload --config /etc/caddy/Caddyfile </dev/null >&2 || return 1
    fi
  done
}

start() { # IMAGE
  local others
  others=$(MESS_IMAGE=$1 compose config --services | grep -v -x -e worker -e api -e api2) || return 1
  # shellcheck disable=SC2086 # names, separated by white space
  MESS_IMAGE=$1 compose up --detach --remove-orphans $others >&2 && await_setup || return 1
  start_apis "$1" || return 1
  # What is stopped would be started as it is, whatever its image.
  MESS_IMAGE=$1 compose rm --force --volumes worker >&2 || return 1
  add_workers "$1" "$(setting MESS_WORKERS 1)"
}

# The schema goes back by the new image, which knows the way; then the old one takes over.
roll_back() { # OLD_IMAGE NEW_IMAGE OLD_SCHEMA
  local old=$1 new=$2 schema=$3
  MESS_IMAGE=$new compose logs --tail 40 setup api worker >&2 || true
  if [ -z "$old" ]; then die "$new is not ready, and there is no version before it to go back to: the log is above"; fi
  say "$new is not ready; going back to $old"
  MESS_IMAGE=$new compose stop worker >&2 || true
  if [ -n "$schema" ] && [ "$(schema_revision "$new")" != "$schema" ]; then
    # shellcheck disable=SC2046 # names
    MESS_IMAGE=$new compose stop $(apis) >&2 || true
    MESS_IMAGE=$new compose run --rm --no-deps -T mess migrate --down-to "$schema" >&2 ||
      die "the schema cannot go back to $schema: restore the backup, see docs/operations.md"
  fi
  if start "$old" && wait_ready; then die "$new was not ready; $old runs again"; fi
  die "neither $new nor $old is ready: see docs/operations.md"
}

print_urls() {
  local domain
  domain=$(setting MESS_DOMAIN)
  echo "API        $(url_of_api)/ (docs at /docs)"
  if [[ ,$(setting COMPOSE_PROFILES), == *,tls,* ]]; then echo "public     https://$domain/"; fi
  echo "Grafana    http://127.0.0.1:$(setting MESS_GRAFANA_PORT 3000)/ (from elsewhere: ssh -L)"
}

main() {
  local image previous schema
  check_machine
  take_lock
  "$DOCKER_DIR/production-env.sh" secrets "$ENV_FILE" "$MESS_SECRETS_DIR"
  install_engine
  mount_data
  start_engine
  mkdir -p "$STATE_DIR"
  image=$(get_image)
  require_others "$image"
  previous=$(recall current)
  schema=$(schema_revision "$image")
  say "starting $image${previous:+ (before: $previous)}"
  if ! roll_workers "$image" || ! start "$image" || ! wait_ready; then roll_back "$previous" "$image" "$schema"; fi
  if [ "$previous" != "$image" ] && [ -n "$previous" ]; then remember previous "$previous"; fi
  remember current "$image"
  stop_replaced
  say "$image is ready after $SECONDS s"
  print_urls
}

# Sourced, it does nothing yet.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main; fi
