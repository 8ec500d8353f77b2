#!/usr/bin/env bash
# Every test, closing with ctest's own summary.
#   tools/test.sh          what CI runs: units, simulation, fuzz seeds and faults, and all of it again under ASan+UBSan (fewer
#                          faults); what runs on several threads under TSan. Everything end to end twice: on io_uring under
#                          ASan+UBSan, and with io_uring refused, on the threads env, where all else that does I/O runs again,
#                          too; disks, network and the main job once more on io_uring with nothing registered
#   tools/test.sh --full   end to end also as it is, on io_uring; more seeds, longer fault loops, and fuzzing
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
full=no
case "${1:-}" in
"") ;;
--full) full=yes ;;
-h | --help)
	sed -n '2,7s/^# \{0,1\}//p' tools/test.sh
	exit 0
	;;
*)
	echo "usage: tools/test.sh [--full]" >&2
	exit 2
	;;
esac

step() { printf '\n== %s\n' "$*"; }
jobs=$(($(nproc) + 1)) # many of them wait, for disks and clocks
if [ $full = yes ]; then
	tools/deps.sh --full
	export STELE_TEST_FULL=1
else
	tools/deps.sh
fi

step "build (build)"
tools/build.sh build
step "build with ASan and UBSan (build-asan)"
tools/build.sh build-asan -DSTELE_SANITIZE=address
step "build with TSan (build-tsan)"
tools/build.sh build-tsan --target threads_tests -DSTELE_SANITIZE=thread

failed=()
run() { # name dir ctest-arguments...
	local name=$1 dir=$2
	shift 2
	step "$name"
	ctest --test-dir "$dir" --output-on-failure -j "$jobs" --no-tests=error "$@" || failed+=("$name")
}
plain=()
[ $full = yes ] || plain=(-LE '^(e2e|only-sanitized)$')
run "as it is, on io_uring" build "${plain[@]}"
STELE_CRASHES=${STELE_CRASHES:-1500} STELE_FLIPS=${STELE_FLIPS:-8000} STELE_KILLS=${STELE_KILLS:-20} \
	run "ASan and UBSan" build-asan -L '^(unit|sim|fuzz|fault|e2e)$'
run "TSan: what runs on several threads" build-tsan -L '^threads$'
STELE_ENV=threads STELE_KILLS=${STELE_KILLS:-50} run "io_uring refused: everything on the threads env" build -L '^(threads|env|e2e)$'
STELE_ENV=io_uring,unregistered run "io_uring, nothing registered" build -L '^(threads|e2e)$' \
	-R '^(e2e_main|test_disk|test_env)$'

if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
