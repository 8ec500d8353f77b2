"""Goal: stele-dump and stele-fsck say of real disks what is there and what is damaged, name the victim, keep away from
a disk that is in use, and end in order on any garbage."""
import json
import os
import random

import cluster as c

PAGE = 4096


def tool(name, *argv):
    return c.run(os.path.join(c.BIN, name), *argv)


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 4]))


class Disks(c.Case):
    nodes, code = 4, "rep-3"

    def setUp(self):
        super().setUp()
        self.data = [c.blob(n, seed=n) for n in (1, 40000, 65537, 300000)]
        for data in self.data:
            self.ok(self.cluster.put(self.cluster.file("in", data)))

    def dump(self, path, code=0):
        """The structures of a file, of one kind each."""
        r = tool("stele-dump", "--json", path)
        self.assertEqual(r.code, code, str(r))
        return [json.loads(line) for line in r.out.splitlines()]

    def shard_node(self):
        """(extent, its largest shard's structure) of a node that has one."""
        for node in range(1, 5):
            path = self.cluster.extents(node)[0]
            shards = [s for s in self.dump(path) if s.get("kind") == "shard"]
            if shards:
                return node, path, max(shards, key=lambda s: s["data_len"])
        self.fail("no node has a shard")

    def fsck(self, node, *argv, code=0):
        r = tool("stele-fsck", "--json", *argv, self.cluster.disk(node))
        self.assertEqual(r.code, code, str(r))
        return r.json

    def test_dump_lists_what_was_put(self):
        self.ok(self.cluster.dev("down"))
        records = set()
        for node in range(1, 5):
            disk = self.cluster.disk(node)
            found = self.dump(self.cluster.extents(node)[0])
            self.assertEqual([s["what"] for s in found[:2]], ["header", "batch"])
            self.assertTrue(all(s["checks"] for s in found))
            records |= {s["id"] for s in found if s.get("kind") == "record"}
            superblock = self.dump(os.path.join(disk, "superblock"))
            self.assertEqual(len(superblock), 1)
            self.assertEqual(superblock[0]["disk"], found[0]["disk"])
            r = self.ok(tool("stele-dump", self.cluster.extents(node)[0]))
            self.assertIn(b" 0 damaged", r.out)
        self.assertEqual(records, {c.sha256(data) for data in self.data})

    def test_dump_names_each_damage(self):
        self.ok(self.cluster.dev("down"))
        _, path, shard = self.shard_node()
        for at, what in ((shard["data_offset"] + shard["data_len"] - 5, "entry"), (shard["offset"] + 40, "entry"),
                         (shard["offset"] + 130, "entry"), (shard["offset"] // PAGE * PAGE + 1, "unknown"),
                         (shard["offset"] // PAGE * PAGE + 9, "batch"), (100, "header")):
            flip(path, at)
            damaged = [s for s in self.dump(path, code=5) if not s["checks"]]
            self.assertIn(what, [s["what"] for s in damaged], (at, damaged))
            self.assertTrue(all(s["why"] for s in damaged))
            flip(path, at)
        self.assertTrue(all(s["checks"] for s in self.dump(path)))

    def test_dump_survives_garbage(self):
        self.ok(self.cluster.dev("down"))
        _, path, _ = self.shard_node()
        with open(path, "rb") as f:
            whole = f.read(1 << 20)
        rng = random.Random(3)
        for turn in range(60):
            raw = bytearray(whole if turn % 3 else rng.randbytes(40000))
            for _ in range(rng.choice((1, 20, 2000))):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            raw = raw[:rng.choice((len(raw), rng.randrange(len(raw)), 0))]
            name = self.cluster.file(rng.choice(("extent-00000001", "superblock", "x")), bytes(raw))
            r = tool("stele-dump", "--json", name)
            self.assertIn(r.code, (0, 1, 5), str(r)[:500])
            for line in r.out.splitlines():
                json.loads(line)
        self.assertEqual(tool("stele-dump").code, 2)
        self.assertEqual(tool("stele-dump", "--what").code, 2)
        self.one_line(tool("stele-dump", self.cluster.dir), 1, "not a file")
        self.one_line(tool("stele-dump", self.cluster.dir + "/none"), 1, "no such file")

    def test_fsck_clean_and_in_use(self):
        for node in range(1, 5):
            self.one_line(tool("stele-fsck", self.cluster.disk(node)), 1, "another process")
            self.one_line(tool("stele-fsck", "--rebuild-index", self.cluster.disk(node)), 1, "another process")
        self.cluster.kill(*range(1, 5))
        entries = 0
        for node in range(1, 5):
            for options in ((), ("--deep",), ("--rebuild-index",)):
                r = self.fsck(node, *options)
                self.assertEqual(r["damage"], [])
            entries += r["records"]
            self.assertIn(b"clean", self.ok(tool("stele-fsck", self.cluster.disk(node))).out)
        self.assertGreaterEqual(entries, 2 * len(self.data))
        self.cluster.start(*range(1, 5))
        for data in self.data:
            out = os.path.join(self.cluster.dir, "out")
            self.ok(self.cluster.get(c.sha256(data), "-o", out))
            with open(out, "rb") as f:
                self.assertTrue(f.read() == data)

    def test_fsck_names_the_victim(self):
        self.ok(self.cluster.dev("down"))
        node, path, shard = self.shard_node()
        flip(path, shard["data_offset"] + shard["data_len"] - 1)
        for options in ((), ("--deep",), ("--rebuild-index", "--deep")):
            damage = self.fsck(node, *options, code=5)["damage"]
            self.assertEqual([(d["kind"], d["id"], d["index"]) for d in damage],
                             [("shard", shard["id"], shard["index"])])
        flip(path, shard["data_offset"] + shard["data_len"] - 1)
        self.fsck(node)
        flip(path, 60)  # the header: named, and written anew by opening the disk
        self.assertIn("header", self.fsck(node, code=5)["damage"][0]["why"])
        self.fsck(node)
        superblock = os.path.join(self.cluster.disk(node), "superblock")
        flip(superblock, 90)
        self.assertEqual(self.fsck(node, code=5)["damage"][0]["where"], "superblock")
        os.unlink(superblock)
        self.assertEqual(self.fsck(node, code=5)["damage"][0]["where"], "superblock")

    def test_fsck_holds_the_index_against_the_extents(self):
        self.ok(self.cluster.dev("down"))  # in good order: the last extent has no footer yet
        node, path, shard = self.shard_node()
        with open(path, "r+b") as f:
            f.seek(shard["offset"] // PAGE * PAGE)
            f.write(bytes(PAGE))  # a whole batch gone; only the index remembers
        damage = self.fsck(node, code=5)["damage"]
        self.assertIn(("index", shard["id"]), [(d["where"], d.get("id")) for d in damage])
        self.assertEqual(self.fsck(node, "--rebuild-index")["damage"], [])
        self.assertEqual(self.fsck(node)["damage"], [])

    def test_fsck_usage(self):
        self.assertEqual(tool("stele-fsck").code, 2)
        self.assertEqual(tool("stele-fsck", "--what", "x").code, 2)
        self.one_line(tool("stele-fsck", self.cluster.dir), 2, "there is no store")
        self.one_line(tool("stele-fsck", self.cluster.dir + "/none"), 2, "none")
        self.ok(tool("stele-fsck", "--help"))


if __name__ == "__main__":
    c.main()
