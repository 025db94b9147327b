#!/usr/bin/env bash
# Build the image and run it, for real, without a container registry and without a container daemon:
# the base is a Debian made by debootstrap, imported under the name that the Dockerfile asks for; buildah does the rest.
# Needs root, buildah and debootstrap. DEBIAN_MIRROR=URL takes packages from there.
# Everything is made in a throw-away folder; KEEP=1 leaves it standing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export PATH=$PATH:/usr/sbin:/sbin
base=python:3.11-slim-bookworm
image=localhost/reconciler:test
suite=bookworm

for program in buildah debootstrap; do
    command -v "$program" >/dev/null || { echo "make image-test needs $program: apt-get install $program" >&2; exit 1; }
done
((EUID == 0)) || { echo "make image-test needs root: it makes a file system and changes into it" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/image-test.XXXXXX")
read_only=$work/read-only

buildah() {
    command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

leave() {
    umount --quiet --recursive "$read_only" 2>/dev/null || true
    buildah umount --all >/dev/null 2>&1 || true
    [[ ${KEEP:-} ]] && { echo "left in $work"; return; }
    rm -rf --one-file-system "$work"
}
trap leave EXIT

say() { printf '\n== %s\n' "$*"; }
passed=0
check() { # what is expected, then the command that must succeed
    local what=$1
    shift
    "$@" || { echo "FAILED: $what" >&2; exit 1; }
    passed=$((passed + 1))
    echo "ok: $what"
}
prints_help() { "$@" reconciler --help | grep -i 'usage: reconciler' >/dev/null; }

# What this machine needs to reach its package indexes, if anything: certificates, proxies, mirrors. It is lent to the
# build as mounts and arguments and never becomes part of the image.
lend_the_hosts_network() {
    local certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    lent=(--network host)
    if [[ -r $certificates ]]; then
        lent+=(--volume "$certificates:/run/host-certificates.crt:ro")
    fi
    {
        echo "[global]"
        python3 -m pip config list | sed -n -E "s/^(global|install|:env:)\.(index-url|extra-index-url|trusted-host|proxy|default-timeout)='?([^']*)'?\$/\2 = \3/p"
        [[ -r $certificates ]] && echo "cert = /run/host-certificates.crt"
    } | awk -F' = ' '!seen[$1]++' >"$work/pip.conf"
    lent+=(--volume "$work/pip.conf:/etc/pip.conf:ro")
    apt-config dump | grep -E '^Acquire::(Check|http|https|Retries)' >"$work/apt.conf" || true
    lent+=(--volume "$work/apt.conf:/etc/apt/apt.conf.d/99host:ro")
}

make_the_base() {
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$work/base" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; return 1; }
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/base" / >/dev/null
    buildah commit --quiet "$container" "$base" >/dev/null
    buildah rm "$container" >/dev/null
    rm -rf --one-file-system "$work/base"
}

say "base image: Debian $suite by debootstrap, named $base"
make_the_base

say "build"
lend_the_hosts_network
buildah bud --quiet --isolation chroot --pull-never --format docker "${lent[@]}" \
    --build-arg "BASE=$base" --tag "$image" .

say "run as the image says"
container=$(buildah from --pull-never "$image")
inside() { buildah run --isolation chroot "$container" -- "$@"; }
setting() { buildah inspect --type image --format "{{.OCIv1.Config.$1}}" "$image"; }

check "the entry point is reconciler" test "$(setting Entrypoint)" = "[reconciler]"
check "the default command is serve" test "$(setting Cmd)" = "[serve]"
check "the user is 65534, not root" test "$(inside id -u):$(inside id -g)" = 65534:65534
check "reconciler --help prints its page" prints_help inside
check "git is there" inside git --version
check "ssh is there" inside ssh -V
check "no compiler and no installer is there" inside sh -c \
    'for program in gcc cc g++ make pip; do ! command -v "$program" || exit 1; done'
check "nothing of the host's network came along" inside sh -c \
    '! test -s /etc/pip.conf && ! test -s /etc/apt/apt.conf.d/99host && ! test -s /run/host-certificates.crt'

# buildah has no switch for a read-only root, so the kernel's own is used: the container's files bound read-only, the
# volume and the sample repository bound into them, and the same user, environment and command as above.
say "run with a read-only root"
root=$(buildah mount "$container")
volume=$work/volume
install --directory --owner=65534 --group=65534 --mode=0700 "$volume"
mkdir -p "$root/srv/fleet" "$read_only"
mount --bind "$root" "$read_only"
mount -o remount,bind,ro "$read_only"
mount --bind "$volume" "$read_only/var/lib/reconciler"
mount --bind sample-repo "$read_only/srv/fleet"
mount -o remount,bind,ro "$read_only/srv/fleet"
mount --bind /dev "$read_only/dev"
mount -t proc proc "$read_only/proc"
mapfile -t environment < <(buildah inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' "$image" | sed '/^$/d')
inside_read_only() {
    chroot --userspec=65534:65534 --groups= "$read_only" /usr/bin/env --ignore-environment --chdir=/var/lib/reconciler \
        "${environment[@]}" "$@"
}

check "nothing but the volume can be written" inside_read_only sh -c \
    'for where in / /tmp /etc /opt/reconciler /var/tmp /srv/fleet; do ! touch "$where/x" 2>/dev/null || exit 1; done; touch x && rm x'
check "reconciler --help prints its page" prints_help inside_read_only
check "the sample repository is valid" inside_read_only reconciler validate /srv/fleet
check "the sample repository that came with the package is valid" inside_read_only sh -c \
    'reconciler validate "$(python3 -c "import pathlib, reconciler; print(pathlib.Path(reconciler.__file__).parent)")/sample-repo"'
check "a rollout reaches the canary, and only the canary" inside_read_only sh -s /srv/fleet <tests/image/rollout.sh

say "the image works"
echo "$passed passed, 0 failed"
