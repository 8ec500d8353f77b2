"""Goal: nodes with several disks lose, replace and gain disks while they serve. A disk whose directory goes, or that cannot
be written, is fenced by itself; its node goes on with its others; repair restores the margin; an empty one is attached and
refilled; every byte stays readable, and every refusal says what to do."""
import os
import shutil
import subprocess
import time

from cluster import BIN, MIB, Case, blob, main, run, sha256


class Several(Case):
    nodes, code, options = 7, "rs-4-2", ("--disks", "3", "--heal", "3600")

    def slots(self, node):
        r = self.cluster.stele("status", "--json")
        self.assertIn(r.code, (0, 3), str(r))
        return r.json["nodes"][node - 1]["slots"]

    def states(self, node):
        return [s["state"] for s in self.slots(node)]

    def until(self, what, why):
        for _ in range(300):
            if what():
                return
            time.sleep(0.1)
        self.fail(why)

    def settle(self):
        """New disks have a voice once a repair has found nothing left to bring to them."""
        self.cluster.json("repair", "--wait")
        for node in range(1, self.nodes + 1):
            self.until(lambda: "refilling" not in self.states(node), "node %d is being refilled for ever" % node)

    def fill(self, n=6):
        self.objects = [blob(3 * MIB + i, seed=40 + i) for i in range(n)]
        for i, data in enumerate(self.objects):
            self.ok(self.cluster.put(self.cluster.file("f%d" % i, data)))

    def whole(self):
        for data in self.objects:
            self.assertTrue(self.ok(self.cluster.get(sha256(data))).out == data)

    def healthy(self):
        status = self.cluster.json("status")
        self.assertEqual((status["state"], status["margin"]), ("ok", 2))

    def attach(self, node, slot, *argv):
        return self.cluster.stele("node", "attach", node, slot, *argv)

    def detach(self, node, slot):
        return self.cluster.stele("node", "detach", node, slot)

    def busiest(self, node):
        slots = self.slots(node)
        return max(slots, key=lambda s: s["shards"])["slot"]

    def test_a_disk_that_vanishes_is_fenced_replaced_and_refilled(self):
        c = self.cluster
        self.settle()
        self.fill()
        for node in range(1, 8):
            self.assertGreater(sum(s["shards"] > 0 for s in self.slots(node)), 1, "shards are placed per disk")
        self.healthy()
        slot = self.busiest(3)
        held = self.slots(3)[slot]["shards"]
        self.assertGreater(held, 0)
        shutil.rmtree(c.disk(3, slot))
        self.until(lambda: self.states(3)[slot] == "fenced", "a disk without a directory is not fenced")
        self.assertIn(c.disk(3, slot).split("/")[-1], self.slots(3)[slot]["reason"])
        self.assertEqual([s for i, s in enumerate(self.states(3)) if i != slot], ["serving"] * 2)
        r = c.stele("status")
        self.assertEqual(r.code, 3, str(r))
        self.assertIn(b"fenced", r.out)
        self.whole()
        more = blob(2 * MIB, seed=99)
        c.put(c.file("more", more))
        self.objects.append(more)
        # Without it, back to full width on the others.
        repaired = c.json("repair", "--wait")
        self.assertEqual((repaired["margin_after"], repaired["degraded"]), (2, 0))
        self.whole()
        # There is nothing to attach yet; then there is, and it is told apart from a disk that is not mounted.
        self.one_line(self.attach(3, slot), 7, "not a directory", "attach")
        self.assertEqual(self.states(3)[slot], "missing")
        os.mkdir(c.disk(3, slot))
        self.ok(self.attach(3, slot))
        self.assertIn(self.states(3)[slot], ("refilling", "serving"))
        self.settle()
        self.assertEqual(self.states(3), ["serving"] * 3)
        self.healthy()
        self.whole()
        # Its shards are there again where its window says so: a new disk is no ornament.
        kept = blob(8 * MIB, seed=123)
        self.ok(c.put(c.file("kept", kept)))
        self.objects.append(kept)
        self.healthy()
        self.whole()

    def test_a_slot_whose_reason_is_no_text_is_named(self):
        """A path is bytes. A reply is JSON: what is no UTF-8 is replaced in it, and no slot is left out."""
        c = self.cluster
        ini = os.path.join(c.path, "node3", "steled.ini")
        with open(ini, "rb") as f:
            text = f.read()
        c.kill(3)
        with open(ini, "wb") as f:
            f.write(text.replace(b"dir = disk1\n", b"dir = disk\xff1\n"))
        c.start(3)
        r = c.stele("status", "--json")
        slots = r.json["nodes"][2]["slots"]
        self.assertEqual([s["slot"] for s in slots], [0, 1, 2], str(r))
        self.assertEqual(slots[1]["state"], "missing")
        self.assertIn("disk\ufffd1", slots[1]["reason"])
        self.assertIn("disk\ufffd1".encode(), c.stele("status").out)

    def test_a_disk_goes_and_comes_back_with_all_it_had(self):
        c = self.cluster
        self.settle()
        self.fill()
        slot = self.busiest(5)
        before = self.slots(5)[slot]
        self.ok(self.detach(5, slot))
        self.assertEqual(self.states(5)[slot], "missing")
        self.one_line(self.detach(5, slot), 4, "slot %d" % slot, "detached")
        self.whole()
        self.assertEqual(c.stele("status").code, 3)
        away = c.disk(5, slot) + ".away"  # as if unmounted: nothing of it is open any more
        os.rename(c.disk(5, slot), away)
        os.rename(away, c.disk(5, slot))
        self.ok(self.attach(5, slot))
        self.one_line(self.attach(5, slot), 1, "already")
        after = self.slots(5)[slot]
        self.assertEqual(after["state"], "serving")
        for field in ("disk", "shards", "records", "refs"):
            self.assertEqual(after[field], before[field], field)
        self.healthy()
        self.whole()
        under = 0
        # Puts go on while a disk comes and goes under them.
        for i in range(6):
            data = blob(96 * MIB, seed=300 + i)
            put = subprocess.Popen([os.path.join(BIN, "stele"), "put", c.file("under", data), "--cluster",
                                    os.path.join(c.path, "cluster.json")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self.ok(self.detach(2, i % 3))
            under += put.poll() is None
            self.ok(self.attach(2, i % 3))
            _, err = put.communicate(timeout=120)
            self.assertIn(put.returncode, (0, 3), err)  # 3: stored, by less than its full width
            self.objects.append(data)
        self.assertGreater(under, 0, "every put ended before its disk went: the test saw nothing")
        c.json("repair", "--wait")
        self.healthy()
        self.whole()

    def test_a_slot_that_was_missing_or_unknown_at_the_start(self):
        c = self.cluster
        self.settle()
        self.fill(3)
        c.kill(4)
        away = c.disk(4, 1) + ".away"
        os.rename(c.disk(4, 1), away)
        c.start(4)
        self.assertEqual(self.states(4), ["serving", "missing", "serving"])
        self.assertIn("not mounted", self.slots(4)[1]["reason"])
        os.rename(away, c.disk(4, 1))
        self.ok(self.attach(4, 1))
        self.assertEqual(self.states(4), ["serving"] * 3)
        # One that its configuration names only now.
        self.one_line(self.attach(4, 3), 2, "[disk 3]", "configuration")
        os.mkdir(c.disk(4, 3))
        with open(os.path.join(c.path, "node4", "steled.ini"), "a") as f:
            f.write("\n[disk 3]\ndir = disk3\n")
        self.ok(self.attach(4, 3))
        self.assertEqual(len(self.states(4)), 4)
        # Swapped disks are named, not served.
        self.ok(self.detach(4, 0))
        self.ok(self.detach(4, 2))
        a, b = c.disk(4, 0), c.disk(4, 2)
        os.rename(a, away)
        os.rename(b, a)
        os.rename(away, b)
        self.one_line(self.attach(4, 0), 7, "disk of slot 2", "swapped")
        os.rename(b, away)
        os.rename(a, b)
        os.rename(away, a)
        self.ok(self.attach(4, 0))
        self.ok(self.attach(4, 2))
        self.healthy()
        self.whole()

    def test_wrong_orders_say_what_is_wrong(self):
        self.one_line(self.attach(99, 0), 2, "no node 99")
        self.one_line(self.attach(1, 77), 2, "slot 77", "slots 0 to 15")
        self.one_line(self.detach(1, 16), 2, "slot 16", "slots 0 to 15")
        self.one_line(self.attach("x", 0), 2, "node's number")
        self.one_line(self.detach(1, "y"), 2, "slot's number")
        reader = os.path.join(self.cluster.path, "reader.key")
        self.one_line(self.cluster.stele("node", "detach", 1, 0, "--key", reader), 6)
        self.assertEqual(len(self.states(1)), 3)
        other = os.path.join(self.cluster.dir, "other")
        self.one_line(run(os.path.join(BIN, "stele"), "dev", "up", "--dir", other, "--disks", "17"), 2, "--disks", "1 to 16")


if __name__ == "__main__":
    main()
