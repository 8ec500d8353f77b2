#!/usr/bin/env bash
# The main job, told as a short story: archive ledger files and evidence on eight real nodes, anchor, lose two nodes, get every
# byte back, repair, prove. Exit 0 only if all of it held. Cleans up after itself.
#
#   tools/demo.sh [FILE...]    Bitcoin block files and era1 are ledger files, their chain inferred; anything else is evidence.
#                              A kind that is missing is made on the spot: a mined regtest chain, a text.
set -euo pipefail
case "${1:-}" in -h | --help)
	sed -n '2,7s/^# \{0,1\}//p' "$0"
	exit 0
	;;
esac
top=$(cd "$(dirname "$0")/.." && pwd)
for f in "$@"; do
	[ -f "$f" ] && [ -r "$f" ] || { echo "demo.sh: $f: no such file, or not readable" >&2; exit 2; }
done

bold= dim= red= green= plain=
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
fi
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
tell() { printf '%s\n' "$*"; }
show() { printf '%s$ %s%s\n' "$dim" "$*" "$plain"; }
held() { printf '%s  held: %s%s\n' "$green" "$*" "$plain"; }
fail() {
	printf '%sFAILED: %s%s\n' "$red" "$*" "$plain" >&2
	exit 1
}

tell "Stele: installing what is missing, building"
"$top/tools/deps.sh"
"$top/tools/build.sh" build

work=$(mktemp -d "${TMPDIR:-/tmp}/stele-demo.XXXXXX")
stele=$top/build/bin/stele
dir=$work/cluster
mkdir "$dir"
export STELE_CLUSTER=$dir/cluster.json
cleanup() {
	status=$?
	trap - EXIT INT TERM
	"$stele" dev down --dir "$dir" --delete >/dev/null 2>&1 || true
	rm -rf "$work"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

run() { # shows a command and runs it
	show "stele $(printf '%s ' "$@")"
	"$stele" "$@"
}
field() { # one field of JSON on stdin: field a b
	python3 -c 'import json,sys
v = json.load(sys.stdin)
for k in sys.argv[1:]:
    v = v[int(k)] if isinstance(v, list) else v[k]
print(v)' "$@"
}

ledgers=() chains=() evidence=()
for f in "$@"; do
	if id=$("$stele" ledger identify "$f" --json 2>/dev/null) && [ "$(field supported <<<"$id")" = True ] &&
		[ "$(field chain <<<"$id")" != None ]; then
		ledgers+=("$f")
		chains+=("$(field chain <<<"$id")")
	else
		evidence+=("$f")
	fi
done
if [ ${#ledgers[@]} -eq 0 ]; then
	tell "Mining a Bitcoin regtest chain of about 32 MiB: every block valid"
	"$top/build/bin/stele-mine" --size 32MiB -o "$work/blk00000.dat"
	ledgers=("$work/blk00000.dat")
	chains=(bitcoin-regtest)
fi
if [ ${#evidence[@]} -eq 0 ]; then
	for i in $(seq 1 20000); do echo "line $i of a contract that somebody may dispute one day"; done >"$work/contract.txt"
	evidence=("$work/contract.txt")
fi

chapter "1. Eight nodes, code rs-4-2: any two may be lost"
run dev up --dir "$dir" --nodes 8 --code rs-4-2

chapter "2. Archive"
for i in "${!ledgers[@]}"; do
	run ledger import --chain "${chains[$i]}" "${ledgers[$i]}"
done
for f in "${evidence[@]}"; do
	run put "$f"
done
run anchor now
for _ in $(seq 100); do # new disks are not in full service before each has heard of all others
	"$stele" status --json | grep -q '"refilling"' || break
	sleep 0.1
done

chapter "3. Two nodes die"
margin_before=$("$stele" status --json | field margin)
run dev kill --dir "$dir" 3 6
status=0
run status || status=$?
[ $status -eq 3 ] || fail "status said exit $status, not 3 (degraded)"
margin_lost=$("$stele" status --json 2>"$work/degraded" | field margin || true)
[ "$margin_before" = 2 ] && [ "$margin_lost" = 0 ] || fail "margin went from $margin_before to $margin_lost, not from 2 to 0"
held "margin $margin_before before, $margin_lost now: nothing is lost, nothing more may be"

compare_all() {
	for f in "${ledgers[@]}" "${evidence[@]}"; do
		id=$(sha256sum "$f" | cut -d' ' -f1)
		"$stele" get "$id" -o "$work/back" >/dev/null
		cmp -s "$f" "$work/back" || fail "$f came back changed"
		rm -f "$work/back"
	done
	held "${#ledgers[@]} ledger and ${#evidence[@]} evidence files came back, byte for byte"
}

chapter "4. Everything comes back, by height and by SHA-256"
for i in "${!ledgers[@]}"; do
	last=$("$stele" ledger ls --chain "${chains[$i]}" --json | field segments 0 last)
	if [ "$last" != None ] && [ "$last" -lt 1000000000 ]; then
		run ledger get --chain "${chains[$i]}" --height "$((last / 2))" -o "$work/block"
	else
		tell "(a file whose parents are not archived has no heights yet)"
	fi
done
id=$(sha256sum "${evidence[0]}" | cut -d' ' -f1)
run get "sha256:$id" -o "$work/evidence"
cmp -s "${evidence[0]}" "$work/evidence" || fail "the evidence file came back changed"
compare_all

chapter "5. Repair, onto the six that are left"
run repair --wait
margin_after=$("$stele" status --json | field margin)
[ "$margin_after" = 2 ] || fail "margin $margin_after after repair, not 2"
held "margin $margin_lost before, $margin_after after"
compare_all

chapter "6. Prove it to somebody else"
run proof "sha256:$id" -o "$work/evidence.proof"
run proof verify "$work/evidence.proof" --file "$work/evidence"
printf 'x' >>"$work/evidence"
if "$stele" proof verify "$work/evidence.proof" --file "$work/evidence" >/dev/null 2>&1; then
	fail "a changed file passed its proof"
fi
held "the proof holds, and a changed file fails it"

chapter "All of it held."
