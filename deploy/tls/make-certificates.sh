#!/bin/sh
# Makes an authority and certificates for trying TLS, in the folder $1: docs/docker.md.
# What is there already stays. The keys have no password, and every user of the machine can read them.
set -eu
cd "$1"

[ -f ca.crt ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 \
    -subj "/CN=Tollgate's authority for trials" -keyout ca.key -out ca.crt

# issue NAME COMMON_NAME SUBJECT_ALT_NAMES: writes NAME.crt, NAME.key and both in NAME.pem.
issue() {
    [ -f "$1.pem" ] && return
    openssl req -x509 -CA ca.crt -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
        -subj "/CN=$2" -addext "subjectAltName=$3" -addext "basicConstraints=critical,CA:FALSE" \
        -addext "extendedKeyUsage=serverAuth,clientAuth" -keyout "$1.key" -out "$1.crt"
    cat "$1.crt" "$1.key" > "$1.pem"
}

issue tollgate tollgate "DNS:localhost,DNS:tollgate-tls,IP:127.0.0.1"
issue mongo mongo-tls "DNS:mongo-tls,DNS:localhost"
issue shop shop "URI:spiffe://example.net/shop"
chmod 644 ./*
