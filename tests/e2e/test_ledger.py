"""Goal: real chain files go in byte for byte, every fact known of them is reproduced, corrupted ones are refused with nothing
kept, and single blocks come back by height and hash with two nodes down."""
import hashlib
import os
import random
import unittest

from cluster import BIN, Case, data, main, run, sha256

GENESIS = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"


def need(path):
    if not path:
        raise unittest.SkipTest("the sample files are not there (STELE_TEST_DATA)")
    return path


class Bitcoin(Case):
    def test_generated_chain(self):
        c = self.cluster
        path = os.path.join(c.dir, "blk00000.dat")
        mined = run(os.path.join(BIN, "stele-mine"), "--size", "4MiB", "-o", path)
        self.ok(mined)
        imported = c.json("ledger", "import", "--chain", "bitcoin-regtest", path)["files"][0]
        self.assertEqual((imported["level"], imported["first"]), ("linked", 0))
        again = c.json("ledger", "import", "--chain", "bitcoin-regtest", path)["files"][0]
        self.assertTrue(again["already"])
        self.assertEqual(len(c.json("ledger", "ls", "--chain", "bitcoin-regtest")["segments"]), 1)
        c.kill(1, 2)
        raw = open(path, "rb").read()
        height = imported["last"] // 2
        out = os.path.join(c.dir, "block")
        got = c.json("ledger", "get", "--chain", "bitcoin-regtest", "--height", str(height), "-o", out)
        block = open(out, "rb").read()
        self.assertIn(block, raw)
        digest = hashlib.sha256(hashlib.sha256(block[:80]).digest()).digest()[::-1].hex()
        self.assertEqual(got["hash"], digest)
        same = self.ok(c.stele("ledger", "get", "--chain", "bitcoin-regtest", "--hash", digest))
        self.assertEqual(same.out, block)
        r = c.stele("ledger", "get", "--chain", "bitcoin-regtest", "--height", "99999999", "--json", "-o", out)
        self.assertEqual((r.code, r.json["state"]), (4, "not-yet"))
        r = c.stele("ledger", "get", "--chain", "bitcoin-regtest", "--hash", "ab" * 32, "--json", "-o", out)
        self.assertEqual((r.code, r.json["state"]), (4, "unknown-hash"))

    def test_facts(self):
        c = self.cluster
        first = c.json("ledger", "import", "--chain", "bitcoin", need(data("bitcoin", "btcd-blk-0-to-4.dat")))
        f = first["files"][0]
        self.assertEqual((f["blocks"], f["level"], f["first"], f["last"]), (5, "linked", 0, 4))
        self.assertEqual(f["first_hash"], GENESIS)
        self.assertTrue(f["last_hash"].startswith("000000002f264d65") and f["last_hash"].endswith("128e"))
        f = c.json("ledger", "import", "--chain", "bitcoin", data("bitcoin", "mainnet-blocks-1-256.dat"))["files"][0]
        self.assertEqual((f["blocks"], f["length"], f["level"]), (255, 58731, "linked"))
        self.assertTrue(f["first_hash"].startswith("00000000839a8e68") and f["first_hash"].endswith("6048"))
        self.assertTrue(f["last_hash"].startswith("00000000d0a75c86") and f["last_hash"].endswith("fe3c"))
        f = c.json("ledger", "import", "--chain", "bitcoin", data("bitcoin", "mainnet-277647.dat"))["files"][0]
        self.assertEqual((f["blocks"], f["level"]), (1, "bound"))
        self.assertTrue(f["first_hash"].startswith("0000000000000000054a714e") and f["first_hash"].endswith("52a8"))
        block = self.ok(c.stele("ledger", "get", "--chain", "bip122:000000000019d6689c085ae165831e93", "--hash",
                                f["first_hash"])).out
        self.assertEqual(hashlib.sha256(hashlib.sha256(block[:80]).digest()).digest()[::-1].hex(), f["first_hash"])
        self.assertIn(b"The Times 03/Jan/2009", self.ok(c.stele("ledger", "get", "--chain", "bitcoin", "--height",
                                                                 "0")).out)

    def test_out_of_order_is_linked_later(self):
        c = self.cluster
        late = c.json("ledger", "import", "--chain", "bitcoin", need(data("bitcoin", "mainnet-blocks-1-256.dat")))
        self.assertEqual(late["files"][0]["level"], "bound")
        early = c.json("ledger", "import", "--chain", "bitcoin", data("bitcoin", "btcd-blk-0-to-4.dat"))
        self.assertEqual((early["files"][0]["level"], early["linked_now"]), ("linked", 1))
        got = c.stele("ledger", "get", "--chain", "bitcoin", "--height", "200", "--json", "-o",
                      os.path.join(c.dir, "b"))
        self.assertEqual(got.json["level"], "linked", str(got))

    def test_refused_files_leave_nothing(self):
        c = self.cluster
        raw = bytearray(open(need(data("bitcoin", "btcd-blk-0-to-4.dat")), "rb").read())
        rng = random.Random(1)
        bad = []
        for i in range(8):
            b = bytearray(raw)
            b[rng.randrange(8 + 4, 8 + 200)] ^= 1 << rng.randrange(8)
            bad.append(b)
        bad.append(raw[:len(raw) - 7])
        for i, b in enumerate(bad):
            r = c.stele("ledger", "import", "--chain", "bitcoin", c.file("bad%d.dat" % i, bytes(b)))
            self.one_line(r, 5, "bad%d.dat" % i, "block")
        self.one_line(c.stele("ledger", "import", "--chain", "bitcoin", c.file("x.dat", b"not a chain file" * 99)), 1)
        self.assertEqual(c.json("ledger", "ls", "--chain", "bitcoin")["segments"], [])
        self.assertEqual(c.json("status")["things"], 0, "nothing is kept of a refused file")


class Ethereum(Case):
    def test_era1(self):
        c = self.cluster
        a = need(data("ethereum", "mainnet-00000-5ec1ffb8.era1"))
        b = data("ethereum", "mainnet-00001-a5364e9a.era1")
        late = c.json("ledger", "import", "--chain", "ethereum", b)["files"][0]
        self.assertEqual((late["level"], late["blocks"], late["first"], late["last"]), ("bound", 8192, 8192, 16383))
        early = c.json("ledger", "import", "--chain", "eip155:1", a)
        f = early["files"][0]
        self.assertEqual((f["level"], f["blocks"], f["first"], f["last"], early["linked_now"]),
                         ("linked", 8192, 0, 8191, 1))
        with open(a, "rb") as f:
            digest = sha256(f.read())
        self.assertTrue(digest.startswith("9c3f42e0") and digest.endswith("eb9b"))
        c.kill(3, 8)
        out = os.path.join(c.dir, "era1")
        self.ok(c.get(digest, "-o", out))
        with open(out, "rb") as f, open(a, "rb") as g:
            self.assertTrue(f.read() == g.read())
        for height in (0, 1, 8191, 8192, 16383):
            r = c.stele("ledger", "get", "--chain", "ethereum", "--height", str(height), "--json", "-o",
                        os.path.join(c.dir, "b"))
            self.assertEqual((r.code, r.json["height"], r.json["level"]), (0, height, "linked"), str(r))
        raw = bytearray(open(a, "rb").read())
        raw[len(raw) // 2] ^= 4
        r = c.stele("ledger", "import", "--chain", "ethereum", c.file("mainnet-00000-5ec1ffb8.era1", bytes(raw)))
        self.one_line(r, 5)
        c.start(3, 8)
        r = c.stele("ledger", "import", "--chain", "sepolia", a)
        self.assertIn(r.code, (1, 5), str(r))
        self.one_line(r, r.code, os.path.basename(a))
        self.assertEqual(c.json("ledger", "ls", "--chain", "sepolia")["segments"], [])


if __name__ == "__main__":
    main()
