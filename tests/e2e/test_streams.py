"""Goal: commands are good citizens of a shell: pipes, files that change, closed and full streams, Ctrl-C anywhere, terminals
and what is none."""
import fcntl
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import threading
import time

from cluster import BIN, GIB, MIB, NOWHERE, Shared, blob, default_signals, main, run, sha256

STELE = os.path.join(BIN, "stele")
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]")


class Sources(Shared):
    def test_pipes(self):
        c = self.cluster
        r = self.ok(c.stele("put", "-", "--json", stdin=b"from a pipe"))
        self.assertEqual(r.json["files"][0]["object"], "sha256:" + sha256(b"from a pipe"))
        fifo = self.there("fifo")
        os.mkfifo(fifo)
        content = blob(20 * MIB, seed=2)
        p = self.popen("put", fifo)
        with open(fifo, "wb") as f:
            for at in range(0, len(content), 3 * MIB):
                f.write(content[at:at + 3 * MIB])
                f.flush()
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn(sha256(content).encode(), out)
        self.assertTrue(self.ok(c.get(sha256(content))).out == content)
        # A file that the kernel makes up as it is read says that it is empty.
        with open("/proc/version", "rb") as f:
            self.assertIn(sha256(f.read()).encode(), self.ok(c.stele("put", "/proc/version")).out)
        self.assertIn(sha256(b"").encode(), self.ok(c.stele("put", "/dev/null")).out)
        self.one_line(c.stele("put", "/proc/self/mem"), 1, "/proc/self/mem")
        self.one_line(c.stele("ledger", "import", "--chain", "bitcoin", "/dev/zero"), 2, "regular")
        self.one_line(run(STELE, "ledger", "identify", fifo), 2, "regular")

    def test_changing_file(self):
        """What is stored is what the file was, or nothing."""
        before = self.things()
        for size, then in ((4 * GIB, MIB), (4 * GIB, 0), (64 * MIB, None)):
            path = self.there("changing")
            with open(path, "wb") as f:
                f.truncate(size)
            p = self.popen("put", path)
            if then is None:
                stop = time.time() + 20
                while p.poll() is None and time.time() < stop:
                    with open(path, "ab") as f:  # whoever reads never catches up
                        f.truncate(os.path.getsize(path) + 64 * MIB)
                    time.sleep(0.002)
            else:
                time.sleep(0.2)
                os.truncate(path, then)
            out, err = p.communicate(timeout=60)
            self.assertEqual((p.returncode, out), (5, b""), err)
            self.assertIn(b"changed while it was read", err)
            self.assertEqual(len(err.splitlines()), 1, err)
        self.assertEqual(self.things(), before)

    def test_too_many_pieces(self):
        path = self.there("huge")
        before = self.things()
        with open(path, "wb") as f:
            f.truncate(1024 * 16 * MIB + 1)
        self.one_line(self.cluster.stele("put", path), 1, "1024", "split")
        self.assertEqual(self.things(), before)

    def test_disk_full_here(self):
        """No room where -o points: the older file stays, nothing else does."""
        c = self.cluster
        out = self.file("out", b"older")

        for argv, room, code in ((["get", self.id, "-o", out], 100000, 1),
                                 (["get", self.id, "--range", "5:200000", "-o", out], 100000, 1),
                                 (["put", self.path, "--receipt", out], 100, 3)):  # stored all the same
            def limit():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            r = subprocess.run([STELE, *argv, "--cluster", self.map], capture_output=True, preexec_fn=limit)
            self.assertEqual((r.returncode, len(r.stderr.splitlines())), (code, 1), r)
            self.assertEqual(b"stored, but there is no receipt" in r.stderr, code == 3, r)
            self.assertEqual(os.listdir(self.scratch), ["out"])
            self.assertEqual(open(out, "rb").read(), b"older")
        self.ok(c.get(self.id, "-o", out))

    def test_standard_streams(self):
        c = self.cluster
        full = open("/dev/full", "wb")
        self.addCleanup(full.close)

        def call(*argv, **kw):
            return subprocess.run([STELE, *argv], env=dict(os.environ, STELE_CLUSTER=self.map), stderr=subprocess.PIPE,
                                  **kw)
        for argv in (["get", self.id], ["put", self.path], ["put", self.path, "--json"], ["ls"], ["ls", "--json"],
                     ["status"], ["status", "--json"], ["stat", self.id], ["verify", self.id], ["--help"],
                     ["put", "--help"], ["--version"], ["ledger", "ls", "--chain", "bitcoin"]):
            r = call(*argv, stdout=full)
            self.assertEqual((r.returncode, len(r.stderr.splitlines())), (1, 1), (argv, r))
            self.assertIn(b"No space left", r.stderr)
            r = call(*argv, preexec_fn=lambda: os.close(1))
            self.assertEqual((r.returncode, len(r.stderr.splitlines())), (1, 1), (argv, r))
            # A reader that leaves knows why: no noise, no waiting.
            reader, writer = os.pipe()
            os.close(reader)
            r = call(*argv, stdout=writer)
            os.close(writer)
            self.assertEqual((r.returncode, r.stderr), (1, b""), (argv, r))
        head = subprocess.run("%s get %s | head -c 10" % (STELE, self.id), shell=True, capture_output=True,
                              env=dict(os.environ, STELE_CLUSTER=self.map))
        self.assertEqual((head.stdout, head.stderr), (self.data[:10], b""))
        # Without a stdin or a stderr nothing else takes their places.
        r = call("put", "-", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(0))
        self.assertEqual(r.returncode, 1, r)
        r = call("get", self.id, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(0))
        self.assertTrue(r.returncode == 0 and r.stdout == self.data)
        r = subprocess.run([STELE, "put", "/no/such"], env=dict(os.environ, STELE_CLUSTER=self.map),
                           preexec_fn=lambda: os.close(2))
        self.assertEqual(r.returncode, 2)
        self.still_whole()
        self.ok(c.stele("verify", "--all"))


class Interrupts(Shared):
    """Ctrl-C and its relatives: soon over, one line, nothing half-written, the archive as it was."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.big = blob(96 * MIB, seed=3)
        cls.big_path = cls.cluster.file("big", cls.big)
        assert cls.cluster.put(cls.big_path).code == 0

    @staticmethod
    def begun(p, sig=signal.SIGINT):
        """Waits until it takes this signal; before, the system just ends it."""
        until = time.monotonic() + 30
        while p.poll() is None and time.monotonic() < until:
            with open("/proc/%d/status" % p.pid) as f:
                caught = [line for line in f if line.startswith("SigCgt:")]
            if caught and int(caught[0].split()[1], 16) >> (sig - 1) & 1:
                return
            time.sleep(0.005)

    def interrupt(self, p, sig=signal.SIGINT, after=0.3, code=1):
        self.begun(p, sig)
        time.sleep(after)
        self.assertIsNone(p.poll(), "it was over before: %s" % (p.args,))
        p.send_signal(sig)
        _, err = p.communicate(timeout=30)
        lines = err.decode().splitlines()
        self.assertEqual((p.returncode, len(lines)), (code, 1), err)
        self.assertIn("interrupted", lines[0])

    def test_put(self):
        before = self.things()
        sparse = self.there("sparse")
        with open(sparse, "wb") as f:
            f.truncate(8 * GIB)
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.interrupt(self.popen("put", sparse), sig)
        fifo = self.there("fifo")
        os.mkfifo(fifo)
        self.interrupt(self.popen("put", fifo))  # in open
        p = self.popen("put", fifo)
        with open(fifo, "wb") as f:  # in read
            f.write(b"some")
            f.flush()
            self.interrupt(p)
        self.interrupt(self.popen("put", "-", stdin=subprocess.PIPE))
        self.assertEqual(self.things(), before)
        self.still_whole()

    def test_get(self):
        out = self.file("out", b"older")
        paused = self.cluster
        # Nodes that hang: the get waits, and is interrupted while it does.
        pids = [int(open(os.path.join(paused.path, "node%d" % n, "pid")).read()) for n in range(1, 9)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.interrupt(self.popen("get", self.id, "-o", out), after=0.1)
            self.interrupt(self.popen("put", self.path), after=0.1)
            self.interrupt(self.popen("ls"), after=0.1)
            self.interrupt(self.popen("status"), after=0.1)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.assertEqual(os.listdir(self.scratch), ["out"])
        self.assertEqual(open(out, "rb").read(), b"older")
        # Nobody reads: what is blocked in writing is given up.
        p = self.popen("get", sha256(self.big))
        time.sleep(1)
        p.send_signal(signal.SIGTERM)
        started = time.time()
        while p.poll() is None and time.time() - started < 20:
            time.sleep(0.1)
        self.assertEqual(p.returncode, 1)
        self.assertIn(b"interrupted", p.communicate()[1])
        for _ in range(5):  # wherever it is when it comes
            p = self.popen("get", sha256(self.big), "-o", out)
            self.begun(p)
            time.sleep(0.05)
            p.send_signal(signal.SIGINT)
            p.communicate(timeout=30)
            self.assertIn(p.returncode, (0, 1))
            self.assertEqual(os.listdir(self.scratch), ["out"])
        self.still_whole()

    def test_import(self):
        path = self.there("blk00000.dat")
        self.ok(run(os.path.join(BIN, "stele-mine"), "--size", "24M", "-o", path))
        ended = set()
        for after in (0.02, 0.05, 0.1, 0.2, 0.4):
            p = self.popen("ledger", "import", "--chain", "bitcoin-regtest", path)
            self.begun(p)
            time.sleep(after)
            p.send_signal(signal.SIGINT)
            p.communicate(timeout=30)
            ended.add(p.returncode)
            self.assertIn(p.returncode, (0, 1))
        self.assertIn(1, ended, "none of them was interrupted while it imported")
        r = self.cluster.json("ledger", "import", "--chain", "bitcoin-regtest", path)["files"][0]
        self.assertEqual((r["level"], r["first"]), ("linked", 0))
        self.assertEqual(len(self.cluster.json("ledger", "ls", "--chain", "bitcoin-regtest")["segments"]), 1)

    def test_repair_and_scrub(self):
        """Who watches may leave: the nodes go on, and whoever comes next sees the end of it."""
        c = self.cluster
        for words in (["scrub", "--deep", "--wait"], ["repair", "--wait"], ["scrub", "--wait"]):
            for after in (0.02, 0.1, 0.3):
                p = self.popen(*words)
                self.begun(p)
                time.sleep(after)
                p.send_signal(signal.SIGINT)
                _, err = p.communicate(timeout=30)
                self.assertIn(p.returncode, (0, 1), err)
                self.assertLessEqual(len(err.splitlines()), 2, err)  # one that runs is waited for, and said
            self.ok(c.stele(*words))
        self.ok(c.stele("scrub"))
        r = c.stele("scrub", "--wait", "--deep")  # whether or not that one has ended
        self.assertEqual(self.ok(r).err.count("a scrub is running already"), r.err.count("\n"))
        c.kill(2)
        p = self.popen("repair", "--wait")
        self.begun(p)
        time.sleep(0.2)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
        self.ok(c.stele("repair", "--wait"))
        c.start(2)
        self.ok(c.stele("repair", "--wait"))
        self.still_whole()


class Terminal(Shared):
    """Colours and bars are for terminals that can show them."""

    def on_pty(self, *argv, env=None, feed=None, columns=80):
        """Runs it with stdout and stderr on a terminal; what was shown."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        full = dict(os.environ, STELE_CLUSTER=self.map, TERM="xterm")
        full.pop("NO_COLOR", None)
        full.update(env or {})
        p = subprocess.Popen([STELE, *argv], stdin=subprocess.PIPE if feed else subprocess.DEVNULL, stdout=slave,
                             stderr=slave, env=full, preexec_fn=default_signals)
        os.close(slave)
        feeder = threading.Thread(target=feed, args=(p.stdin,)) if feed else None
        if feeder:
            feeder.start()
        shown = b""
        while True:
            ready, _, _ = select.select([master], [], [], 60)
            try:
                chunk = os.read(master, 65536) if ready else b""
            except OSError:  # EIO: nobody has it open any more
                break
            if not chunk:
                break
            shown += chunk
        os.close(master)
        if feeder:
            feeder.join()
        p.wait(timeout=30)
        return p.returncode, shown

    @staticmethod
    def slowly(stdin):
        with stdin:
            for _ in range(16):
                stdin.write(b"x" * (256 << 10))
                stdin.flush()
                time.sleep(0.15)

    def test_bar(self):
        code, shown = self.on_pty("put", "-", feed=self.slowly)
        self.assertEqual(code, 0, shown)
        self.assertRegex(shown, rb"\r\x1b\[K-  [0-9.]+ (B|KiB|MiB)  ")
        self.assertRegex(shown, rb"\r\x1b\[Ksha256:[0-9a-f]{64}  -\r\n$", "the bar goes before the result comes")
        for line in shown.split(b"\r\x1b[K"):
            self.assertLess(len(line.strip()), 80)
        for env in ({"TERM": "dumb"},):
            code, shown = self.on_pty("put", "-", feed=self.slowly, env=env)
            self.assertEqual((code, shown), (0, shown.replace(b"\x1b", b"")), shown)
            self.assertEqual(shown.count(b"\r"), 1, shown)
        code, shown = self.on_pty("put", "-", "--json", feed=self.slowly)
        self.assertNotIn(b"\x1b", shown)
        r = self.cluster.stele("put", "-", stdin=b"y" * (1 << 20), env={"TERM": "xterm"})
        self.assertEqual((self.ok(r).err, CONTROL.search(r.out)), ("", None))

    def test_colour(self):
        code, shown = self.on_pty("get", NOWHERE)
        self.assertEqual(code, 4)
        self.assertTrue(shown.startswith(b"\x1b[31mstele get: \x1b[0m"), shown)
        code, shown = self.on_pty("status")
        self.assertEqual(code, 0)
        self.assertIn(b"\x1b[32m", shown)
        for env in ({"TERM": "dumb"}, {"NO_COLOR": "1"}):
            for argv in (["get", NOWHERE], ["status"], ["put", "--help"], ["--help"]):
                _, shown = self.on_pty(*argv, env=env)
                self.assertNotIn(b"\x1b", shown)
        for argv in (["get", NOWHERE], ["status"], ["put", "--help"]):  # no terminal
            r = self.cluster.stele(*argv, env={"TERM": "xterm"})
            self.assertIsNone(CONTROL.search(r.out + r.err.encode()))

    def test_interrupted_bar(self):
        """Ctrl-C on a terminal: the bar is taken away before the line comes."""
        sparse = self.there("sparse")
        with open(sparse, "wb") as f:
            f.truncate(12 * GIB)

        def interrupt():
            time.sleep(2)
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open("/proc/%s/cmdline" % pid, "rb") as f:
                        if f.read().split(b"\0")[:3] == [STELE.encode(), b"put", sparse.encode()]:
                            os.kill(int(pid), signal.SIGINT)
                except OSError:
                    pass
        threading.Thread(target=interrupt).start()
        code, shown = self.on_pty("put", sparse, columns=120)
        self.assertEqual(code, 1, shown)
        self.assertRegex(shown, rb"\r\x1b\[Ksparse  \[#* +\]  +[0-9]+%  [0-9.]+ [MG]iB of 12.0 GiB")
        self.assertRegex(shown, rb"\r\x1b\[K\x1b\[31mstele put: \x1b\[0m[^\r]*: interrupted\r\n$")


if __name__ == "__main__":
    main()
