#!/usr/bin/env bash
# Installs the Debian 12 packages that building and testing Stele needs, when any is missing. As root it
# installs them; otherwise it prints the line to run and fails. Run by demo.sh and test.sh.
set -euo pipefail
case "${1:-}" in -h | --help)
	sed -n '2,4s/^# \{0,1\}//p' "$0"
	exit 0
	;;
esac

packages=(
	gcc cmake ninja-build pkg-config python3
	liburing-dev libleveldb-dev libisal-dev libsodium-dev libcriterion-dev
	libssl-dev libjansson-dev nettle-dev libsnappy-dev zlib1g-dev libinih-dev
)
# "test.sh --full" fuzzes too.
[ "${1:-}" = --full ] && packages+=(clang libclang-rt-14-dev)

missing=()
for p in "${packages[@]}"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)
	[ "$status" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "missing packages: ${missing[*]}" >&2
if [ "$(id -u)" -ne 0 ]; then
	echo "install them, then run this again:" >&2
	echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
