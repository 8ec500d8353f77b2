"""Goal: whatever a person does wrong, or the machine refuses, ends in one line that says what to do, the right exit code, and
nothing lost."""
import base64
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import time

from cluster import BIN, NOWHERE, Case, Cluster, MIB, Shared, blob, main, run, sha256

STELE = os.path.join(BIN, "stele")
STELED = os.path.join(BIN, "steled")
NO_URING = os.path.join(BIN, "..", "tests", "no_uring")
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


class Usage(Shared):
    def test_ids(self):
        c = self.cluster
        raw = bytes.fromhex(self.id)
        cid = "b" + base64.b32encode(b"\x01\x55\x12\x20" + raw).decode().lower().rstrip("=")
        ni = "ni:///sha-256;" + base64.urlsafe_b64encode(raw).decode().rstrip("=")
        for ident in (self.id, "sha256:" + self.id, cid, ni):
            self.assertTrue(self.ok(c.get(ident)).out == self.data, ident)
            self.assertEqual(c.json("stat", ident)["object"], "sha256:" + self.id)
        wrong_codec = "b" + base64.b32encode(b"\x01\x70\x12\x20" + raw).decode().lower().rstrip("=")
        wrong_hash = "b" + base64.b32encode(b"\x01\x55\x13\x20" + raw).decode().lower().rstrip("=")
        for bad in ("nonsense", "", self.id[:-1], self.id + "0", self.id[:-1] + "g", " " + self.id, self.id + " ",
                    "sha256:", "sha256:" + self.id[:-1], "sha256:" + self.id + "00", "SHA256:" + self.id,
                    "sha512:" + self.id, cid[:-1], cid + "a", cid[:5] + "1" + cid[6:], "Q" + cid[1:],
                    wrong_codec, wrong_hash, ni[:-1], ni + "A", ni.replace("sha-256", "sha-512"),
                    ni.replace(";", ""), ni[:20] + "=" + ni[21:], "ni://host/sha-256;" + ni[14:],
                    "sha256:\n" + self.id, "\x1b[31m" + self.id):
            for command in ("get", "stat", "verify", "proof"):
                self.one_line(c.stele(command, "--", bad), 2)

    def test_unknown(self):
        c = self.cluster
        for command in (["get"], ["stat"], ["verify"], ["proof"], ["get", "-o", self.there("out")],
                        ["get", "--range", "0:1"]):
            self.one_line(c.stele(*command, "sha256:" + NOWHERE), 4, "not found")
        self.assertEqual(os.listdir(self.scratch), [])

    def test_arguments(self):
        c = self.cluster
        for argv in (["frobnicate"], ["put"], ["put", "--pool", "nosuch", self.path], ["put", "--pool"],
                     ["put", "--nope", self.path], ["get"], ["get", self.id, self.id], ["get", self.id, "--json"],
                     ["get", "--range", "x:y", self.id], ["get", "--range", "5", self.id],
                     ["get", "--range", "-1:5", self.id], ["get", "--range", "0:99999999999999999999", self.id],
                     ["get", "--range", "300000:1", self.id], ["get", "--range", "0:300001", self.id],
                     ["verify"], ["verify", "--all", self.id], ["repair", "now"], ["scrub", "--wait=yes"],
                     ["ledger"], ["ledger", "get", "--chain", "bitcoin"], ["ledger", "get", "--height", "1"],
                     ["ledger", "get", "--chain", "nochain", "--height", "1"],
                     ["ledger", "get", "--chain", "bitcoin", "--height", "x"],
                     ["ledger", "get", "--chain", "bitcoin", "--hash", "zz"],
                     ["ledger", "get", "--chain", "bitcoin", "--height", "1", "--json"],
                     ["ledger", "ls"], ["ledger", "import", "--chain", "bitcoin"], ["ledger", "import", self.path],
                     ["proof", self.id, "--json"], ["proof", "verify"], ["--json", "ls"]):
            r = c.stele(*argv) if "--" not in argv[0] else run(STELE, *argv)
            self.assertEqual(r.code, 2, str(r))
            self.assertIn("stele", r.err)
        for argv in (["dev", "up"], ["dev", "kill", "--dir", c.path], ["dev", "kill", "--dir", c.path, "9"],
                     ["dev", "kill", "--dir", c.path, "x"], ["dev", "start", "--dir", self.scratch],
                     ["dev", "down", "--dir", "/no/such"], ["dev", "up", "--dir", self.path],
                     ["dev", "up", "--dir", c.path, "--nodes", "3"], ["dev", "up", "--dir", c.path, "--code", "rep-3"],
                     ["dev", "up", "--dir", self.there("n"), "--nodes", "3"],
                     ["dev", "up", "--dir", self.there("n"), "--nodes", "65"],
                     ["dev", "up", "--dir", self.there("n"), "--code", "rs-33-2"],
                     ["dev", "up", "--dir", self.there("n"), "--capacity", "1MiB"]):
            self.one_line(run(STELE, *argv), 2)

    def test_local_files(self):
        """A local name that is wrong is wrong use, whatever is wrong with it; and nothing was stored."""
        c = self.cluster
        before = self.things()
        for bad in ("/no/such/file", self.scratch, self.path + "/x", ""):
            for argv in (["put", bad], ["ledger", "import", "--chain", "bitcoin", bad], ["ledger", "identify", bad],
                         ["proof", "verify", bad], ["proof", "verify", self.path, "--file", bad]):
                self.one_line(run(STELE, *argv, env={"STELE_CLUSTER": self.map}), 2, bad)
        self.one_line(c.stele("anchor", "now", "--log-key", "/no/such"), 2, "/no/such")
        self.one_line(c.stele("anchor", "now", "--log-key", os.path.join(c.path, "client.key")), 6, "log")
        r = c.stele("put", self.path, "/no/such", self.path, "--json")
        self.one_line(r, 2, "/no/such")
        self.assertEqual((len(r.json["files"]), r.json["error"]["exit"]), (1, 2), "what was done is told")
        self.assertEqual(self.things(), before + 1, "a second deposit of the same object, nothing else")

    def test_targets(self):
        """-o replaces a file when all is well, and leaves it alone otherwise."""
        c = self.cluster
        old = self.file("old", b"old")
        fifo = self.there("fifo")
        os.mkfifo(fifo)
        link = self.there("link")
        os.symlink(old, link)
        names = sorted(os.listdir(self.scratch))
        for bad in (self.scratch, "/no/such/out", old + "/x", "/dev/null", fifo, "", self.there("d/")):
            for argv in (["get", self.id], ["proof", self.id], ["get", self.id, "--range", "0:5"],
                         ["ledger", "get", "--chain", "bitcoin", "--height", "0"]):
                self.one_line(c.stele(*argv, "-o", bad), 2)
            self.one_line(c.stele("put", self.path, "--receipt", bad), 2)
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
        self.one_line(c.stele("get", NOWHERE, "-o", old), 4)
        self.assertEqual(open(old, "rb").read(), b"old")
        self.assertEqual(sorted(os.listdir(self.scratch)), names)
        self.ok(c.stele("get", self.id, "-o", link))
        self.assertTrue(open(old, "rb").read() == self.data and os.path.islink(link))
        self.ok(c.stele("get", self.id, "--range", "1:5", "-o", old))
        self.assertEqual(open(old, "rb").read(), self.data[1:6])
        self.ok(c.stele("put", self.path, "--receipt", old))
        self.assertIn(self.id, open(old).read())
        self.assertEqual(sorted(os.listdir(self.scratch)), names)

    def test_names(self):
        """Names are bytes: they reach nobody's terminal as orders, and JSON is JSON."""
        c = self.cluster
        name = os.fsencode(self.scratch) + b"/a b\nc\x1b[31m\xff\xc3\xa9.txt"
        with open(name, "wb") as f:
            f.write(b"content")
        shown = "/a b\nc\x1b[31m\ufffd\u00e9.txt"

        def call(*argv):
            done = subprocess.run([STELE.encode(), *argv, b"--cluster", os.fsencode(self.map)], capture_output=True)
            return done
        r = call(b"put", name)
        self.assertEqual((r.returncode, CONTROL.search(r.stdout), len(r.stdout.splitlines())), (0, None, 1), r)
        r = call(b"put", b"--json", name)
        self.assertTrue(json.loads(r.stdout)["files"][0]["file"].endswith(shown), r)
        for argv in ([b"put", name + b"x"], [b"ledger", b"import", b"--chain", b"bitcoin", name],
                     [b"ledger", b"identify", name + b"x"], [b"proof", b"verify", name],
                     [b"get", self.id.encode(), b"-o", name + b"/x"]):
            r = subprocess.run([STELE.encode(), *argv, b"--json"], capture_output=True,
                               env=dict(os.environ, STELE_CLUSTER=self.map))
            self.assertNotEqual(r.returncode, 0)
            self.assertEqual((CONTROL.search(r.stderr), len(r.stderr.splitlines())), (None, 1), r)
            self.assertIn(shown[:8], json.loads(r.stdout)["error"]["message"], r)
        out = name + b".out"
        r = call(b"get", self.id.encode(), b"-o", out, b"--json")
        self.assertEqual(r.returncode, 0, r)
        json.loads(r.stdout)
        with open(out, "rb") as f:
            self.assertTrue(f.read() == self.data)
        self.ok(c.get(sha256(b"content")))

    def commands(self):
        listed = run(STELE, "--help").out.decode()
        found = re.findall(r"^  ([a-z]+(?: [a-z]+)*)(?=  | [A-Z\[])", listed, re.M)
        self.assertIn("ledger import", found)
        self.assertGreaterEqual(len(found), 20, found)
        return found

    def test_help(self):
        for words in self.commands():
            r = self.ok(run(STELE, *words.split(), "--help"))
            self.assertIn(b"\nExample:\n  stele " + words.encode(), r.out)
            self.assertIn(b"--json", r.out)
            self.assertIsNone(CONTROL.search(r.out))
            for line in r.out.decode().splitlines():
                self.assertLessEqual(len(line), 400, words)
        for words in ([], ["ledger"], ["dev"], ["anchor"]):
            self.assertIn(b"stele", self.ok(run(STELE, *words, "--help")).out)
        self.assertIn(b"--config", self.ok(run(STELED, "--help")).out)

    def test_json_everywhere(self):
        """Every command, well and ill: stdout is JSON, stderr has a line at most."""
        c = self.cluster
        out = self.there("out")
        self.ok(c.stele("anchor", "now"))
        proof = self.there("proof")
        good = {
            "put": [self.path], "get": [self.id, "-o", out], "stat": [self.id], "ls": [], "verify": [self.id],
            "status": [], "repair": ["--wait"], "scrub": ["--wait"], "ledger ls": ["--chain", "bitcoin"],
            "anchor now": [], "anchor status": [], "proof": [self.id, "-o", proof],
            "proof verify": [proof, "--file", self.path],
        }
        lines = {"ls"}
        for words, argv in good.items():
            r = self.ok(c.stele(*words.split(), *argv, "--json"))
            for text in r.out.splitlines() if words in lines else [r.out]:
                self.assertIsInstance(json.loads(text), dict, str(r))
        r = c.stele("verify", "--all", "--json")
        self.assertGreaterEqual(len(self.ok(r).json["objects"]), 1)
        bad = {
            "put": ["/no/such"], "get": [NOWHERE, "-o", out], "stat": [NOWHERE], "ls": ["x"], "verify": [NOWHERE],
            "status": ["x"], "repair": ["x"], "scrub": ["x"], "ledger ls": [], "ledger get": ["--chain", "x", "--height", "1"],
            "ledger import": ["--chain", "bitcoin", self.path], "ledger identify": [self.path], "anchor now": ["x"],
            "anchor status": ["x"], "proof": [NOWHERE, "-o", proof], "proof verify": ["/no/such"], "dev up": [],
            "dev kill": ["1"], "dev start": [], "dev down": [], "node attach": ["1"], "node detach": ["99", "0"],
        }
        self.assertEqual(sorted(bad), sorted(self.commands()))
        for words, argv in bad.items():
            r = run(STELE, *words.split(), *argv, "--json", env={"STELE_CLUSTER": self.map})
            self.one_line(r, r.code)
            error = r.json["error"]
            self.assertEqual(error["exit"], r.code, str(r))
            self.assertNotEqual(r.code, 0, str(r))
            self.assertTrue(r.err.rstrip().endswith(error["message"]) and error["message"], str(r))
        self.assertEqual(run(STELE, "nosuch", "--json").json["error"]["exit"], 2)


class Keys(Shared):
    def test_cluster_and_key_files(self):
        c = self.cluster
        with open(self.map, "rb") as f:
            raw = f.read()
        self.one_line(run(STELE, "ls", "--cluster", "/no/such.json"), 2, "/no/such.json", "--cluster")
        self.one_line(run(STELE, "ls", "--cluster", self.scratch), 2, "directory")
        self.one_line(run(STELE, "ls", env={"STELE_CLUSTER": "/no/such.json"}), 2, "/no/such.json")
        self.one_line(run(STELE, "ls", "--cluster", self.map, "--key", "/no/such"), 2, "/no/such", "--key")
        key = self.there("client.key")
        shutil.copy(os.path.join(c.path, "client.key"), key)
        os.chmod(key, 0o600)
        garbage = self.there("garbage.json")
        for bad in (b"", b"{", b"[]", b"{}", raw[:len(raw) // 2], raw.replace(b'"root"', b'"toor"', 1), b"\0" * 100):
            with open(garbage, "wb") as f:
                f.write(bad)
            self.one_line(run(STELE, "ls", "--cluster", garbage), 5, "garbage.json")
            self.one_line(run(STELE, "anchor", "status", "--cluster", garbage), 5, "garbage.json")
        for at in range(50, len(raw), len(raw) // 25):  # one changed letter anywhere
            changed = bytearray(raw)
            changed[at] = ord("0") if changed[at] != ord("0") else ord("1")
            with open(garbage, "wb") as f:
                f.write(changed)
            r = run(STELE, "ls", "--cluster", garbage)
            self.assertIn(r.code, (5, 6), str(r))
            self.one_line(r, r.code)
        for bad in (b"", b"x", open(key, "rb").read()[:-10], b"\0" * 99):
            with open(self.there("k"), "wb") as f:
                f.write(bad)
            os.chmod(self.there("k"), 0o600)
            self.one_line(run(STELE, "ls", "--cluster", self.map, "--key", self.there("k")), 5, "k")
        os.chmod(key, 0o644)
        self.one_line(run(STELE, "ls", "--cluster", self.map, "--key", key), 6, "chmod 600")
        self.one_line(run(STELE, "ls", "--cluster", self.map, "--key", os.path.join(c.path, "log.key")), 2, "client")

    def test_stranger(self):
        """Another cluster's key, and another cluster's file."""
        other = self.there("other")
        self.ok(run(STELE, "dev", "up", "--dir", other, "--nodes", "1", "--code", "rep-1"))
        self.addCleanup(run, STELE, "dev", "down", "--dir", other, "--delete")
        stranger = os.path.join(other, "client.key")
        path = self.file("f", blob(100000, seed=5))
        small = self.file("g", b"small")
        for argv in (["put", path], ["put", small], ["get", self.id], ["stat", self.id], ["verify", self.id], ["ls"],
                     ["verify", "--all"], ["status"], ["repair"], ["repair", "--wait"], ["scrub"], ["scrub", "--wait"],
                     ["ledger", "ls", "--chain", "bitcoin"], ["proof", self.id]):
            self.one_line(self.cluster.stele(*argv, "--key", stranger), 6, "key")
            self.one_line(run(STELE, *argv, "--cluster", os.path.join(other, "cluster.json"), "--key",
                              os.path.join(self.cluster.path, "client.key")), 6, "key")
        r = self.cluster.get(sha256(b"small"))
        self.one_line(r, 4)
        self.still_whole()

    def test_signed_by_another(self):
        """A writer's connection, and a deposit signed with a key that is not that writer's."""
        lines = {}
        for name in ("client", "reader", "log"):
            with open(os.path.join(self.cluster.path, name + ".key")) as f:
                lines[name] = dict(line.split() for line in f.read().splitlines()[1:])
        for signer in ("reader", "log"):
            mixed = self.file("mixed.key", ("stele-key v1\ntls %s\nsign %s\n" % (
                lines["client"]["tls"], lines[signer]["sign"])).encode())
            os.chmod(mixed, 0o600)
            for n, content in enumerate((b"small", blob(100000, seed=6))):
                path = self.file("f%d" % n, content)
                self.one_line(self.cluster.stele("put", path, "--key", mixed), 6, "no writer")
                self.one_line(self.cluster.get(sha256(content)), 4)

    def test_reader(self):
        """A client with the role of a reader, and no other."""
        c = self.cluster
        reader = os.path.join(c.path, "reader.key")
        before = self.things()
        self.assertTrue(self.ok(c.stele("get", self.id, "--key", reader)).out == self.data)
        for argv in (["stat", self.id], ["ls"], ["verify", self.id], ["status"], ["ledger", "ls", "--chain", "bitcoin"]):
            self.ok(c.stele(*argv, "--key", reader))
        mined = self.there("blk00000.dat")
        self.ok(run(os.path.join(BIN, "stele-mine"), "--size", "1K", "-o", mined))
        for argv in (["put", self.path], ["put", self.file("g", b"small")], ["repair"], ["repair", "--wait"], ["scrub"],
                     ["scrub", "--wait"], ["anchor", "now"], ["ledger", "import", "--chain", "bitcoin-regtest", mined]):
            self.one_line(c.stele(*argv, "--key", reader), 6)
        self.assertEqual(self.things(), before, "nothing was stored")
        self.assertEqual(c.json("ledger", "ls", "--chain", "bitcoin-regtest")["segments"], [])


class Daemons(Shared):
    def steled(self, config, **kw):
        return run(STELED, "--config", config, timeout=30, **kw)

    def last_line(self, r, code, *words):
        """A daemon logs; what it ends with is one line."""
        self.assertEqual(r.code, code, str(r))
        for word in words:
            self.assertIn(word.lower(), r.err.splitlines()[-1].lower(), str(r))

    def ini(self, **change):
        """Node 2's configuration with some lines changed; None takes one away."""
        node = os.path.join(self.cluster.path, "node2")
        lines = {"[node]": None, "id": "2", "key": os.path.join(node, "node.key"), "cluster": self.map,
                 "listen": "127.0.0.1:0", "[disk 0]": None, "dir": self.there("disk")}
        lines.update({k: v for k, v in change.items()})
        text = "".join("%s\n" % k if k.startswith("[") else "%s = %s\n" % (k, v) for k, v in lines.items()
                       if k.startswith("[") or v is not None)
        return self.file("steled.ini", text.encode())

    def test_configuration(self):
        for bad in ("/no/such.ini", self.scratch):
            self.last_line(self.steled(bad), 2, bad)
        self.assertEqual(run(STELED).code, 2)
        self.assertEqual(run(STELED, "--nope").code, 2)
        for text, word in ((b"[node]\nid = many\n", "id"), (b"garbage\n", "line 1"), (b"", "is missing"),
                           (b"[node]\nid = 1\nid = 2\n", "twice"), (b"\0\0", "zero byte"), (b"[x]\ny = 1\n", "section"),
                           (b"[node]\nspeed = 9\n", "no such key"), (b"x" * 100000, "longer")):
            self.last_line(self.steled(self.file("bad.ini", text)), 2, "bad.ini", word)
        os.mkdir(self.there("disk"))
        self.last_line(self.steled(self.ini(id="77")), 2, "77")
        self.last_line(self.steled(self.ini(key="/no/key")), 2, "[node] key", "/no/key")
        self.last_line(self.steled(self.ini(cluster="/no/map")), 2, "[node] cluster", "/no/map")
        self.last_line(self.steled(self.ini(cluster=self.scratch)), 2, "[node] cluster")
        self.last_line(self.steled(self.ini(cluster=self.path)), 5)
        self.last_line(self.steled(self.ini(dir="/no/disk")), 2, "not mounted")
        self.last_line(self.steled(self.ini(dir=self.path)), 2, "not a directory")
        self.last_line(self.steled(self.ini(dir=self.cluster.disk(5))), 2, "another process")
        self.last_line(self.steled(self.ini(listen="nowhere")), 2, "listen")
        self.still_whole()

    def test_a_node_with_another_key(self):
        """It may run; nobody speaks to it, and it speaks to nobody."""
        c = self.cluster
        listen = c.json("status")["nodes"][1]["addr"]
        disk = self.there("disk")
        os.mkdir(disk)
        host, port = listen.rsplit(":", 1)

        def answers():
            with socket.socket() as s:
                return s.connect_ex((host, int(port))) == 0
        c.kill(2)
        self.addCleanup(c.start, 2)
        while answers():  # the killed one's socket may outlive it by a moment
            time.sleep(0.05)
        pretender = subprocess.Popen([STELED, "--config", self.ini(key=os.path.join(c.path, "reader.key"), listen=listen)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(pretender.wait)
        self.addCleanup(pretender.terminate)
        for _ in range(100):
            if answers():
                break
            time.sleep(0.1)
        self.assertIsNone(pretender.poll())
        node = c.json("status", code=3)["nodes"][1]
        self.assertFalse(node["up"], node)
        self.assertIn("expected", node["why"])
        content = blob(200000, seed=7)
        self.ok(c.put(self.file("f", content)))  # six others take it
        self.assertTrue(self.ok(c.get(sha256(content))).out == content)
        self.still_whole()
        for name in os.listdir(disk):
            if name.startswith("extent"):
                with open(os.path.join(disk, name), "rb") as f:
                    self.assertFalse(content[:64] in f.read(), "nobody gave it anything")

    def test_port_in_use(self):
        c = self.cluster
        c.kill(3)
        ini = os.path.join(c.path, "node3", "steled.ini")
        with open(ini) as f:
            listen = re.search(r"^listen *= *(\S+)$", f.read(), re.M).group(1)
        host, port = listen.rsplit(":", 1)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for _ in range(100):  # the kernel may still be taking the killed one's ring down
                try:
                    s.bind((host, int(port)))
                    break
                except OSError:
                    time.sleep(0.1)
            s.listen()
            self.last_line(self.steled(ini), 7, port, "another program has this port")
            self.one_line(c.dev("start", "3"), 7, port, "another program", "node 3")
            self.still_whole()
        c.start(3)
        self.last_line(self.steled(ini), 2, "another process has this store open")
        self.assertEqual(c.json("status")["nodes_up"], 8)

    def test_all_nodes_down(self):
        c = self.cluster
        everyone = [str(n) for n in range(1, 9)]
        c.kill(*everyone)
        for argv in (["get", self.id], ["put", self.path], ["stat", self.id], ["verify", self.id], ["verify", "--all"],
                     ["ls"], ["status"], ["repair"], ["repair", "--wait"], ["scrub", "--wait"], ["proof", self.id],
                     ["anchor", "now"], ["ledger", "ls", "--chain", "bitcoin"], ["get", NOWHERE]):
            self.one_line(c.stele(*argv), 7)
            error = c.stele(*argv, "--json", *(["-o", self.there("x")] if argv[0] in ("get", "proof") else []))
            self.assertEqual(error.json["error"]["exit"], 7, str(error))
        c.start(*everyone)
        self.still_whole()
        self.ok(c.stele("verify", "--all"))

    def test_dev_up_beside_other_things(self):
        busy = self.there("busy")
        os.mkdir(busy)
        precious = os.path.join(busy, "precious")
        open(precious, "w").close()
        self.ok(run(STELE, "dev", "up", "--dir", busy, "--nodes", "1", "--code", "rep-1"))
        again = self.ok(run(STELE, "dev", "up", "--dir", busy))
        self.assertIn(b"1 nodes serve", again.out)
        self.ok(run(STELE, "dev", "down", "--dir", busy, "--delete"))
        self.ok(run(STELE, "dev", "down", "--dir", busy, "--delete"))
        self.assertEqual(os.listdir(busy), ["precious"], "what is somebody else's stays")
        open(os.path.join(busy, "cluster.json"), "w").close()
        self.one_line(run(STELE, "dev", "up", "--dir", busy), 5, "cluster.json")
        self.one_line(run(STELE, "dev", "up", "--dir", precious), 2, "precious")


class NoUring(Case):
    """io_uring refused by the system, in earnest: the same commands, the same answers, on threads."""
    nodes, code = 6, "rs-3-2"

    def setUp(self):
        if not os.path.exists(NO_URING):
            self.fail("no_uring was not built")

    def in_it(self, *argv, **kw):
        return run(NO_URING, STELE, *argv, timeout=120, **kw)

    def test_refused(self):
        top = Cluster.__new__(Cluster)  # its daemons are started in it, too
        top.dir = tempfile.mkdtemp(prefix="stele-e2e-")
        top.path = os.path.join(top.dir, "c")
        self.addCleanup(top.down)
        self.ok(self.in_it("dev", "up", "--dir", top.path, "--nodes", "6", "--code", "rs-3-2"))
        env = {"STELE_CLUSTER": os.path.join(top.path, "cluster.json")}
        for n in range(1, 7):
            with open(os.path.join(top.path, "node%d" % n, "log")) as f:
                self.assertIn("(threads)", f.read())
        content, small = blob(20 * MIB + 5, seed=9), b"small"
        for name, data in (("f", content), ("g", small)):
            self.ok(self.in_it("put", top.file(name, data), env=env))
        self.ok(self.in_it("dev", "kill", "--dir", top.path, "2"))
        for data in (content, small):
            self.assertTrue(self.ok(self.in_it("get", sha256(data), env=env)).out == data)
        self.ok(self.in_it("repair", "--wait", env=env))
        self.ok(self.in_it("dev", "start", "--dir", top.path, env=env))
        self.ok(self.in_it("scrub", "--deep", "--wait", env=env))
        self.ok(self.in_it("verify", "--all", env=env))
        # One that has it, and is told not to use it, agrees.
        self.assertTrue(self.ok(run(STELE, "get", sha256(small), env=dict(env, STELE_ENV="threads"))).out == small)
        # And who insists on it is told.
        self.one_line(self.in_it("get", sha256(small), env=dict(env, STELE_ENV="io_uring")), 1, "io_uring")
        self.one_line(run(STELE, "get", sha256(small), env=dict(env, STELE_ENV="nonsense")), 2, "STELE_ENV")


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
        self.one_line(refused, 7, "no space", "add disks or make room")
        small = [c.file("s%d" % k, blob(60000, seed=1000 + k)) for k in range(100)]
        stored = 0
        for _ in range(50):  # what lies in its record alone
            r = c.stele("put", *small, "--json")
            stored += len(r.json["files"])
            if r.code != 0:
                break
            for k, path in enumerate(small):
                c.file(os.path.basename(path), blob(60000, seed=stored + 2000 + k))
        self.one_line(r, 7, "no space", "add disks or make room")
        listed = self.ok(c.stele("ls")).out
        self.assertTrue(self.ok(c.get(sha256(kept))).out == kept)
        # One disk may have taken the refused one's record before the others had no room: no promise, and no harm.
        more = len(listed.splitlines()) - (i + 1 + stored)
        self.assertIn(more, (0, 1), "what was acknowledged, and nothing else")
        for argv in (["scrub", "--wait"], ["status"]):
            self.ok(c.stele(*argv), 3 if more else 0)
        seen = c.json("verify", "--all", code=3 if more else 0)["objects"]
        self.assertEqual(sum(o["shards_missing"] + o["shards_bad"] for o in seen), 0)
        self.assertEqual(sum(o["record_copies_missing"] for o in seen), more)


if __name__ == "__main__":
    main()
