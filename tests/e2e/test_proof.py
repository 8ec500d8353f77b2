"""Goal: what is anchored can be proven to somebody else, offline, by both verifiers; what is not, is said; a changed byte
anywhere is caught."""
import json
import os
import sys

from cluster import BIN, Case, blob, main, run, sha256

VERIFY_PY = os.path.join(os.path.dirname(__file__), "..", "..", "tools", "stele_verify.py")


class Proofs(Case):
    def test_anchor_and_prove(self):
        c = self.cluster
        stele = os.path.join(BIN, "stele")
        files = [c.file("f%d" % i, blob(n, seed=i)) for i, n in enumerate((10, 70000, 3 << 20))]
        for f in files:
            self.ok(c.put(f))
        ids = [sha256(open(f, "rb").read()) for f in files]
        self.one_line(c.stele("proof", ids[0], "-o", os.path.join(c.dir, "p")), 1, "anchor now")
        now = c.json("anchor", "now")
        self.assertEqual((now["entered"], now["anchor"]["size"], now["anchor"]["state"]), (3, 3, "recorded"))
        self.assertEqual(c.json("anchor", "now")["entered"], 0)
        self.assertEqual(c.json("anchor", "status")["newest"]["size"], 3)
        late = c.file("late", b"late")
        self.ok(c.put(late))
        self.assertEqual(c.json("anchor", "now")["anchor"]["size"], 4)
        c.kill(4, 6)
        for f, ident in zip(files + [late], ids + [sha256(b"late")]):
            proof = os.path.join(c.dir, "proof")
            self.ok(c.stele("proof", ident, "-o", proof))
            out = self.ok(c.stele("proof", "verify", proof, "--file", f, "--json")).json
            self.assertEqual([out[v]["verdict"] for v in ("bytes", "log", "depositor", "time")],
                             ["established"] * 3 + ["not established"])
            wrong = c.file("wrong", open(f, "rb").read() + b"!")
            self.ok(c.stele("proof", "verify", proof, "--file", wrong), 5)
            raw = bytearray(open(proof, "rb").read())
            raw[len(raw) // 3] ^= 1
            broken = c.file("broken", bytes(raw))
            self.assertNotEqual(c.stele("proof", "verify", broken, "--file", f).code, 0)
            # nothing is trusted without a policy, and nobody is asked
            alone = run(stele, "proof", "verify", proof, "--file", f, "--json")
            self.assertEqual(alone.json["log"]["verdict"], "not established", str(alone))


if __name__ == "__main__":
    main()
