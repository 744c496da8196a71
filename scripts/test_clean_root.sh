#!/usr/bin/env bash
# Runs a command of this project in a clone on a freshly bootstrapped Debian: nothing of this machine is in it.
#   scripts/test_clean_root.sh SUITE [COMMAND]     SUITE: bookworm (12) or trixie (13); COMMAND: scripts/quickstart.sh
# Needs root and debootstrap. PLSC_MIRROR names another mirror than the one that apt uses here, PLSC_KEEP=1 keeps the
# system. The clone holds what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:?usage: $0 bookworm|trixie [COMMAND]}
command=${2:-scripts/quickstart.sh}
mirror=${PLSC_MIRROR:-$(apt-cache policy | sed -n 's/^ *500 \(http[^ ]*\) .*main.*/\1/p' | grep -m 1 '/debian/*$' || true)}
mirror=${mirror:?no Debian mirror found; name one in PLSC_MIRROR}
[ "$(id -u)" -eq 0 ] || { echo "test_clean_root.sh: needs root" >&2; exit 1; }

root=$(mktemp -d "${TMPDIR:-/var/tmp}/plsc_${suite}_XXXXXX")
cleanup() {
  for mounted in dev/shm dev proc; do
    ! mountpoint -q "$root/$mounted" || umount -l "$root/$mounted"
  done
  if [ -n "${PLSC_KEEP:-}" ]; then echo "kept: $root"; else rm -rf --one-file-system "$root"; fi
}
trap cleanup EXIT
chmod 755 "$root"  # a root that only root may enter fails packages that do something as another user

echo "bootstrapping $suite from $mirror"
debootstrap --variant=minbase --include=git,ca-certificates "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -20 "$root.log"; rm -f "$root.log"; exit 1; }
rm -f "$root.log"
# How this machine reaches the mirror holds for the new system too.
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
for conf in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
  [ ! -e "$conf" ] || cp "$conf" "$root/etc/apt/apt.conf.d/"
done
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
[ ! -d /dev/shm ] || mount --bind /dev/shm "$root/dev/shm"
git clone -q . "$root/opt/plsc-train"

echo "running $command in it"
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
  ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
  chroot "$root" bash -c "cd /opt/plsc-train && $command"
