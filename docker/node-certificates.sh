#!/usr/bin/env bash
# Certificates for workers on other machines: node-certificates.sh ADDRESS, that of the main machine in the private network.
#
# Writes certificates/nodes-ca.pem and node.pem (nodes show it to Kafka), secrets/nodes-ca.key and main.pem (Kafka's and
# Postgres's own). What is there stays: remove main.pem or node.pem to make it anew, all four for another CA.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

address=${1:?usage: node-certificates.sh ADDRESS}
secrets=${MESS_SECRETS_DIR:-secrets}
certificates=${MESS_CERTIFICATES_DIR:-certificates}
days=${MESS_CERTIFICATE_DAYS:-3650}
umask 077
install -d -m 700 "$secrets"

if [ ! -e "$secrets/nodes-ca.key" ]; then
  openssl req -x509 -newkey rsa:3072 -noenc -days "$days" -subj "/CN=mess nodes" \
    -keyout "$secrets/nodes-ca.key" -out "$certificates/nodes-ca.pem" 2>/dev/null
  chmod 644 "$certificates/nodes-ca.pem"
fi

# A key and its certificate in one file, whole or not at all.
issue() { # FILE NAME EXTENSION
  local request
  if [ -e "$1" ]; then return; fi
  request=$(openssl req -newkey rsa:3072 -noenc -subj "/CN=$2" -keyout "$1.new" 2>/dev/null)
  openssl x509 -req -CA "$certificates/nodes-ca.pem" -CAkey "$secrets/nodes-ca.key" -days "$days" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile <(echo "$3") <<<"$request" >>"$1.new" 2>/dev/null
  mv "$1.new" "$1"
  echo "wrote $1"
}

issue "$secrets/main.pem" "mess main" "subjectAltName=IP:$address"
# Mounted as a file of a directory that nobody else enters, for Kafka's user.
chmod 444 "$secrets/main.pem"
issue "$certificates/node.pem" "mess node" "extendedKeyUsage=clientAuth"
# The image's user.
chown 10001 "$certificates/node.pem"
