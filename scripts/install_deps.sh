#!/usr/bin/env bash
# Installs what building and testing plsc-train needs, from Debian's own packages (Debian 12 and 13).
# Uses sudo where not root; does nothing, quickly, where everything is already there.
#   scripts/install_deps.sh           build and run
#   scripts/install_deps.sh --test    also what scripts/test.sh uses (clang-format where it is the version that counts)
#   scripts/install_deps.sh --full    also what `scripts/test.sh --full` uses (clang, debootstrap)
set -euo pipefail

packages=(g++ make cmake ninja-build pkg-config git ca-certificates python3
  libopenmpi-dev openmpi-bin openssh-client
  libdnnl-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev
  libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev
  libjpeg62-turbo-dev libpng-dev nlohmann-json3-dev libxxhash-dev catch2)
# The sources are formatted by clang-format 14, Debian 12's; other versions differ in details and are not asked.
# scripts/bundle.sh needs patchelf and xz, and packs Debian 12's libraries; its test, a shell that needs no library.
version=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-}")
test_packages=(iproute2)
# A Slurm and an sshd for tests of runs on several hosts. These packages start what they bring on every boot: not on a
# machine of somebody's without asking. Where they are missing the tests say so and are skipped.
if [ ! -d /run/systemd/system ]; then
  test_packages+=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge openssh-server)
fi
[ "$version" = 12 ] && test_packages+=(clang-format patchelf busybox-static xz-utils binutils)
case "${1:-}" in
  "") ;;
  --test) packages+=("${test_packages[@]}") ;;
  --full) packages+=("${test_packages[@]}" clang libomp-dev debootstrap) ;;
  *) echo "usage: $0 [--test|--full]" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null; then
  echo "install_deps.sh: this system has no apt-get. Install by hand: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
# In a container no service (an sshd!) should start because it was installed: Debian's way to say so, unless somebody has
# already said what may.
policy=""
if [ ! -d /run/systemd/system ] && [ ! -e /usr/sbin/policy-rc.d ]; then policy=/usr/sbin/policy-rc.d; fi
cleanup() {
  rm -f "$log"
  if [ -n "$policy" ]; then "${as_root[@]}" rm -f "$policy"; fi
}
trap cleanup EXIT
if [ -n "$policy" ]; then "${as_root[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"; fi
if ! { "${as_root[@]}" apt-get update -qq &&
       "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
         apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "install_deps.sh: apt-get failed, see above" >&2
  exit 1
fi
