#!/usr/bin/env bash
# Makes a bare Debian or Ubuntu machine able to run and test mxfleet: packages, virtual environment. Asks nothing;
# does nothing where nothing is missing.
#
#   control/local/prepare.sh              what `make up` needs
#   control/local/prepare.sh --tests      also what `make test` would otherwise skip by name
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
VENV=.venv
STAMP=$VENV/.made-from

say() { printf '· %s\n' "$*"; }
fail() { printf '✗ %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() { have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; }

# program:package; a package is wanted when its program cannot be found.
wanted_packages() {
  if [ $# -gt 0 ]; then perl -MNet::SSLeay -e1 2>/dev/null || echo libnet-ssleay-perl; fi  # swaks --tls
  have python3 || echo python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || have uv || echo python3-venv
  have_postgres || echo postgresql
  local pair
  for pair in etcd:etcd-server memcached:memcached prometheus:prometheus knotd:knot swaks:swaks "$@"; do
    have "${pair%%:*}" || echo "${pair#*:}"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
  else fail "missing packages, and neither root nor passwordless sudo: as root, run: apt-get install --no-install-recommends ${missing[*]}"
  fi
}

# Debian starts a service as soon as its package is installed. A policy of 101 ("action forbidden") keeps it from that,
# and what was not there before is disabled, so that the next boot starts nothing of ours either.
install_packages() {
  have apt-get || fail "missing: ${missing[*]}; this script knows apt only: install them, then run it again"
  say "installing with apt: ${missing[*]}"
  local policy=/usr/sbin/policy-rc.d ours=
  local units='etcd.service memcached.service postgresql.service prometheus.service prometheus-node-exporter.service knot.service'
  local before=" $(present_units "$units") "
  if [ ! -e $policy ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
    # shellcheck disable=SC2064  # now is when these values are known
    trap "as_root rm -f $policy" EXIT
  fi
  local log
  log=$(mktemp)
  quietly_apt "$log" update || say "apt-get update failed: trying with the lists there are"
  quietly_apt "$log" install -y --no-install-recommends "${missing[@]}" \
    || { tail -n 15 "$log" >&2; fail "apt-get install ${missing[*]} failed"; }
  rm -f "$log"
  if [ -n "$ours" ]; then as_root rm -f $policy; trap - EXIT; fi
  local unit
  for unit in $(present_units "$units"); do
    case "$before" in *" $unit "*) ;; *) disable "$unit" ;; esac
  done
}

quietly_apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "${@:2}" >>"$1" 2>&1; }

# What `systemctl disable` does, also where there is no systemctl yet.
disable() { as_root rm -f "/etc/systemd/system/multi-user.target.wants/$1"; }

present_units() {
  local unit
  for unit in $1; do
    if [ -e "/lib/systemd/system/$unit" ] || [ -e "/usr/lib/systemd/system/$unit" ]; then printf '%s ' "$unit"; fi
  done
}

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed (Debian 12, Ubuntu 24.04); found: $(python3 --version 2>&1 || echo none)"
}

make_venv() {
  local python made_from
  python=$(find_python)
  made_from="$(sha256sum <requirements.lock) $("$python" --version)"
  if [ -x $VENV/bin/python ] && [ "$(cat $STAMP 2>/dev/null)" = "$made_from" ]; then return; fi
  say "making $VENV from requirements.lock (hashes checked)"
  if [ -e $STAMP ]; then rm $STAMP; else rm -rf $VENV; fi  # without its stamp it was interrupted: half of it helps nobody
  if have uv; then
    [ -x $VENV/bin/python ] || uv venv --quiet --python "$python" $VENV
    uv pip install --quiet --python $VENV/bin/python --require-hashes -r requirements.lock
  else
    "$python" -m venv $VENV
    $VENV/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
  fi
  # The checkout itself, importable from anywhere, and its command; nothing is built or copied.
  pwd >"$($VENV/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mxfleet.pth"
  printf '#!/bin/sh\nexec "%s/bin/python" -m control.cli "$@"\n' "$PWD/$VENV" >$VENV/bin/mxctl
  chmod 755 $VENV/bin/mxctl
  printf '%s' "$made_from" >$STAMP
}

extra=()
if [ "${1:-}" = --tests ]; then extra=(chromium:chromium); fi
mapfile -t missing < <(wanted_packages "${extra[@]}")
if [ ${#missing[@]} -gt 0 ]; then install_packages; fi
make_venv
