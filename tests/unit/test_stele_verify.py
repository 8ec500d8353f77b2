"""Goal: the second verifier gives the verdicts of tests/golden/proof/cases.json, which the first is held to as well
(test_proof.c), its Ed25519 is RFC 8032's and strict, and no changed byte of a proof passes it."""
import functools
import io
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", "..", "tools", "stele_verify.py")
GOLDEN = os.path.join(HERE, "..", "golden", "proof")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(TOOL))
import stele_verify as v  # noqa: E402


def load(name):
    with open(os.path.join(GOLDEN, name), "rb") as f:
        return f.read()


class Cases(unittest.TestCase):
    def test_verdicts(self):
        cases = json.loads(load("cases.json"))
        self.assertGreater(len(cases), 10)
        for c in cases:
            with self.subTest(c["name"]):
                file = io.BytesIO(load(c["file"])) if c["file"] else None
                policy = v.parse_policy(load(c["policy"])) if c["policy"] else None
                verdicts, code = v.verify(load(c["proof"]), file, policy)
                self.assertEqual({name: state for name, (state, _) in verdicts.items()},
                                 {name: c[name] for name in v.VERDICTS})
                self.assertEqual(code, c["exit"])

    def test_command_line(self):
        def run(*args):
            return subprocess.run([sys.executable, "-B", TOOL, *args], cwd=GOLDEN, capture_output=True, text=True)
        good = run("whole.json", "--file", "whole.bin", "--policy", "policy.json", "--json")
        self.assertEqual(good.returncode, 0, good.stderr)
        self.assertEqual(json.loads(good.stdout)["log"]["state"], "established")
        self.assertIn("the operator's word only", good.stdout)
        self.assertEqual(run("whole.json", "--file", "range.bin").returncode, 5)
        self.assertEqual(run("whole.json", "--policy", "policy.json").returncode, 1)
        self.assertEqual(run("nothing.json").returncode, 2)
        self.assertEqual(run("whole.json", "--policy", "whole.json").returncode, 2)
        bad = run("policy.json")
        self.assertEqual((bad.returncode, bad.stdout), (5, ""))
        self.assertEqual(len(bad.stderr.splitlines()), 1)

    def test_file_is_not_longer_or_shorter(self):
        for change in (lambda b: b + b"\0", lambda b: b[:-1], lambda b: b[1:], lambda b: b""):
            for name in ("whole", "range"):
                verdicts, code = v.verify(load(name + ".json"), io.BytesIO(change(load(name + ".bin"))))
                self.assertEqual((verdicts["bytes"][0], code), (v.FAILED, 5))


class Changes(unittest.TestCase):
    """Every position of the golden proofs. Signatures that did not change are looked up, not computed again."""

    def setUp(self):
        self.original = v.signature_ok
        v.signature_ok = functools.lru_cache(None)(v.signature_ok)

    def tearDown(self):
        v.signature_ok = self.original

    def change_everything(self, name):
        raw, data, policy = load(name + ".json"), load(name + ".bin"), v.parse_policy(load("policy.json"))
        self.assertEqual(v.verify(raw, io.BytesIO(data), policy)[1], 0)
        parsed = 0
        for i in range(len(raw)):
            for change in (0x01, 0x20):
                changed = raw[:i] + bytes([raw[i] ^ change]) + raw[i + 1:]
                try:
                    code = v.verify(changed, io.BytesIO(data), policy)[1]
                    parsed += 1
                except v.Bad:
                    code = 5
                self.assertEqual(code, 5, "byte %d ^ %#x of %s" % (i, change, name))
        self.assertGreater(parsed, 500)
        for cut in range(len(raw)):
            with self.assertRaises(v.Bad):
                v.verify(raw[:cut], io.BytesIO(data), policy)

    def test_whole(self):
        self.change_everything("whole")

    def test_range(self):
        self.change_everything("range")

    def test_other_spellings(self):
        raw = load("whole.json")
        value = json.loads(raw)
        for text in (json.dumps(value), json.dumps(value, sort_keys=True, separators=(",", ":")),
                     raw.decode() + "\n", " " + raw.decode(), raw.decode().replace('"index":5', '"index":5.0'),
                     raw.decode().replace('"index":5', '"index":NaN'), raw.decode().replace('"index":5', '"index":-5'),
                     raw.decode().replace('"index":5', '"index":true'),
                     raw.decode().replace('"format"', '"extra":1,"format"'),
                     raw.decode().replace('"format"', '"format":"stele.dev/proof/v1","format"'),
                     raw.decode().replace("\u2014", "\\ud800"), "[" * 100000, "[]", "null", ""):
            with self.assertRaises(v.Bad):
                v.verify(text.encode("utf-8"))


class Ed25519(unittest.TestCase):
    KEY = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    SIG = bytes.fromhex("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a")

    def test_rfc8032(self):
        self.assertTrue(v.signature_ok(self.KEY, b"\xaf\x82", self.SIG))
        self.assertFalse(v.signature_ok(self.KEY, b"\xaf\x83", self.SIG))
        self.assertFalse(v.signature_ok(self.KEY, b"\xaf\x82", self.SIG[:-1]))
        for i in range(0, 64, 3):
            changed = self.SIG[:i] + bytes([self.SIG[i] ^ 4]) + self.SIG[i + 1:]
            self.assertFalse(v.signature_ok(self.KEY, b"\xaf\x82", changed))

    def test_strict(self):
        s = int.from_bytes(self.SIG[32:], "little") + v.L
        self.assertFalse(v.signature_ok(self.KEY, b"\xaf\x82", self.SIG[:32] + s.to_bytes(32, "little")))
        neutral = (1).to_bytes(32, "little")
        self.assertFalse(v.signature_ok(neutral, b"x", neutral + bytes(32)))
        self.assertFalse(v.signature_ok((v.P + 1).to_bytes(32, "little"), b"x", neutral + bytes(32)))


class Trees(unittest.TestCase):
    def test_paths_and_ranges_of_small_trees(self):
        def root(leaves):  # RFC 9162, 2.1.1, as it is written there
            if len(leaves) < 2:
                return leaves[0] if leaves else v.sha256(b"")
            k = 1 << (len(leaves) - 1).bit_length() - 1
            return v.node_hash(root(leaves[:k]), root(leaves[k:]))

        def path(leaves, m):
            if len(leaves) == 1:
                return []
            k = 1 << (len(leaves) - 1).bit_length() - 1
            return path(leaves[:k], m) + [root(leaves[k:])] if m < k else path(leaves[k:], m - k) + [root(leaves[:k])]
        for n in range(0, 34):
            leaves = [v.sha256(bytes([i])) for i in range(n)]
            self.assertEqual(v.tree_root(leaves), root(leaves))
            for i in range(n):
                self.assertTrue(v.path_ok(leaves[i], i, n, path(leaves, i), root(leaves)))
                for j in range(n + 1):
                    self.assertEqual(v.path_ok(leaves[i], j, n, path(leaves, i), root(leaves)), i == j)


if __name__ == "__main__":
    unittest.main()
