"""Goal: a node knows its disks. One that was put back to an earlier state, swapped with another, emptied, left unmounted,
taken from another cluster or is in use already is recognised and named, and is refused or refilled: nothing acknowledged
is lost by it, nothing is written to a disk that does not belong there."""
import os
import re
import shutil
import subprocess
import time

import cluster as c


class Identity(c.Case):
    nodes, code = 4, "rep-3"

    def setUp(self):
        super().setUp()
        self.objects = []

    def node(self, n):
        return os.path.join(self.cluster.path, "node%d" % n)

    def put(self, *sizes):
        for size in sizes:
            data = c.blob(size, seed=1000 + len(self.objects))
            self.ok(self.cluster.put(self.cluster.file("in", data)))
            self.objects.append(data)

    def all_there(self):
        for data in self.objects:
            self.assertTrue(self.ok(self.cluster.get(c.sha256(data))).out == data)

    def read(self, n, name):
        with open(os.path.join(self.node(n), name)) as f:
            return f.read()

    def log(self, n):
        return self.read(n, "log")

    def slot(self, n):
        r = self.cluster.stele("status", "--json")
        self.assertIn(r.code, (0, 3, 7), str(r))
        return r.json["nodes"][n - 1]["slots"][0]

    def held(self, n):
        slot = self.slot(n)
        return slot["shards"], slot["records"], slot["refs"]

    def repair(self):
        """Until the cluster is whole and no disk is being refilled."""
        for _ in range(60):
            self.cluster.json("repair", "--wait")
            if all(self.slot(n)["state"] == "serving" for n in range(1, self.nodes + 1)):
                status = self.cluster.json("status")
                self.assertEqual((status["state"], status["margin"]), ("ok", 2))
                return
            time.sleep(0.2)
        self.fail("still refilling: %s" % [self.slot(n) for n in range(1, self.nodes + 1)])

    def refused(self, n, *words):
        """The node does not start; its last line says why."""
        r = self.cluster.dev("start", n)
        self.assertNotEqual(r.code, 0, str(r))
        self.assertIn("no disk can be used", r.err)
        for word in words:
            self.assertIn(word, r.err)
        return r

    def tree(self, path):
        """Everything below it, to see that nothing was changed."""
        found = {}
        for top, _, names in os.walk(path):
            for name in names:
                with open(os.path.join(top, name), "rb") as f:
                    found[os.path.join(top, name)] = c.sha256(f.read())
        return found


class Stale(Identity):
    def restore(self, what, kept):
        shutil.rmtree(what)
        shutil.copytree(kept, what)

    def test_a_disk_put_back_is_named_and_made_whole(self):
        """The node's own memory of its slots says that the disk is older than it was."""
        self.put(300000, 500)
        self.repair()
        self.cluster.kill(2)
        kept = os.path.join(self.cluster.dir, "kept")
        shutil.copytree(self.cluster.disk(2), kept)
        self.cluster.start(2)
        self.put(400000, 70000, 600)
        self.repair()
        held = self.held(2)
        self.cluster.kill(2)
        self.restore(self.cluster.disk(2), kept)
        self.cluster.start(2)
        self.assertRegex(self.log(2), r"slot 0: .*disk0 is older than when last seen .*: a stale snapshot; it removes nothing until reconciled")
        self.repair()
        self.assertEqual(self.held(2), held)
        self.assertEqual(self.log(2).count("is older than when last seen"), 1)
        self.assertIn("slot 0: refilled", self.log(2).rsplit("stale snapshot", 1)[1])
        self.cluster.kill(1, 3)
        self.all_there()

    def test_a_whole_machine_put_back_is_named_by_its_peers(self):
        """Disk and node directory both go back: only the other nodes remember."""
        self.put(300000, 500)
        self.repair()
        self.cluster.kill(2)
        kept = os.path.join(self.cluster.dir, "kept")
        shutil.copytree(self.node(2), kept)
        self.cluster.start(2)
        self.put(400000, 70000, 600)
        self.repair()  # its rounds are what the others hear from
        held = self.held(2)
        self.cluster.kill(2)
        self.restore(self.node(2), kept)
        self.cluster.start(2)
        self.repair()
        log = self.log(2)
        self.assertRegex(log, r"slot 0: a stale snapshot: node [134] remembers its disk at LSN \d+ \(incarnation 2\), "
                              r"it is at LSN \d+ \(incarnation 2\); it removes nothing until reconciled")
        self.assertIn("slot 0: refilled", log.rsplit("stale snapshot", 1)[1])
        self.assertEqual(self.held(2), held)
        self.assertEqual(self.slot(2)["reason"], "")
        said = log.count("stale snapshot")
        self.put(1000)
        self.cluster.kill(2)  # what it was told it does not take for news again, nor do the others repeat it
        self.cluster.start(2)
        self.repair()
        self.repair()
        self.assertEqual(self.log(2).count("stale snapshot"), said)
        self.cluster.kill(1, 3)
        self.all_there()

    def test_peers_remember_over_a_restart(self):
        self.put(300000)
        self.repair()
        self.ok(self.cluster.dev("down"))
        kept = os.path.join(self.cluster.dir, "kept")
        shutil.copytree(self.node(2), kept)
        self.cluster.start(1, 2, 3, 4)
        self.put(400000, 700)
        self.repair()
        self.ok(self.cluster.dev("down"))
        self.restore(self.node(2), kept)
        self.cluster.start(1, 2, 3, 4)
        self.repair()
        self.assertIn("a stale snapshot: node ", self.log(2))
        self.all_there()


class Wrong(Identity):
    def test_swapped_disks_are_named_and_left_alone(self):
        self.put(300000, 500)
        self.repair()
        self.cluster.kill(1, 2)
        one, two = self.cluster.disk(1), self.cluster.disk(2)
        uuid = {n: re.search("slot 0 disk ([0-9a-f]{32})", self.read(n, "slots"))[1] for n in (1, 2)}

        def swap():
            os.rename(one, one + ".x")
            os.rename(two, one)
            os.rename(one + ".x", two)
        swap()
        self.refused(1, "holds disk " + uuid[2], "disk %s was here before" % uuid[1], "swapped?")
        self.refused(2, "holds disk " + uuid[1], "disk %s was here before" % uuid[2], "swapped?")
        swap()
        self.cluster.start(1, 2)
        self.repair()
        self.all_there()

    def test_a_disk_of_another_cluster_is_refused(self):
        other = c.Cluster(3, "rep-2")
        self.addCleanup(other.down)
        self.put(300000)
        self.repair()
        self.cluster.kill(1)
        other.kill(1)
        kept = self.cluster.disk(1) + ".x"
        os.rename(self.cluster.disk(1), kept)
        shutil.copytree(other.disk(1), self.cluster.disk(1))
        before = self.tree(self.cluster.disk(1))
        self.refused(1, "another cluster")
        self.assertEqual(self.tree(self.cluster.disk(1)), before)
        shutil.rmtree(self.cluster.disk(1))
        os.rename(kept, self.cluster.disk(1))
        self.cluster.start(1)
        self.repair()
        self.all_there()

    def test_an_emptied_disk_is_refilled_where_it_was(self):
        self.put(300000, 500)
        self.repair()
        held = self.held(3)
        self.cluster.kill(3)
        shutil.rmtree(self.cluster.disk(3))
        os.mkdir(self.cluster.disk(3))
        self.cluster.start(3)
        self.assertIn("disk0 was emptied: formatted anew under the node's old identity", self.log(3))
        self.repair()
        self.assertEqual(self.held(3), held)
        self.assertNotIn("stale", self.log(3))
        self.all_there()

    def test_an_empty_mount_point_is_not_filled(self):
        """What is empty and lies on another file system than the disk did is a disk that was not mounted."""
        self.put(300000)
        self.repair()
        self.cluster.kill(3)
        disk, kept = self.cluster.disk(3), self.cluster.disk(3) + ".x"
        os.rename(disk, kept)
        self.refused(3, "not a directory", "not mounted?")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode == 0
        slots = os.path.join(self.node(3), "slots")
        text = self.read(3, "slots")
        if mounted:
            self.addCleanup(subprocess.run, ["umount", disk], capture_output=True)
        else:  # not ours to mount: another file system was recorded instead
            with open(slots, "w") as f:
                f.write(re.sub(r" fs \d+ ", " fs 1 ", text))
        self.refused(3, "is empty and lies on another file system than before: not mounted?")
        self.assertEqual(os.listdir(disk), [])
        if mounted:
            self.assertEqual(subprocess.run(["umount", disk]).returncode, 0)
        else:
            with open(slots, "w") as f:
                f.write(text)
        os.rmdir(disk)
        os.rename(kept, disk)
        self.cluster.start(3)
        self.repair()
        self.all_there()

    def test_a_disk_in_use_is_refused(self):
        self.put(300000)
        self.repair()
        before = self.read(1, "slots"), self.read(1, "ready")
        steled = os.path.join(c.BIN, "steled")
        r = c.run(steled, "--config", os.path.join(self.node(1), "steled.ini"))
        self.assertNotEqual(r.code, 0)
        last = r.err.strip().splitlines()[-1]
        self.assertIn("another process has this store open", last)
        self.assertEqual((self.read(1, "slots"), self.read(1, "ready")), before)
        # from another node's configuration too
        ini = self.read(2, "steled.ini").replace("dir = disk0", "dir = " + self.cluster.disk(1))
        self.cluster.kill(2)
        wrong = os.path.join(self.node(2), "wrong.ini")
        with open(wrong, "w") as f:
            f.write(ini)
        r = c.run(steled, "--config", wrong)
        self.assertNotEqual(r.code, 0)
        self.assertIn("another process has this store open", r.err.strip().splitlines()[-1])
        self.cluster.start(2)
        self.repair()
        self.all_there()


del Identity
if __name__ == "__main__":
    c.main()
