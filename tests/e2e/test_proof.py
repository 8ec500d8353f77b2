"""Goal: what is anchored can be proven to somebody else, offline, by both verifiers; what is not, is said; a changed byte
anywhere is caught by both; and a log whose files were lost or damaged says so instead of starting another."""
import base64
import hashlib
import json
import os
import random
import sys

import forge
from cluster import BIN, Case, Cluster, blob, main, run, sha256

STELE = os.path.join(BIN, "stele")
VERIFY_PY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "stele_verify.py")


class Proofs(Case):
    def policy(self, **change):
        """What a verifier elsewhere would be told of this cluster: from its map, by hand."""
        with open(os.path.join(self.cluster.path, "cluster.json")) as f:
            lines = [line.split(" ") for line in json.load(f)["root"]["body"].splitlines()]
        log_key, origin = next(line[1:] for line in lines if line[0] == "log")
        writers = [line for line in lines if line[0] == "client" and "writer" in line[3].split(",")]
        policy = {
            "format": "stele.dev/policy/v1", "anchor": "local",
            "cluster": next(line[1] for line in lines if line[0] == "cluster"),
            "log": {"id": hashlib.sha256(b"stele.dev/logid/v1\n" + origin.encode() + b"\n").hexdigest(),
                    "keys": [log_key]},
            "depositors": [{"key": line[4], "name": line[1], "role": "writer"} for line in writers],
            "require": ["bytes", "log", "depositor"],
        }
        policy.update(change)
        return self.cluster.file("policy.json", json.dumps(policy).encode())

    def both(self, proof, path, policy=None):
        """Exit codes of the two verifiers, which know nothing of each other and of no cluster."""
        judge = ["--policy", policy] if policy else []
        return tuple(run(*argv, proof, "--file", path, *judge).code
                     for argv in ([STELE, "proof", "verify"], [sys.executable, "-B", VERIFY_PY]))

    def test_anchor_and_prove(self):
        c = self.cluster
        contents = [blob(n, seed=i) for i, n in enumerate((10, 70000, 3 << 20))]
        files = [c.file("f%d" % i, content) for i, content in enumerate(contents)]
        for f in files:
            self.ok(c.put(f))
        self.one_line(c.stele("proof", sha256(contents[0]), "-o", os.path.join(c.dir, "p")), 1, "anchor now")
        now = c.json("anchor", "now")
        self.assertEqual((now["entered"], now["anchor"]["size"], now["anchor"]["state"]), (3, 3, "recorded"))
        self.assertEqual(c.json("anchor", "now")["entered"], 0)
        self.assertEqual(c.json("anchor", "status")["newest"]["size"], 3)
        contents.append(b"late")
        files.append(c.file("late", b"late"))
        self.ok(c.put(files[-1]))
        self.assertEqual(c.json("anchor", "now")["anchor"]["size"], 4)
        c.kill(4, 6)
        policy = self.policy()
        for f, content in zip(files, contents):
            proof = os.path.join(c.dir, "proof")
            self.ok(c.stele("proof", sha256(content), "-o", proof))
            out = self.ok(c.stele("proof", "verify", proof, "--file", f, "--json")).json
            self.assertEqual([out[v]["verdict"] for v in ("bytes", "log", "depositor", "time")],
                             ["established"] * 3 + ["not established"])
            self.assertEqual(self.both(proof, f, policy), (0, 0))
            for wrong in (content + b"!", content[:-1], b"", b"\1" + content[1:]):
                wrong = c.file("wrong", wrong)
                self.one_line(c.stele("proof", "verify", proof, "--file", wrong), 5)
                self.assertEqual(self.both(proof, wrong, policy), (5, 5))
            # nothing is trusted without a policy, and nobody is asked
            for env in ({}, {"STELE_CLUSTER": ""}):
                alone = self.ok(run(STELE, "proof", "verify", proof, "--file", f, "--json", env=env))
                self.assertEqual(alone.json["log"]["verdict"], "not established", str(alone))
            for argv in ([STELE, "proof", "verify"], [sys.executable, "-B", VERIFY_PY]):
                self.one_line(run(*argv, proof), 1, "nothing is established", "--file", "--policy")
            by_pipe = run(STELE, "proof", "verify", proof, "--file", "-", "--policy", policy, stdin=content)
            self.ok(by_pipe)

    def test_the_default_cluster_file(self):
        """A machine whose /etc/stele/cluster.json is there needs neither --cluster nor the variable, for any command."""
        c = self.cluster
        own_etc = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                   'mount -t tmpfs none /etc && mkdir /etc/stele && cp "$0"/cluster.json "$0"/client.key /etc/stele && "$@"',
                   c.path]
        if run(*own_etc, "true").code != 0:
            self.skipTest("no mount namespaces here")
        f, proof = c.file("f", b"content"), os.path.join(c.dir, "proof")
        self.ok(c.put(f))
        self.ok(c.stele("anchor", "now"))
        self.ok(c.stele("proof", sha256(b"content"), "-o", proof))
        for env in ({}, {"STELE_CLUSTER": ""}):
            self.ok(run(*own_etc, STELE, "ls", env=env))
            out = self.ok(run(*own_etc, STELE, "proof", "verify", proof, "--file", f, "--json", env=env)).json
            self.assertEqual(out["log"]["verdict"], "established", out)

    def test_changed_proofs_and_policies(self):
        c = self.cluster
        for seed in range(2, 8):  # so that the leaf has a path to the root
            self.ok(c.put(c.file("g", blob(100, seed))))
        f = c.file("f", blob(70000))
        self.ok(c.put(f))
        self.ok(c.stele("anchor", "now"))
        path = os.path.join(c.dir, "proof")
        self.ok(c.stele("proof", sha256(blob(70000)), "-o", path))
        with open(path, "rb") as p:
            proof = p.read()
        policy, rng = self.policy(), random.Random(3)
        broken = [bytes(proof[:at] + bytes([proof[at] ^ 1 << rng.randrange(7)]) + proof[at + 1:])
                  for at in range(rng.randrange(40), len(proof), 40)]
        broken += [b"", proof[:-1], proof[:len(proof) // 2], proof + b" ", proof + proof, b" " + proof, b"null", b"[" * 9999,
                   b"x" * 300000]
        for b in broken:
            b = c.file("broken", b)
            codes = self.both(b, f, policy)
            self.assertTrue(codes == (5, 5) or codes == (1, 5), codes)
            r = run(STELE, "proof", "verify", b, "--file", f, "--policy", policy)
            self.one_line(r, r.code)
            self.assertEqual(r.out.count(b"FAILED") > 0, bool(r.out), str(r))
        other = "ab" * 32
        for change, codes in (({"require": []}, (0, 0)), ({"cluster": other}, None), ({"require": ["time"]}, (2, 2)),
                              ({"log": {"id": other, "keys": [other]}}, None), ({"depositors": []}, None),
                              ({"anchor": "paper"}, (2, 2)), ({"format": "v9"}, (2, 2)), ({"extra": 1}, (2, 2))):
            got = self.both(path, f, self.policy(**change))
            self.assertEqual(got[0], got[1], change)
            self.assertEqual(got, codes or got, change)
            self.assertEqual(got == (0, 0), codes == (0, 0), change)
        for bad in (b"", b"{", b"\0", b"x" * (2 << 20)):
            r = run(STELE, "proof", "verify", path, "--policy", c.file("bad", bad))
            self.assertIn(r.code, (1, 2), str(r))
            self.one_line(r, r.code, "bad")
        self.one_line(run(STELE, "proof", "verify", path, "--policy", "/no/such"), 2, "/no/such")

    def in_another_log(self, proof, **lines):
        """Of a deposit with some lines changed, in a log that a forger made: every hash is right, no signature is."""
        p = json.loads(proof)
        text = "".join("%s %s\n" % (name, lines.get(name, value)) if value else name + "\n"
                       for name, _, value in (line.partition(" ") for line in p["deposit"].splitlines()))
        leaf = hashlib.sha256(b"stele.dev/leaf/v1\n" + text.encode() + bytes.fromhex(p["signature"])).digest()
        root = hashlib.sha256(b"\0\x53\x4c\x01\x01" + leaf).digest()
        note = p["checkpoint"].split("\n")
        note[1:3] = ["1", base64.b64encode(root).decode()]
        p.update(deposit=text, leaf={"index": 0, "path": []}, checkpoint="\n".join(note))
        return self.cluster.file("forged", json.dumps(p, sort_keys=True, separators=(",", ":"),
                                                      ensure_ascii=False).encode())

    def test_forged_proofs(self):
        c = self.cluster
        content = blob(70000)
        f = c.file("f", content)
        self.ok(c.put(f))
        self.ok(c.put(c.file("g", b"another")))
        self.ok(c.stele("anchor", "now"))
        path = os.path.join(c.dir, "proof")
        self.ok(c.stele("proof", sha256(content), "-o", path))
        with open(path, "rb") as p:
            proof = p.read()
        policy = self.policy()
        self.assertEqual(self.both(self.in_another_log(proof), f), (0, 0), "without a policy any log will do")
        self.assertEqual(self.both(self.in_another_log(proof), f, policy), (5, 5), "with one it must be that log's key")
        for lines in ({"time": "1"}, {"depositor": "ab" * 32}, {"pool": "ledger"}, {"nonce": "00" * 32}):
            forged = self.in_another_log(proof, **lines)
            self.assertEqual(self.both(forged, f), (5, 5), lines)
            r = run(STELE, "proof", "verify", forged, "--file", f, "--json")
            self.assertEqual((r.json["bytes"]["verdict"], r.json["log"]["verdict"], r.json["depositor"]["verdict"]),
                             ("established", "not established", "FAILED"), lines)
        other = blob(70000, seed=2)
        forged = self.in_another_log(proof, object="sha256:" + sha256(other))
        self.assertEqual(self.both(forged, c.file("g", other)), (5, 5), "another file in its place")

    def test_log_files(self):
        """log.head and anchors.local: what a second start finds damaged or gone is refused, and mended by putting it back."""
        c = self.cluster
        self.ok(c.put(c.file("f", blob(100))))
        self.ok(c.stele("anchor", "now"))
        self.ok(c.put(c.file("g", blob(200))))
        other = Cluster(1, "rep-1")
        self.addCleanup(other.down)
        self.ok(other.put(other.file("f", blob(100))))
        self.ok(other.stele("anchor", "now"))
        for name in ("log.head", "anchors.local"):
            path = os.path.join(c.path, name)
            with open(path, "rb") as f:
                kept = f.read()
            with open(os.path.join(other.path, name), "rb") as f:
                others = f.read()
            for bad in (b"", b"garbage\n" * 20, kept[:len(kept) // 2], bytes([kept[0] ^ 1]) + kept[1:], others, None):
                if bad is None:
                    os.unlink(path)
                else:
                    with open(path, "wb") as f:
                        f.write(bad)
                r = c.stele("anchor", "now")
                self.assertNotIn(r.code, (0, 3), "%s %r: %s" % (name, bad and bad[:20], r))
                self.one_line(r, r.code, name)
                if name == "anchors.local":
                    r = c.stele("proof", sha256(blob(100)), "-o", os.path.join(c.dir, "p"))
                    self.assertNotIn(r.code, (0, 4), str(r))
                    self.one_line(r, r.code, name)
                with open(path, "wb") as f:
                    f.write(kept)
        self.assertEqual(c.json("anchor", "now")["anchor"]["size"], 2)

    def test_damaged_copies(self):
        """One bad copy of a record, whichever it is, is no reason not to anchor or not to prove."""
        c = self.cluster
        contents = [blob(100, seed) for seed in range(9)]
        for i, content in enumerate(contents):
            self.ok(c.put(c.file("f%d" % i, content)))
        c.kill(*range(1, 9))
        damaged = set()
        for node in range(8, 0, -1):
            for record in forge.records(c.disk(node)):
                if record.name not in damaged:
                    forge.change_signature(record)
                    damaged.add(record.name)
        self.assertEqual(damaged, {sha256(content) for content in contents})
        c.start(*range(1, 9))
        now = c.json("anchor", "now")
        self.assertEqual((now["entered"], now["rejected"]), (9, 0))
        for i, content in enumerate(contents):
            proof = os.path.join(c.dir, "proof%d" % i)
            self.ok(c.stele("proof", sha256(content), "-o", proof))
            self.assertEqual(self.both(proof, os.path.join(c.dir, "f%d" % i), self.policy()), (0, 0))

    def test_many_deposits_of_one_object(self):
        """They are entered together; those that are too many to be looked at are counted, not passed over in silence."""
        c = self.cluster
        f = c.file("f", b"again and again")
        self.ok(c.stele("put", *[f] * 300))
        self.assertEqual(c.json("anchor", "now")["entered"], 300)
        g = c.file("g", b"and again")
        self.ok(c.stele("put", *[g] * 1064))
        r = c.stele("anchor", "now")
        self.one_line(r, 3, "40 deposits")
        self.assertIn(b"1024 deposits entered", r.out)
        self.ok(c.stele("proof", sha256(b"again and again"), "-o", os.path.join(c.dir, "proof")))

    def test_too_few_nodes(self):
        """An anchor covers every put, so it waits for the nodes that may know of one."""
        c = self.cluster
        self.ok(c.put(c.file("f", blob(100))))
        c.kill(1, 2, 3)
        r = c.stele("anchor", "now")
        self.one_line(r, 7, "nodes")
        c.start(1, 2, 3)
        self.assertEqual(c.json("anchor", "now")["entered"], 1)


if __name__ == "__main__":
    main()
