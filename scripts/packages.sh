#!/usr/bin/env bash
# packages.sh <demo|test|bench|notebooks>: what the system itself must have. As root on Debian or Ubuntu it
# installs what is missing; otherwise it prints the one line that does. It never calls sudo.
set -euo pipefail
. "$(dirname "$0")/env.sh"

purpose=$1
build="build-essential clang libclang-dev pkg-config libssl-dev zlib1g-dev python3-venv"
services="openjdk-17-jre-headless maven"

has_python() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  wanted=$build
  case $purpose in test | bench) wanted="$wanted $services" ;; esac
  [ "$purpose" = test ] && wanted="$wanted golang-go" # a producer of examples/ctr_by_campaign
  if [ "$purpose" = test ] && ! browser=$(command -v chromium || command -v google-chrome); then
    # Ubuntu's chromium is a snap that containers cannot run: there Playwright's own is fetched (setup.sh).
    . /etc/os-release
    [ "${ID:-}" = debian ] && wanted="$wanted chromium"
  fi
  missing=
  for package in $wanted; do
    case $package in
      python3-venv) has_python && continue ;;
      openjdk-17-jre-headless) java -version >/dev/null 2>&1 && continue ;;
      maven) command -v mvn >/dev/null && continue ;;
      golang-go) command -v go >/dev/null && continue ;;
    esac
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
  done
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
      say "Installing Debian packages:$missing"
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
      die "These packages are missing. Install them and run the same command again:

    sudo apt-get install -y$missing"
    fi
  fi
else
  missing=
  for tool in cc c++ make pkg-config clang; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
  case $purpose in test | bench) for tool in java mvn; do command -v "$tool" >/dev/null || missing="$missing $tool"; done ;; esac
  if [ "$purpose" = test ] && ! command -v go >/dev/null; then missing="$missing go"; fi
  [ -z "$missing" ] || die "These tools are missing; install them with the system's package manager:$missing"
fi

has_python || die "python3 is missing, older than 3.10, or lacks venv."
command -v cargo >/dev/null || die "Rust is missing. Install rustup (https://rustup.rs):

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none"
