#!/bin/bash
# Runs once, when the database is made: the owner of the schema, for migrations and workers, and the API's role, which
# can only read. Passwords come from secrets, or from the environment in development.
set -euo pipefail

password() {
  local name=$1 variable=$2
  if [ -r "/run/secrets/$name" ]; then cat "/run/secrets/$name"; else printf '%s' "${!variable:?}"; fi
}

owner_password=$(password owner_password MESS_OWNER_PASSWORD)
api_password=$(password api_password MESS_API_PASSWORD)
# psql reads them from the environment: arguments can be seen by every process.
export owner_password api_password
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv owner_password owner_password
\getenv api_password api_password
CREATE ROLE mess LOGIN PASSWORD :'owner_password';
CREATE ROLE mess_api LOGIN PASSWORD :'api_password';
ALTER ROLE mess_api SET default_transaction_read_only = on;
CREATE DATABASE mess OWNER mess;
REVOKE CONNECT, TEMPORARY ON DATABASE mess FROM PUBLIC;
GRANT CONNECT ON DATABASE mess TO mess_api;
SQL
