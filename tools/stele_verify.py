#!/usr/bin/env python3
"""Second verifier of Stele's proofs, independent of the first: Python's standard library alone.

Judges by the formats' specifications (net/anchor/{proof,policy,line}.h, storage/base/{deposit,log,
note}.h) and shares no code with Stele: where the two disagree, one of them is wrong.
Exit code 0: all that the policy requires is established and nothing failed; 1: something required
is not established; 2: usage; 5: something is there and is wrong.
"""
import argparse
import base64
import hashlib
import json
import re
import sys

CHUNK = 65536
INLINE_MAX = 65536
NUMBER_MAX = 2**53 - 1
PROOF_MAX = 256 << 10
VERDICTS = ("bytes", "time", "log", "depositor")
ESTABLISHED, MISSING, FAILED = "established", "not established", "failed"


class Bad(Exception):
    """A proof that is none."""


class Usage(Exception):
    """A policy that cannot be followed."""


def need(condition, why, error=Bad):
    if not condition:
        raise error(why)


def sha256(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


# ---- Ed25519 (RFC 8032), strict: canonical scalars and keys, nothing of small order ----

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
NEUTRAL = (0, 1, 1, 0)  # X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z


def point_add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    x, y, z, t = f - e, h - g, h + g, f + e
    return (x * y % P, z * t % P, y * z % P, x * t % P)


def point_multiply(n, a):
    out = NEUTRAL
    while n:
        if n & 1:
            out = point_add(out, a)
        a = point_add(a, a)
        n >>= 1
    return out


def point_encode(a):
    x, y = (v * pow(a[2], P - 2, P) % P for v in a[:2])
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_decode(raw):
    sign, y = raw[31] >> 7, int.from_bytes(raw, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P  # by the root of -1
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


def small_order(a):
    return point_encode(point_multiply(8, a)) == point_encode(NEUTRAL)


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signature_ok(key, message, signature):
    a, s = point_decode(key), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L or a is None or small_order(a):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    r = point_add(point_multiply(s, BASE), point_multiply(k, minus_a))
    return point_encode(r) == signature[:32] and not small_order(r)


# ---- Merkle trees (RFC 9162, 2.1) ----

def node_hash(left, right):
    return sha256(b"\x01", left, right)


def tree_root(leaves):
    if not leaves:
        return sha256(b"")
    while len(leaves) > 1:  # pairs; an odd last one moves up as it is
        paired = [node_hash(*leaves[i:i + 2]) for i in range(0, len(leaves) - 1, 2)]
        leaves = paired + leaves[len(paired) * 2:]
    return leaves[0]


def path_ok(leaf, index, size, path, root):
    fn, sn = index, size - 1
    for sibling in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            leaf = node_hash(sibling, leaf)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            leaf = node_hash(leaf, sibling)
        fn, sn = fn >> 1, sn >> 1
    return index < size and sn == 0 and leaf == root


def range_root(leaves, first, start, count, path):
    """Root of leaves [start, start + count): from the range's, and from the path outside it."""
    if first + len(leaves) <= start or start + count <= first:
        need(path, "the range's path is too short")
        return path.pop(0)
    if first <= start and start + count <= first + len(leaves):
        return tree_root(leaves[start - first:start - first + count])
    half = 1 << (count - 1).bit_length() - 1
    left = range_root(leaves, first, start, half, path)
    return node_hash(left, range_root(leaves, first, start + half, count - half, path))


# ---- canonical forms ----

def parse_json(raw, error):
    def pairs_once(pairs):
        need(len(dict(pairs)) == len(pairs), "a name appears twice", error)
        return dict(pairs)
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=pairs_once)
    except (ValueError, RecursionError) as e:
        raise error("not JSON: %s" % e)


def only(value, required, optional=(), error=Bad):
    need(isinstance(value, dict) and set(required) <= set(value) <= {*required, *optional},
         "fields are missing or not known; expected %s" % ", ".join(required), error)
    return value


def number(value):
    need(type(value) is int and 0 <= value <= NUMBER_MAX, "not a number in bounds")
    return value


def unhex(value, length, error=Bad):
    need(isinstance(value, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * length), value),
         "not %d bytes of lower-case hex" % length, error)
    return bytes.fromhex(value)


def hashes(value, most):
    need(isinstance(value, list) and len(value) <= most, "not a list of hashes")
    return [unhex(h, 32) for h in value]


HEX32, U64, CAIP2 = "[0-9a-f]{64}", "(?:0|[1-9][0-9]{0,19})", "[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}"
NAME = "(?!-$)[!-~]{1,63}"
DEPOSIT_LINES = (
    ("cluster", HEX32), ("type", "evidence|ledger|index|system"), ("object", "sha256:" + HEX32),
    ("length", U64), ("tree", HEX32), ("layout", HEX32 + "|-"), ("pool", NAME),
    ("depositor", HEX32), ("time", U64), ("after", "%s %s %s|-" % (CAIP2, U64, HEX32)),
    ("chain", "%s %s %s %s %s|-" % (CAIP2, U64, U64, HEX32, HEX32)), ("meta", HEX32 + "|-"),
    ("plain", HEX32 + "|-"), ("sm3", HEX32 + "|-"), ("nonce", HEX32))


def parse_deposit(text):
    lines = text.split("\n")
    need(len(lines) == len(DEPOSIT_LINES) + 2 and lines[0] == "stele.dev/deposit/v1"
         and lines[-1] == "" and len(text.encode()) < 4096, "not a deposit")
    out = {}
    for line, (name, form) in zip(lines[1:], DEPOSIT_LINES):
        need(re.fullmatch("%s (?:%s)" % (name, form), line), "deposit: line %r is malformed" % name)
        out[name] = line[len(name) + 1:]
        for value in out[name].split(" ") if name in ("length", "time", "after", "chain") else ():
            need(not re.fullmatch(U64, value) or int(value) < 2**64, "deposit: number too large")
    length = int(out["length"])
    need(out["layout"] == "-" if length == 0 else length <= INLINE_MAX or out["layout"] != "-",
         "deposit: layout and length contradict each other")
    if out["chain"] != "-":
        first, last = out["chain"].split(" ")[1:3]
        need(int(first) <= int(last), "deposit: chain ends before it begins")
    return out


def base64_strict(text):
    need(re.fullmatch("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)?", text),
         "malformed base64")
    need(base64.b64encode(base64.b64decode(text)).decode() == text, "base64 of another spelling")
    return base64.b64decode(text)


def parse_checkpoint(note):
    lines = note.split("\n")
    need(len(lines) == 6 and lines[3] == "" and lines[5] == "" and len(note.encode()) <= 8192,
         "checkpoint: not a checkpoint with one signature")
    match = re.fullmatch("\u2014 ([!-*,-~]{1,127}) ([A-Za-z0-9+/]+={0,2})", lines[4])
    need(match and re.fullmatch("[!-*,-~]{1,127}", lines[0]) and re.fullmatch(U64, lines[1])
         and int(lines[1]) <= NUMBER_MAX, "checkpoint: malformed")
    root, payload = base64_strict(lines[2]), base64_strict(match.group(2))
    need(len(root) == 32 and len(payload) in (68, 76), "checkpoint: malformed")
    return {"text": "\n".join(lines[:3]).encode() + b"\n", "origin": lines[0],
            "size": int(lines[1]), "root": root, "name": match.group(1),
            "key_id": payload[:4], "signature": payload[4:]}


def parse_anchor(value):
    only(value, ("kind", "manifest", "number", "previous", "signature", "time"))
    need(value["kind"] == "local", "an anchor of unknown kind")
    return {"manifest": unhex(value["manifest"], 32).hex(), "number": number(value["number"]),
            "previous": unhex(value["previous"], 32).hex(), "time": number(value["time"]),
            "signature": unhex(value["signature"], 64)}


def parse_proof(raw):
    need(len(raw) <= PROOF_MAX, "a proof of %d bytes" % len(raw))
    value = parse_json(raw, Bad)
    again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    need(again.encode("utf-8", "replace") == raw, "not in canonical form")
    only(value, ("anchors", "checkpoint", "deposit", "format", "leaf", "signature"), ("range",))
    need(value["format"] == "stele.dev/proof/v1", "a proof of an unknown format")
    need(isinstance(value["anchors"], list) and 1 <= len(value["anchors"]) <= 4, "no anchors")
    need(isinstance(value["deposit"], str) and isinstance(value["checkpoint"], str), "not texts")
    leaf = only(value["leaf"], ("index", "path"))
    proof = {"text": value["deposit"].encode(), "deposit": parse_deposit(value["deposit"]),
             "signature": unhex(value["signature"], 64), "note": value["checkpoint"],
             "checkpoint": parse_checkpoint(value["checkpoint"]),
             "index": number(leaf["index"]), "path": hashes(leaf["path"], 64),
             "anchors": [parse_anchor(a) for a in value["anchors"]], "range": None}
    if "range" in value:
        part = only(value["range"], ("count", "first", "path"))
        proof["range"] = (number(part["first"]), number(part["count"]), hashes(part["path"], 128))
    return proof


def parse_policy(raw):
    value = only(parse_json(raw, Usage), ("anchor", "format", "require"),
                 ("chain", "cluster", "contract", "depositors", "log"), Usage)
    need(value["format"] == "stele.dev/policy/v1", "policy: an unknown format", Usage)
    need(value["anchor"] in ("local", "evm"), "policy: an unknown kind of anchor", Usage)
    for name in ("chain", "contract"):
        need((name in value) == (value["anchor"] == "evm"), "policy: %r is evm's" % name, Usage)
    need(isinstance(value["require"], list) and all(r in VERDICTS for r in value["require"]),
         "policy: \"require\" names verdicts", Usage)
    need(value["anchor"] == "evm" or "time" not in value["require"],
         "policy: a local anchor proves no time", Usage)
    log = value.get("log")
    if log is not None:
        only(log, ("id", "keys"), (), Usage)
        need(isinstance(log["keys"], list) and log["keys"], "policy: no log keys", Usage)
        log = (unhex(log["id"], 32, Usage), [unhex(k, 32, Usage) for k in log["keys"]])
    depositors = {}
    for d in value.get("depositors", []):
        only(d, ("key", "name", "role"), (), Usage)
        depositors.setdefault(unhex(d["key"], 32, Usage), (d["name"], d["role"]))
    return {"anchor": value["anchor"], "chain": value.get("chain"), "log": log,
            "cluster": unhex(value["cluster"], 32, Usage).hex() if "cluster" in value else None,
            "depositors": depositors, "require": value["require"]}


# ---- judging ----

def judge_bytes(proof, file):
    deposit, most = proof["deposit"], int(proof["deposit"]["length"])
    if file is None:
        return MISSING, "no file was given"
    whole, leaves, length, chunk = hashlib.sha256(), [], 0, file.read(CHUNK)
    while chunk and length <= most:
        whole.update(chunk)
        leaves.append(sha256(b"\x00", chunk))
        length += len(chunk)
        chunk = file.read(CHUNK)
    tree = bytes.fromhex(deposit["tree"])
    if proof["range"] is None:
        if length != most or "sha256:" + whole.hexdigest() != deposit["object"]:
            return FAILED, "the file is not the object that was deposited"
        if tree_root(leaves) != tree:
            return FAILED, "the deposit's tree is not the file's"
        return ESTABLISHED, "the file is %s, %d bytes, as deposited" % (deposit["object"], length)
    first, count, path = proof["range"]
    chunks = -(-most // CHUNK)
    start, end = first * CHUNK, min((first + count) * CHUNK, most)
    if count == 0 or first + count > chunks or length != end - start:
        return FAILED, "the file is not as long as the range, or the range is outside the object"
    rest = list(path)
    if range_root(leaves, first, 0, chunks, rest) != tree or rest:
        return FAILED, "the file is not bytes %d to %d of the deposited tree" % (start, end)
    return ESTABLISHED, ("the file is bytes %d to %d of the deposited tree; that the tree is %s's "
                         "is the depositor's signed claim" % (start, end, deposit["object"]))


def log_key_fault(proof, log_id, keys):
    c = proof["checkpoint"]
    if not any(c["name"] == c["origin"] and signature_ok(k, c["text"], c["signature"])
               and c["key_id"] == sha256(c["origin"].encode(), b"\n\x01", k)[:4] for k in keys):
        return "the log's key did not sign the checkpoint"
    for a in proof["anchors"]:
        body = ("stele.dev/anchor/v1\ncluster %s\nlogid %s\nnumber %d\nprevious %s\ncheckpoint %s\n"
                "manifest sha256:%s\ntime %d\n" % (
                    proof["deposit"]["cluster"], log_id.hex(), a["number"], a["previous"],
                    sha256(proof["note"].encode()).hex(), a["manifest"], a["time"])).encode()
        if not any(signature_ok(k, body, a["signature"]) for k in keys):
            return "the log's key did not sign the anchor"
    return None


def judge_log(proof, policy):
    c = proof["checkpoint"]
    entry = b"\x53\x4c\x01\x01" + sha256(b"stele.dev/leaf/v1\n", proof["text"], proof["signature"])
    if not path_ok(sha256(b"\x00", entry), proof["index"], c["size"], proof["path"], c["root"]):
        return FAILED, "the deposit is not the checkpoint's leaf"
    if policy and policy["cluster"] not in (None, proof["deposit"]["cluster"]):
        return FAILED, "the deposit is of another cluster than the policy's"
    if not policy or policy["log"] is None:
        return MISSING, "no policy says which log and keys to trust"
    log_id, keys = policy["log"]
    if sha256(b"stele.dev/logid/v1\n", c["origin"].encode(), b"\n") != log_id:
        return FAILED, "the checkpoint is of another log than the policy's"
    fault = log_key_fault(proof, log_id, keys)
    if fault:
        return FAILED, fault
    if policy["anchor"] != "local":
        return MISSING, "the policy asks for an anchor on %s" % policy["chain"]
    return ESTABLISHED, "leaf %d of %d in %s, recorded as anchor %d: the operator's word only" % (
        proof["index"], c["size"], c["origin"], proof["anchors"][0]["number"])


def judge_depositor(proof, policy):
    key = bytes.fromhex(proof["deposit"]["depositor"])
    if not signature_ok(key, proof["text"], proof["signature"]):
        return FAILED, "the deposit's signature does not hold"
    if not policy or key not in policy["depositors"]:
        return MISSING, "signed by key %s, which no policy names" % key.hex()
    name, role = policy["depositors"][key]
    return ESTABLISHED, "deposited by %s, holding the role %s (by the policy)" % (name, role)


def verify(raw, file=None, policy=None):
    """raw: the proof's bytes; file: open for reading bytes; policy: of parse_policy. Returns
    ({verdict: (state, text)}, exit code); raises Bad for what is no proof at all."""
    proof = parse_proof(raw)
    verdicts = {"bytes": judge_bytes(proof, file),
                "time": (MISSING, "a local anchor proves no time"),
                "log": judge_log(proof, policy), "depositor": judge_depositor(proof, policy)}
    failed = any(state == FAILED for state, _ in verdicts.values())
    met = all(verdicts[r][0] == ESTABLISHED for r in (policy["require"] if policy else ()))
    return verdicts, 5 if failed else 0 if met else 1


def main():
    parser = argparse.ArgumentParser(description="Verifies a Stele proof, offline.")
    parser.add_argument("proof")
    parser.add_argument("--file", help="the deposited file, or the range's bytes")
    parser.add_argument("--policy", help="whom to trust and what to require (JSON)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        with open(args.proof, "rb") as f:
            raw = f.read(PROOF_MAX + 1)
        policy = parse_policy(open(args.policy, "rb").read()) if args.policy else None
        verdicts, code = verify(raw, open(args.file, "rb") if args.file else None, policy)
        if code == 0 and not args.file and not policy:
            print("stele_verify: nothing is established: name the bytes with --file, and with --policy whom to trust",
                  file=sys.stderr)
            code = 1
    except (Usage, OSError) as e:
        print("stele_verify: %s" % e, file=sys.stderr)
        return 2
    except Bad as e:
        print("stele_verify: not a good proof: %s" % e, file=sys.stderr)
        return 5
    if args.json:
        print(json.dumps({v: {"state": s, "text": t} for v, (s, t) in verdicts.items()}, indent=1))
    else:
        for name in VERDICTS:
            print("%-10s %-16s %s" % (name, verdicts[name][0], verdicts[name][1]))
    return code


if __name__ == "__main__":
    sys.exit(main())
