#!/usr/bin/env bash
# The settings of production: refuses what must not go into it, and writes the secrets where compose reads them.
#
#   production-env.sh check    FILE        exits with 2 and the list of what to set
#   production-env.sh secrets  FILE DIR    checks, then writes each secret to a file of DIR
#   production-env.sh generate FILE        writes FILE with random secrets, if it is not there
set -euo pipefail

readonly REQUIRED=(MESS_OWNER_PASSWORD MESS_API_PASSWORD MESS_GRAFANA_PASSWORD)
readonly MINIMUM=16

usage() {
  sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# The last value that FILE gives NAME, without quotes around it. The file is read, never run.
value_of() {
  local file=$1 name=$2 line value=""
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      "$name="*) value=${line#"$name="} ;;
      *) ;;
    esac
  done <"$file"
  case $value in
    \"*\") value=${value#\"} value=${value%\"} ;;
    \'*\') value=${value#\'} value=${value%\'} ;;
    *) ;;
  esac
  printf '%s' "$value"
}

# A secret: NAME, or what stands in the file that NAME_FILE names.
secret_of() {
  local file=$1 name=$2 path
  path=$(value_of "$file" "${name}_FILE")
  if [ -n "$path" ]; then
    [ -r "$path" ] || return 1
    cat "$path"
  else
    value_of "$file" "$name"
  fi
}

is_default() {
  case ${1,,} in
    change-me* | changeme* | *password* | *secret* | *example* | postgres* | admin* | mess | messmess* | 1234567890*) return 0 ;;
    *) return 1 ;;
  esac
}

# Prints what is wrong with one secret, nothing if it will do.
complaint() {
  local file=$1 name=$2 value
  if ! value=$(secret_of "$file" "$name"); then
    echo "$name: ${name}_FILE cannot be read"
  elif [ -z "$value" ]; then
    echo "$name: is not set"
  elif is_default "$value"; then
    echo "$name: is a default or says what it is"
  elif [ "${#value}" -lt "$MINIMUM" ]; then
    echo "$name: has ${#value} characters, $MINIMUM are the least"
  elif [[ $value == *[!A-Za-z0-9._~-]* ]]; then
    echo "$name: has other characters than A-Z a-z 0-9 . _ ~ -"
  fi
}

# Whether the settings name a Postgres or Kafka that is not this stack's own. The environment wins, as it does in compose.
is_elsewhere() {
  local file=$1 service=$2 name=MESS_DATABASE_URL where
  if [ "$service" = kafka ]; then name=MESS_KAFKA_BOOTSTRAP_SERVERS; fi
  where=${!name:-$(value_of "$file" "$name")}
  case $where in
    '' | *@"$service" | *@"$service"[:/?]* | "$service":*) return 1 ;;
    *) return 0 ;;
  esac
}

# What of kafka, postgres and tls is to run here.
profiles_of() { printf ',%s,' "${COMPOSE_PROFILES:-$(value_of "$1" COMPOSE_PROFILES)}"; }

# Each of the two runs here or elsewhere, not twice and not nowhere.
misplaced() {
  local file=$1 service profiles
  local -A settings=([postgres]=MESS_DATABASE_URL [kafka]=MESS_KAFKA_BOOTSTRAP_SERVERS)
  profiles=$(profiles_of "$file")
  for service in postgres kafka; do
    if is_elsewhere "$file" "$service"; then
      if [[ $profiles == *,$service,* ]]; then
        echo "COMPOSE_PROFILES: take $service out, as ${settings[$service]} names one that others run"
      fi
      [ "${MESS_NETWORK_INTERNAL:-$(value_of "$file" MESS_NETWORK_INTERNAL)}" = false ] ||
        echo "MESS_NETWORK_INTERNAL: must be false, or ${settings[$service]} cannot be reached"
    elif [[ $profiles != *,$service,* ]]; then
      echo "COMPOSE_PROFILES: add $service, or name the one that others run in ${settings[$service]}"
    fi
  done
  if is_elsewhere "$file" postgres && [ -z "${MESS_API_DATABASE_URL:-$(value_of "$file" MESS_API_DATABASE_URL)}" ]; then
    echo "MESS_API_DATABASE_URL: is not set, and MESS_DATABASE_URL is: the API has a role of its own"
  fi
}

complaints() {
  local file=$1 name value profiles others
  local -A seen=()
  local required=("${REQUIRED[@]}")
  if ! is_elsewhere "$file" postgres; then required=(MESS_POSTGRES_PASSWORD "${required[@]}"); fi
  for name in "${required[@]}"; do
    complaint "$file" "$name"
    value=$(secret_of "$file" "$name" || true)
    if [ -n "$value" ] && ! is_default "$value"; then
      if [ -n "${seen[$value]:-}" ]; then echo "$name: is the same as ${seen[$value]}"; fi
      seen[$value]=$name
    fi
  done
  case $(value_of "$file" MESS_KAFKA_SECURITY_PROTOCOL) in
    SASL_*)
      if [ "$(value_of "$file" MESS_KAFKA_SASL_MECHANISM)" != OAUTHBEARER ]; then
        [ -n "$(value_of "$file" MESS_KAFKA_SASL_USERNAME)" ] || echo "MESS_KAFKA_SASL_USERNAME: is not set"
        complaint "$file" MESS_KAFKA_PASSWORD
      fi
      ;;
    *) ;;
  esac
  if [ -n "$(value_of "$file" MESS_BACKUP_REPOSITORY)" ]; then complaint "$file" MESS_BACKUP_PASSWORD; fi
  # The compose file sets it from FILE alone: there it would be overridden without a word, and the API be open.
  others=$(dirname "${BASH_SOURCE[0]}")/settings.env
  if [ -r "$others" ] && [ -n "$(value_of "$others" MESS_API_REQUIRE_KEYS)" ]; then
    echo "MESS_API_REQUIRE_KEYS: stands in $others; it belongs here"
  fi
  case $(value_of "$file" MESS_API_REQUIRE_KEYS) in
    "" | true | false) ;;
    *) echo "MESS_API_REQUIRE_KEYS: must be true or false" ;;
  esac
  misplaced "$file" | sort -u
  profiles=$(profiles_of "$file")
  if [[ $profiles == *,tls,* ]]; then
    [ -n "$(value_of "$file" MESS_DOMAIN)" ] || echo "MESS_DOMAIN: is not set, and the profile tls needs it"
    [ "$(value_of "$file" MESS_API_BIND)" = 127.0.0.1 ] ||
      echo "MESS_API_BIND: must be 127.0.0.1 with the profile tls, or the API is open beside it"
  fi
}

check() {
  local file=$1 found mode
  if [ ! -r "$file" ]; then
    echo "mess: there is no $file: copy docker/.env.production.example, or run $0 generate $file" >&2
    exit 2
  fi
  found=$(complaints "$file")
  mode=$(stat -c %a "$file")
  if [ "${mode: -2}" != 00 ]; then found+=${found:+$'\n'}"$file: others can read it; chmod 600 $file"; fi
  if [ -n "$found" ]; then
    echo "mess: $file is not fit for production. To be set:" >&2
    printf '  %s\n' "${found//$'\n'/$'\n'  }" >&2
    exit 2
  fi
}

# The directory is the guard: nobody but its owner enters it, while in a container any user may read the file mounted.
write_secrets() {
  local file=$1 directory=$2 name
  check "$file"
  install -d -m 700 "$directory"
  for name in postgres owner api grafana kafka backup; do
    write_secret "$directory/${name}_password" < <(secret_of "$file" "MESS_${name^^}_PASSWORD")
  done
  write_jaas "$(value_of "$file" MESS_KAFKA_SASL_USERNAME)" "$directory"
}

# In place where it has changed: a container that runs has this very file mounted, and processes read it again.
write_secret() { # PATH, the secret on standard input
  local value
  value=$(cat)
  if [ -e "$1" ] && [ "$(cat "$1")" = "$value" ]; then return; fi
  touch "$1"
  chmod 644 "$1"
  printf '%s' "$value" >"$1"
  chmod 444 "$1"
}

# What the stack's own Kafka reads with docker-compose.sasl.yml: one user, who is the broker's own, too.
write_jaas() {
  local user=$1 directory=$2 password
  password=$(cat "$directory/kafka_password")
  if [ -z "$user" ] || [ -z "$password" ]; then return; fi
  (
    umask 222
    printf 'KafkaServer {\n  org.apache.kafka.common.security.plain.PlainLoginModule required\n  username="%s" password="%s" user_%s="%s";\n};\n' \
      "$user" "$password" "$user" "$password" >"$directory/.jaas.new"
  )
  mv -f "$directory/.jaas.new" "$directory/kafka_jaas"
}

random() {
  # Not `tr | head`: under pipefail the broken pipe would count as a failure.
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

generate() {
  local file=$1 example line
  example=$(dirname "${BASH_SOURCE[0]}")/.env.production.example
  if [ -e "$file" ]; then return; fi
  (
    umask 077
    while IFS= read -r line; do
      case $line in
        MESS_*_PASSWORD=change-me) echo "${line%%=*}=$(random)" ;;
        *) echo "$line" ;;
      esac
    done <"$example" >"$file.new"
    mv "$file.new" "$file"
  )
  echo "wrote $file with random secrets"
}

case ${1:-}:$# in
  check:2) check "$2" ;;
  secrets:3) write_secrets "$2" "$3" ;;
  generate:2) generate "$2" ;;
  *) usage ;;
esac
