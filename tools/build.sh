#!/usr/bin/env bash
# Configures and builds into DIR (default: build). Usage: tools/build.sh [DIR [--target NAME] [cmake options]]
set -euo pipefail
case "${1:-}" in -*)
	sed -n '2s/^# //p' "$0"
	[ "$1" = -h ] || [ "$1" = --help ]
	exit
	;;
esac
top=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-build}
[ $# -gt 0 ] && shift
target=all
if [ "${1:-}" = --target ]; then
	target=$2
	shift 2
fi
launcher=()
command -v ccache >/dev/null 2>&1 && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake -S "$top" -B "$top/$dir" -G Ninja "${launcher[@]}" "$@" && cmake --build "$top/$dir" --target "$target"; } >"$log" 2>&1; then
	tail -n 60 "$log" >&2
	echo "build failed in $dir (above: the end of its output)" >&2
	exit 1
fi
if grep -q 'warning:' "$log"; then
	grep 'warning:' "$log" >&2
fi
