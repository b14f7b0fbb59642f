#!/usr/bin/env bash
# Usage: install-programs.sh [PYTHON [HYPERVISOR [LIST]]]
#
# Installs the programs of LIST (debian-packages.txt) that are missing; says nothing when none is.
# Without a hypervisor, those of all hypervisors.
# On Debian and its kin, as root, by apt. Elsewhere, or without root, it names what is missing and
# ends with 2. No service is started, now or at the next boot, that was not there before.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
hypervisor=${2:-}
list=${3:-debian-packages.txt}
policy=/usr/sbin/policy-rc.d
log=$here/../build/apt.log
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

refuse() {
    echo "setup: $*" >&2
    exit 2
}

# A name is looked for in PATH; an absolute path is a file that need not be a program.
has_program() {
    [[ $1 != /* ]] || { [ -e "$1" ] && return; }
    command -v "$1" >/dev/null && { [ "$1" != python3 ] || can_make_venv; }
}

# Only Debian's own Python comes without venv's other half.
can_make_venv() {
    case $(command -v "$python") in
        /usr/bin/*) "$python" -c 'import ensurepip' 2>/dev/null ;;
        *) true ;;
    esac
}

missing() {
    local program package whose
    while read -r program package whose; do
        case $program in '' | '#'*) continue ;; esac
        [ -z "$whose" ] || [ -z "$hypervisor" ] || [ "$whose" = "$hypervisor" ] || continue
        has_program "$program" || echo "$program $package"
    done <"$here/$list"
}

# invoke-rc.d asks this script before it starts a service; 101 is "no". Somebody else's stays.
forbid_services() {
    [ ! -e "$policy" ] || return 0
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

disable_at_boot() {
    local package
    command -v systemctl >/dev/null || return 0
    for package in "$@"; do
        case $package in
            nginx-light) systemctl --quiet disable nginx.service ;;
            openvswitch-switch) systemctl --quiet disable openvswitch-switch.service ;;
            podman) systemctl --quiet disable podman{.socket,.service,-restart.service,-auto-update.{service,timer}} ;;
            haproxy) systemctl --quiet disable haproxy.service ;;
            ovn-central) systemctl --quiet disable ovn-central.service ;;
            ovn-host) systemctl --quiet disable ovn-host.service ;;
        esac 2>/dev/null || true
    done
}

install_packages() {
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    export DEBIAN_FRONTEND=noninteractive
    echo "setup: installing $*"
    mkdir -p "$(dirname "$log")"
    forbid_services
    # Lists that are old, or of a mirror that is down, may still do.
    "${apt[@]}" update >"$log" 2>&1 || true
    "${apt[@]}" install -y --no-install-recommends "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        refuse "apt-get could not install: $*"
    }
    disable_at_boot "$@"
}

lines=$(missing)
[ -n "$lines" ] || exit 0
mapfile -t programs < <(cut -d' ' -f1 <<<"$lines")
mapfile -t packages < <(cut -d' ' -f2 <<<"$lines" | sort -u)
command -v apt-get >/dev/null || refuse "install these programs first: ${programs[*]}"
[ "$(id -u)" = 0 ] || refuse "run as root: apt-get install ${packages[*]}"
install_packages "${packages[@]}"
lines=$(missing)
[ -z "$lines" ] || refuse "still missing after apt-get: $(cut -d' ' -f1 <<<"$lines" | paste -sd' ')"
