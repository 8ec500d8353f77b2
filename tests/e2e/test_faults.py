"""Goal: disks and processes fail in the middle of things, and nothing acknowledged is lost. An emptied disk is recognised
and refilled; a flipped bit, and a disk whose checksums lie, are served around, named by scrub and repaired; a client or a node killed in the middle of a
put leaves the whole object or leftovers that are collected; an index that is gone is rebuilt."""
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

import forge
from cluster import BIN, MIB, Case, blob, main, sha256


class Disks(Case):
    def test_emptied_disk_is_refilled(self):
        c = self.cluster
        data = blob(9 * MIB, seed=1)
        small = blob(500, seed=2)
        for name, d in (("f", data), ("g", small)):
            self.ok(c.put(c.file(name, d)))
        c.json("repair", "--wait")
        held = c.json("status")["nodes"][3]["slots"][0]["shards"]
        c.kill(4, 6, 7, 8)
        shutil.rmtree(c.disk(4))
        os.mkdir(c.disk(4))
        c.start(4)
        slot = c.json("status", code=7)["nodes"][3]["slots"][0]
        self.assertEqual((slot["state"], slot["shards"]), ("refilling", 0), "with others away it cannot be over")
        c.start(6, 7, 8)
        c.json("repair", "--wait")
        status = c.json("status")
        self.assertEqual([n["slots"][0]["state"] for n in status["nodes"]], ["serving"] * 8)
        self.assertEqual((status["state"], status["margin"]), ("ok", 2))
        self.assertEqual(status["nodes"][3]["slots"][0]["shards"], held)
        for d in (data, small):
            self.assertTrue(self.ok(c.get(sha256(d))).out == d)

    def flip(self, data):
        """Finds an object's own bytes in an extent of some node, and flips one bit of them."""
        rng = random.Random(5)
        for node in (2, 6):
            for path in self.cluster.extents(node):
                with open(path, "r+b") as f:
                    raw = f.read()
                    for off in rng.sample(range(0, len(data) - 64, 65536), 64):
                        at = raw.find(data[off:off + 64])
                        if at >= 0:
                            f.seek(at)
                            f.write(bytes([raw[at] ^ (1 << rng.randrange(8))]))
                            return
        self.fail("no data shard found on the nodes looked at")

    def test_flipped_bits_are_found_and_repaired(self):
        c = self.cluster
        # One is read while its bit is wrong, and may be repaired before the scrub comes to it; of the other nobody knows.
        read, unread = blob(24 * MIB, seed=3), blob(24 * MIB, seed=4)
        for data in (read, unread):
            self.ok(c.put(c.file("f", data)))
            self.flip(data)
        self.assertTrue(self.ok(c.get(sha256(read))).out == read)
        scrub = c.json("scrub", "--wait")
        self.assertGreaterEqual(scrub["victims"], 1, scrub)
        self.assertTrue(any(victim["node"] in (2, 6) for victim in scrub["named"]), scrub)
        for victim in scrub["named"]:
            self.assertIn(victim["node"], (2, 6))
        status = c.json("status")
        self.assertEqual((status["state"], status["margin"]), ("ok", 2))
        self.assertEqual(c.json("scrub", "--deep", "--wait")["victims"], 0, "all were replaced")
        for data in (read, unread):
            self.assertTrue(self.ok(c.get(sha256(data))).out == data)

    def test_a_disk_that_lies(self):
        """Every checksum on it holds; only the SHA-256 of one cell does not."""
        c = self.cluster
        data = blob(9 * MIB, seed=6)
        self.ok(c.put(c.file("f", data)))

        def lie(cell):
            """On the node of data shard 0. What `named` is to say of it."""
            node, found = next((n, s) for n in range(1, 9) for s in forge.shards(c.disk(n)) if s.index == 0)
            c.kill(node)
            forge.change_cell(found, cell)
            c.start(node)
            return [(node, found.name, 0)]

        def scrub(*options):
            return [(v["node"], v["id"], v["index"]) for v in c.json("scrub", "--wait", *options)["named"]]
        victim = lie(3)
        self.assertEqual(scrub(), [], "its CRCs hold")
        self.assertEqual(scrub("--deep"), victim)
        self.assertEqual(scrub("--deep"), [], "it was replaced")
        victim = lie(20)
        out = os.path.join(c.dir, "out")
        self.assertEqual(c.json("get", sha256(data), "-o", out)["shards_bad"], 1)
        with open(out, "rb") as f:
            self.assertTrue(f.read() == data)
        self.assertEqual(c.json("repair", "--wait")["margin_after"], 2)
        self.assertEqual(scrub("--deep"), [], "reading it was enough to have it replaced")
        self.assertEqual(c.json("status")["margin"], 2)

    def test_records_that_lie(self):
        """A deposit whose signature does not hold is as if it were not there."""
        c = self.cluster
        data = blob(300000, seed=7)
        ident = sha256(data)
        self.ok(c.put(c.file("f", data)))
        holders = [n for n in range(1, 9) for r in forge.records(c.disk(n)) if r.name == ident]
        self.assertEqual(len(holders), 3)
        for n, node in enumerate(holders):
            self.assertTrue(self.ok(c.get(ident)).out == data, "%d of 3 records hold" % (3 - n))
            c.kill(node)
            forge.change_signature(next(r for r in forge.records(c.disk(node)) if r.name == ident))
            c.start(node)
        out = os.path.join(c.dir, "out")
        for argv in (["get", ident, "-o", out], ["get", ident, "--range", "0:1"], ["stat", ident], ["verify", ident]):
            self.one_line(c.stele(*argv), 5, "not signed by a depositor")
        self.assertFalse(os.path.exists(out))

    def test_index_gone(self):
        c = self.cluster
        data = blob(9 * MIB, seed=4)
        self.ok(c.put(c.file("f", data)))
        for node in (1, 2):  # what is there by now lies in sealed extents, what comes in the open one
            c.kill(node)
            c.start(node)
        more = blob(9 * MIB, seed=5)
        self.ok(c.put(c.file("g", more)))
        before = [n["slots"][0]["shards"] for n in c.json("status")["nodes"]]
        for node in (1, 2, 3):
            c.kill(node)
            index = [p for p in os.listdir(c.disk(node)) if os.path.isdir(os.path.join(c.disk(node), p))]
            self.assertTrue(index, "the index is a directory in the disk's")
            for p in index:
                if not any("extent" in n for n in os.listdir(os.path.join(c.disk(node), p))):
                    shutil.rmtree(os.path.join(c.disk(node), p))
            c.start(node)
        after = c.json("status")
        self.assertEqual([n["slots"][0]["shards"] for n in after["nodes"]], before)
        self.assertEqual(after["margin"], 2)
        c.kill(7, 8)
        for d in (data, more):
            self.assertTrue(self.ok(c.get(sha256(d))).out == d)


class Silence(Case):
    """What only silent disks hold is in no inventory: nothing may be claimed of it."""
    code, options = "rep-2", ("--heal", "3600")

    def unknown(self):
        c = self.cluster
        status = c.json("status", code=3)
        self.assertEqual(status["state"], "unknown", status)
        self.assertGreater(sum(p["groups_blind"] + p["groups_unseen"] for p in status["pools"]), 0)
        text = self.ok(c.stele("status"), 3)
        self.assertIn(b"state: unknown", text.out)
        self.assertNotIn(b"survives", text.out)
        self.one_line(text, 3, "placement groups", "do not answer")
        for words in (["repair", "--wait"], ["scrub", "--wait"]):
            self.ok(c.stele(*words), 3)
        return status

    def test_all_holders_silent(self):
        c = self.cluster
        c.json("repair", "--wait")
        data = blob(300000, seed=8)
        self.ok(c.put(c.file("f", data)))
        holders = [n for n in range(1, 9) if forge.shards(c.disk(n))]
        records = [n for n in range(1, 9) if n not in holders and forge.records(c.disk(n))]
        self.assertEqual(len(holders), 2)
        c.kill(holders[0])
        status = c.json("status", code=3)
        self.assertEqual((status["state"], status["margin"]), ("degraded", 0), "one disk has all of nothing")
        c.kill(holders[1])
        self.assertEqual(c.get(sha256(data)).code, 7)
        self.unknown()
        c.kill(*records)
        self.unknown()
        c.start(*holders, *records)
        self.ok(c.stele("repair", "--wait"))
        status = c.json("status")
        self.assertEqual((status["state"], status["margin"]), ("ok", 1))
        self.assertTrue(self.ok(c.get(sha256(data))).out == data)
        # One alone hides nothing; but what is on it is not scrubbed.
        c.kill(holders[0])
        self.assertEqual(c.json("repair", "--wait")["silent"], [holders[0]])
        self.assertEqual(c.json("status")["state"], "ok")
        for words in (["scrub", "--wait"], ["scrub"]):
            self.one_line(c.stele(*words), 3, "not scrubbed", "nodes %d" % holders[0])
        self.assertEqual(c.json("scrub", "--wait", code=3)["silent"], [holders[0]])


class Kills(Case):
    options = ("--collect-age", "2")

    def leftovers(self):
        return sum(n["collect"]["waiting"] for n in self.cluster.json("status")["nodes"])

    def test_client_killed_in_the_middle(self):
        c = self.cluster
        kept = blob(5 * MIB, seed=10)
        self.ok(c.put(c.file("kept", kept)))
        whole = absent = 0
        for i in range(12):
            data = blob(48 * MIB, seed=100 + i)
            path = c.file("big", data)
            p = subprocess.Popen([os.path.join(BIN, "stele"), "put", path, "--cluster",
                                  os.path.join(c.path, "cluster.json")], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
            time.sleep(0.02 + 0.03 * i)
            p.send_signal(signal.SIGKILL)
            p.wait()
            r = c.get(sha256(data))
            self.assertIn(r.code, (0, 4), str(r.err))
            if r.code == 0:
                whole += 1
                self.assertTrue(r.out == data)
            else:
                absent += 1
        self.assertGreater(absent, 0, "every put ended before its kill: the test saw nothing")
        # Leftovers go once they are old enough; what is referenced stays.
        deadline = time.time() + 90
        expected = 6 * (1 + 3 * whole)
        while time.time() < deadline:
            shards = sum(n["slots"][0]["shards"] for n in c.json("status")["nodes"])
            if shards <= expected:
                break
            time.sleep(1)
        self.assertEqual(shards, expected, "leftovers were not collected, or more than they")
        self.assertTrue(self.ok(c.get(sha256(kept))).out == kept)
        self.assertEqual(c.json("status")["margin"], 2)

    def test_node_killed_in_the_middle(self):
        c = self.cluster
        for i in range(4):
            data = blob(64 * MIB, seed=200 + i)
            path = c.file("big", data)
            p = subprocess.Popen([os.path.join(BIN, "stele"), "put", path, "--cluster",
                                  os.path.join(c.path, "cluster.json")], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
            time.sleep(0.05 + 0.05 * i)
            node = 1 + 2 * i % 8
            c.kill(node)
            _, err = p.communicate(timeout=120)
            self.assertIn(p.returncode, (0, 3), err)
            self.assertTrue(self.ok(c.get(sha256(data))).out == data)
            c.start(node)
            c.json("repair", "--wait")
            self.assertEqual(c.json("status")["margin"], 2)


if __name__ == "__main__":
    main()
