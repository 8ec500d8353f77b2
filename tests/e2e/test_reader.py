"""Goal: the archive outlives its software. tools/stele_reader.py, which knows only the documents, gets every object
back from the directories of enough disks, names what is missing from too few, and never writes a wrong byte."""
import itertools
import os
import random
import re
import sys

import cluster as c
import forge

READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "stele_reader.py")


class Reader(c.Case):
    def put_all(self, sizes):
        self.objects = {}
        for n in sizes:
            data = c.blob(n, seed=n + 1)
            self.ok(self.cluster.put(self.cluster.file("in", data)))
            self.objects[n] = data

    def read(self, data, nodes):
        """(result, bytes or None): what the reader makes of these nodes' disks."""
        out = os.path.join(self.cluster.dir, "out")
        if os.path.exists(out):
            os.unlink(out)
        r = c.run(sys.executable, READER, "--id", c.sha256(data), "-o", out, *map(self.cluster.disk, nodes))
        self.assertEqual(r.code == 0, os.path.exists(out), str(r))
        self.assertEqual([n for n in os.listdir(self.cluster.dir) if n not in ("c", "in", "out")], [], "left behind")
        got = None
        if r.code == 0:
            with open(out, "rb") as f:
                got = f.read()
            self.assertTrue(got == data, "wrong bytes: %s" % r)
        return r, got

    def enough(self, data, most, nodes=8, tries=70):
        """The first set of as few disks as possible, at most `most`, that the reader can do with."""
        for n in range(1, most + 1):
            sets = list(itertools.combinations(range(1, nodes + 1), n))
            random.Random(n).shuffle(sets)
            for chosen in sets[:tries if n == most else 3]:
                if self.read(data, chosen)[0].code == 0:
                    return chosen
        self.fail("no %d disks sufficed for %d bytes" % (most, len(data)))

    def damage(self, path, at):
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 0x10]))

    def live(self, path):
        """Offsets of pages that are not all zeros."""
        with open(path, "rb") as f:
            raw = f.read()
        return [at for at in range(0, len(raw), 4096) if raw[at:at + 4096].strip(b"\0")]


class Codes(Reader):
    """rs-4-2 on eight disks."""

    def test_every_size_from_few_disks(self):
        self.put_all([0, 1, 65535, 65537, 40 << 20])
        self.ok(self.cluster.dev("down"))
        everything = range(1, 9)
        for n, data in self.objects.items():
            self.ok(self.read(data, everything)[0])
        for n in (0, 1, 65535):
            self.assertEqual(len(self.enough(self.objects[n], 1, tries=8)), 1)
        self.assertEqual(len(self.enough(self.objects[65537], 4)), 4)
        # Three blocks, each on six disks of eight: any six hold four shards of each.
        big = self.objects[40 << 20]
        chosen = self.enough(big, 6, tries=28)
        self.assertGreaterEqual(len(chosen), 4)

    def test_too_few_are_named(self):
        self.put_all([65537])
        self.ok(self.cluster.dev("down"))
        data = self.objects[65537]
        codes = set()
        for nodes in list(itertools.combinations(range(1, 9), 3))[::3]:
            r, _ = self.read(data, nodes)
            codes.add(r.code)
            if r.code == 7:
                m = re.search(r"block [0-9a-f]{64}: too few shards: needs 4 of 6; good here: ([\d, ]+|none); "
                              r"missing or damaged: ([\d, ]+)$", r.err.strip())
                shards = lambda text: {int(x) for x in text.split(",")} if text != "none" else set()
                self.assertTrue(m or "no shard of it" in r.err, str(r))
                if m:
                    self.assertLess(len(shards(m[1])), 4)
                    self.assertEqual(shards(m[1]) | shards(m[2]), set(range(6)), str(r))
            else:
                self.assertIn("no record", r.err)
        self.assertLessEqual(codes, {4, 7})  # three disks never suffice; some have no record
        self.assertIn(7, codes)
        self.wrong_use(data)

    def wrong_use(self, data):
        out = os.path.join(self.cluster.dir, "out")
        r = c.run(sys.executable, READER, "--id", c.sha256(data), "-o", out, self.cluster.dir)
        self.one_line(r, 2, "not a disk's directory")
        self.ok(c.run(sys.executable, READER, "--id", "12", "-o", out, self.cluster.disk(1)), 2)

    def test_a_flipped_bit_is_never_passed_on(self):
        self.put_all([65537])
        data = self.objects[65537]
        self.ok(self.cluster.dev("down"))
        rng = random.Random(10)
        chosen = self.enough(data, 4)
        more = list(chosen) + [next(n for n in range(1, 9) if n not in chosen)]
        for _ in range(12):
            path = self.cluster.extents(rng.choice(chosen))[0]
            at = rng.choice(self.live(path)) + rng.randrange(4096)
            self.damage(path, at)
            self.assertIn(self.read(data, chosen)[0].code, (0, 4, 5, 7))
            self.read(data, more)  # never wrong: read() compares
            self.damage(path, at)
        # A page full of random bytes is a cell: without it four disks do not suffice, and all of them do.
        path = self.cluster.extents(chosen[0])[0]
        with open(path, "rb") as f:
            raw = f.read()
        cell = min(self.live(path), key=lambda at: raw[at:at + 4096].count(0))
        self.damage(path, cell + 77)
        r = self.ok(self.read(data, chosen)[0], 7)
        self.assertRegex(r.err, r"extent-00000001: cell 0 of shard \d of block [0-9a-f]{64} is damaged")
        self.ok(self.read(data, range(1, 9))[0])
        self.damage(path, cell + 77)
        self.assertEqual(self.read(data, chosen)[0].code, 0)
        # A superblock and an extent's header may both be lost as long as something knows the salt.
        self.damage(os.path.join(self.cluster.disk(chosen[0]), "superblock"), 70)
        self.damage(self.cluster.extents(chosen[1])[0], 20)
        r = self.ok(self.read(data, chosen)[0])
        self.assertIn("superblock does not check", r.err)
        self.assertIn("header does not check", r.err)

    def test_a_disk_that_lies_is_found_out(self):
        """Checksums that were made to fit: the hash tells."""
        self.put_all([65537])
        data = self.objects[65537]
        self.ok(self.cluster.dev("down"))
        chosen = self.enough(data, 4)
        shard = forge.shards(self.cluster.disk(chosen[1]))[0]
        forge.change_cell(shard, 0)
        r = self.ok(self.read(data, chosen)[0], 7)
        self.assertIn("cell 0 of shard %d of block %s is damaged" % (shard.index, shard.name), r.err)
        self.ok(self.read(data, range(1, 9))[0])

    def test_after_kill(self):
        self.put_all([1, 65537, 5 << 20])
        self.cluster.kill(*range(1, 9))
        for data in self.objects.values():
            self.ok(self.read(data, range(1, 9))[0])
        self.enough(self.objects[65537], 4)
        self.enough(self.objects[5 << 20], 4)

    def test_unknown_while_nodes_run(self):
        self.put_all([65537])
        self.assertEqual(self.read(c.blob(9, seed=99), range(1, 9))[0].code, 4)
        self.ok(self.read(self.objects[65537], range(1, 9))[0])



class Local(Reader):
    nodes, code = 16, "lrc-12-2-2"

    def test_lrc_with_losses(self):
        self.put_all([65537, 3 << 20])
        self.cluster.kill(*range(1, 17))
        data = self.objects[3 << 20]
        self.ok(self.read(data, range(1, 17))[0])
        done = 0
        for lost in itertools.islice(itertools.combinations(range(1, 17), 4), 0, 1820, 260):
            left = [n for n in range(1, 17) if n not in lost]
            r, _ = self.read(data, left)
            self.assertIn(r.code, (0, 4, 7), str(r))
            done += r.code == 0
        self.assertGreater(done, 0)
        for lost in ((1,), (2, 9), (3, 16)):  # two losses always decode
            self.ok(self.read(data, [n for n in range(1, 17) if n not in lost])[0])


class Copies(Reader):
    nodes, code = 4, "rep-3"

    def test_one_copy_is_enough(self):
        self.put_all([65537, 1 << 20])
        self.ok(self.cluster.dev("down"))
        for data in self.objects.values():
            self.assertEqual(len(self.enough(data, 1, nodes=4, tries=4)), 1)


del Reader
if __name__ == "__main__":
    c.main()
