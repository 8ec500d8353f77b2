"""Goal: the main job. Objects of every awkward size and every sample file go in; two of eight nodes are killed; all come
back bit for bit; repair restores full width on the six that are left; two more die; all still come back; with one
more gone the answer is a refusal that names what is missing, never a wrong or short file."""
import os

from cluster import Case, blob, data_files, main, sha256

MIB = 1 << 20
SIZES = [0, 1, 65535, 65536, 65537, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 200 * MIB]


class MainJob(Case):
    def check_all(self, objects, code=0):
        for ident, path in objects.items():
            out = os.path.join(self.cluster.dir, "out")
            self.ok(self.cluster.get(ident, "-o", out), code)
            with open(out, "rb") as f, open(path, "rb") as g:
                self.assertTrue(f.read() == g.read(), path)
            os.unlink(out)

    def test_put_lose_repair_lose(self):
        c = self.cluster
        objects = {}
        for n in SIZES:
            data = blob(n, seed=n)
            path = c.file("size-%d" % n, data)
            r = self.ok(c.put(path))
            ident = "sha256:" + sha256(data)
            self.assertIn(ident.encode(), r.out)
            objects[ident] = path
        for path in data_files():
            self.ok(c.put(path))
            with open(path, "rb") as f:
                objects["sha256:" + sha256(f.read())] = path
        if not data_files():
            print("SKIPPED: the sample files (STELE_TEST_DATA is not there)")

        before = c.json("status")
        self.assertEqual((before["state"], before["margin"]), ("ok", 2))

        c.kill(2, 5)
        self.check_all(objects)
        degraded = c.json("status", code=3)
        self.assertEqual((degraded["state"], degraded["margin"]), ("degraded", 0))
        self.assertEqual(degraded["nodes_up"], 6)

        repaired = c.json("repair", "--wait")
        self.assertEqual((repaired["margin_before"], repaired["margin_after"]), (0, 2))
        after = c.json("status")
        self.assertEqual((after["state"], after["margin"]), ("ok", 2))

        c.kill(1, 7)
        self.check_all(objects)
        self.assertEqual(c.json("status", code=3)["margin"], 0)

        c.kill(8)
        out = os.path.join(c.dir, "never")
        for ident, path in objects.items():
            if os.path.getsize(path) <= 65536:
                continue
            r = c.get(ident, "-o", out)
            self.one_line(r, 7)
            self.assertFalse(os.path.exists(out), "a refused get leaves no file")
        self.assertEqual(c.json("status", code=7)["margin"], -1)

        c.start(1, 2, 5, 7, 8)
        self.check_all(objects)
        self.assertGreaterEqual(c.json("repair", "--wait")["margin_after"], 2)

    def test_ranges_stat_ls_verify(self):
        c = self.cluster
        data = blob(20 * MIB + 12345, seed=7)
        ident = "sha256:" + sha256(data)
        self.ok(c.put(c.file("f", data)))
        small = blob(1000, seed=8)
        self.ok(c.put(c.file("g", small)))
        c.kill(3)
        for off, n in [(0, 1), (0, 65536), (65535, 2), (4 * MIB - 1, 2), (16 * MIB - 5, 10), (len(data) - 1, 1),
                       (5 * MIB + 3, 9 * MIB), (0, len(data)), (100, 0)]:
            r = self.ok(c.get(ident, "--range", "%d:%d" % (off, n)))
            self.assertTrue(r.out == data[off:off + n], (off, n))
        r = self.ok(c.get("sha256:" + sha256(small), "--range", "10:20"))
        self.assertEqual(r.out, small[10:30])
        self.one_line(c.get(ident, "--range", "%d:5" % len(data)), 2)
        r = self.ok(c.get(ident))
        self.assertTrue(r.out == data)
        stat = c.json("stat", ident)
        self.assertEqual(stat["length"], len(data))
        listed = self.ok(c.stele("ls", "--json"), 3 if c.stele("ls").code == 3 else 0).out.decode()
        self.assertIn(sha256(data), listed)
        self.assertIn(sha256(small), listed)
        c.start(3)
        self.ok(c.stele("verify", ident))
        self.ok(c.stele("verify", "--all"))

    def test_equal_objects_and_stdin(self):
        c = self.cluster
        data = blob(300000, seed=9)
        path = c.file("f", data)
        self.ok(c.put(path))
        used = [n["slots"][0]["shards"] for n in c.json("status")["nodes"]]
        self.ok(c.put(path))
        self.assertEqual([n["slots"][0]["shards"] for n in c.json("status")["nodes"]], used,
                         "equal blocks are stored once")
        r = self.ok(c.stele("put", "-", "--json", stdin=b"from a pipe"))
        self.assertIn(sha256(b"from a pipe").encode(), r.out)
        self.assertEqual(self.ok(c.get(sha256(b"from a pipe"))).out, b"from a pipe")


if __name__ == "__main__":
    main()
