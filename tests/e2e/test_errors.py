"""Goal: whatever a person does wrong, or the machine refuses, ends in one line that says what to do, the right exit code, and
nothing lost."""
import json
import os
import shutil
import socket
import subprocess
import time

from cluster import BIN, Case, blob, main, run, sha256

STELE = os.path.join(BIN, "stele")


class Errors(Case):
    def test_ids_and_arguments(self):
        c = self.cluster
        self.one_line(c.get("sha256:" + "0" * 64), 4, "not found")
        self.one_line(c.get("nonsense"), 2)
        self.one_line(c.get("sha256:" + "0" * 63), 2)
        self.one_line(c.stele("put", "/no/such/file"), 2, "/no/such/file")
        self.assertEqual(c.stele("frobnicate").code, 2)
        self.assertEqual(c.stele("put").code, 2)
        self.assertEqual(c.stele("put", "--pool", "nosuch", c.file("f", b"x")).code, 2)
        self.assertEqual(c.stele("get", "--range", "x:y", "0" * 64).code, 2)
        for words in ([], ["put"], ["ledger", "import"], ["dev", "up"], ["proof", "verify"]):
            r = run(STELE, *words, "--help")
            self.assertEqual(r.code, 0, str(r))
            self.assertIn(b"stele", r.out)

    def test_files_and_keys(self):
        c = self.cluster
        cluster = os.path.join(c.path, "cluster.json")
        self.one_line(run(STELE, "ls", "--cluster", "/no/such.json"), 2, "/no/such.json")
        broken = c.file("broken.json", open(cluster, "rb").read().replace(b"root/v1", b"root/v2", 1))
        shutil.copy(os.path.join(c.path, "client.key"), os.path.join(c.dir, "client.key"))
        self.assertIn(run(STELE, "ls", "--cluster", broken).code, (1, 5, 6))
        r = run(STELE, "ls", "--cluster", c.file("garbage.json", b"{"))
        self.assertIn(r.code, (1, 2, 5), str(r))
        os.chmod(os.path.join(c.dir, "client.key"), 0o644)
        self.one_line(run(STELE, "ls", "--cluster", cluster, "--key", os.path.join(c.dir, "client.key")), 6, "key")
        # a key of nobody's: refused by the nodes
        other = os.path.join(c.dir, "other")
        os.mkdir(other)
        up = run(STELE, "dev", "up", "--dir", other, "--nodes", "1", "--code", "rep-1")
        if up.code == 0:
            self.addCleanup(run, STELE, "dev", "down", "--dir", other, "--delete")
            stranger = os.path.join(other, "client.key")
            self.one_line(run(STELE, "put", c.file("f", blob(100)), "--cluster", cluster, "--key", stranger), 6)
            self.assertIn(run(STELE, "get", "0" * 64, "--cluster", cluster, "--key", stranger).code, (6, 7))

    def test_all_nodes_down(self):
        c = self.cluster
        data = blob(100000)
        self.ok(c.put(c.file("f", data)))
        c.kill(*range(1, 9))
        self.one_line(c.get(sha256(data)), 7)
        self.one_line(c.stele("put", c.file("g", b"x")), 7)
        self.assertEqual(c.stele("status").code, 7)
        c.start(*range(1, 9))
        self.assertTrue(self.ok(c.get(sha256(data))).out == data)

    def test_dev_up_beside_other_things(self):
        c = self.cluster
        busy = os.path.join(c.dir, "busy")
        os.mkdir(busy)
        open(os.path.join(busy, "precious"), "w").close()
        up = run(STELE, "dev", "up", "--dir", busy, "--nodes", "1", "--code", "rep-1")
        self.ok(up)
        self.ok(run(STELE, "dev", "down", "--dir", busy, "--delete"))
        self.assertEqual(os.listdir(busy), ["precious"], "what is somebody else's stays")
        open(os.path.join(busy, "cluster.json"), "w").close()
        self.one_line(run(STELE, "dev", "up", "--dir", busy), 5, "cluster.json")
        self.one_line(run(STELE, "dev", "up", "--dir", os.path.join(busy, "precious")), 2, "precious")

    def test_port_in_use_and_bad_config(self):
        c = self.cluster
        c.kill(3)
        ini = os.path.join(c.path, "node3", "steled.ini")
        text = open(ini).read()
        listen = [l.split("=", 1)[1].strip() for l in text.splitlines() if l.split("=")[0].strip() == "listen"][0]
        host, port = listen.rsplit(":", 1)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, int(port)))
            s.listen()
            r = run(os.path.join(BIN, "steled"), "--config", ini, timeout=30)
            self.assertNotEqual(r.code, 0)
            self.assertIn(port, r.err)
        bad = c.file("bad.ini", b"[node]\nid = many\n")
        r = run(os.path.join(BIN, "steled"), "--config", bad, timeout=30)
        self.assertEqual(r.code, 2, str(r))
        self.assertIn("id", r.err)
        self.assertEqual(run(os.path.join(BIN, "steled"), "--config", "/no/such.ini", timeout=30).code, 2)
        c.start(3)
        self.assertEqual(c.json("status")["nodes_up"], 8)

    def test_interrupted_get_leaves_no_file(self):
        c = self.cluster
        data = blob(100 << 20)
        self.ok(c.put(c.file("f", data)))
        out = os.path.join(c.dir, "out")
        p = subprocess.Popen([STELE, "get", sha256(data), "-o", out, "--cluster",
                              os.path.join(c.path, "cluster.json")], stderr=subprocess.PIPE)
        time.sleep(0.1)
        p.send_signal(2)
        p.communicate(timeout=30)
        if p.returncode != 0:
            self.assertFalse(os.path.exists(out))


class Full(Case):
    nodes, code, options = 4, "rs-2-1", ("--capacity", "192MiB")

    def test_no_space(self):
        c = self.cluster
        kept = blob(8 << 20, seed=1)
        self.ok(c.put(c.file("kept", kept)))
        refused = None
        for i in range(60):
            r = c.stele("put", c.file("f", blob(16 << 20, seed=10 + i)))
            if r.code != 0:
                refused = r
                break
        self.assertIsNotNone(refused, "the disks never filled")
        self.one_line(refused, refused.code, "space")
        self.assertIn(refused.code, (1, 7))
        self.assertTrue(self.ok(c.get(sha256(kept))).out == kept)
        self.ok(c.stele("scrub", "--wait"))


if __name__ == "__main__":
    main()
