#!/usr/bin/env bash
# Every test, closing with ctest's own summary.
#   tools/test.sh          what CI runs: unit, simulation, fault and end-to-end tests on io_uring; the storage and network suites
#                          again on the threads env, under ASan+UBSan, and under TSan
#   tools/test.sh --full   adds more seeds, longer fault loops, and fuzzing
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
full=no
case "${1:-}" in
"") ;;
--full) full=yes ;;
-h | --help)
	sed -n '2,6s/^# \{0,1\}//p' "$0"
	exit 0
	;;
*)
	echo "usage: tools/test.sh [--full]" >&2
	exit 2
	;;
esac

step() { printf '\n== %s\n' "$*"; }
jobs=$(nproc)
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
tools/build.sh build-tsan -DSTELE_SANITIZE=thread

failed=()
run() { # name dir ctest-arguments...
	local name=$1 dir=$2
	shift 2
	step "$name"
	ctest --test-dir "$dir" --output-on-failure -j "$jobs" --no-tests=error "$@" || failed+=("$name")
}
ASAN_OPTIONS=detect_stack_use_after_return=1 run "ASan and UBSan: unit, sim, fuzz seeds" build-asan -L 'unit|sim|fuzz'
TSAN_OPTIONS=halt_on_error=1 run "TSan: what runs on several threads" build-tsan -L threads
STELE_ENV=threads run "io_uring refused: the threads env" build -L 'env|e2e-threads'
run "all tests" build

if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
