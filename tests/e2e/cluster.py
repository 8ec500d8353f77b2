"""A real cluster in a temporary directory, and the commands that a person would type at it.

Goal of this file: tests say what they mean in a few lines, and nothing stays behind: every daemon is ended by
`stele dev down`, whatever the test did."""
import atexit
import glob
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import unittest

BIN = os.environ.get("STELE_BIN", os.path.join(os.path.dirname(__file__), "..", "..", "build", "bin"))
DATA = os.environ.get("STELE_TEST_DATA", "")
TIMEOUT = 240
MIB, GIB = 1 << 20, 1 << 30
# What a sanitizer finds goes to files, a daemon's too, which nobody would read otherwise.
REPORTS = tempfile.mkdtemp(prefix="stele-reports-")
atexit.register(shutil.rmtree, REPORTS, True)
for variable in ("ASAN_OPTIONS", "TSAN_OPTIONS"):
    os.environ[variable] = ":".join(filter(None, [os.environ.get(variable), "log_path=" + os.path.join(REPORTS, "r")]))
NOWHERE = "0" * 64  # an id that nothing has


class Result:
    def __init__(self, argv, done):
        self.argv, self.code = argv, done.returncode
        self.out, self.err = done.stdout, done.stderr.decode("utf-8", "replace")

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return "%s\nexit %d\n%s\n%s" % (" ".join(self.argv), self.code, self.out[-2000:].decode("utf-8", "replace"),
                                        self.err[-2000:])


def run(*argv, stdin=None, env=None, timeout=TIMEOUT):
    argv = [str(a) for a in argv]
    full = dict(os.environ)
    for name in ("STELE_CLUSTER", "STELE_KEY"):
        full.pop(name, None)
    full.update(env or {})
    done = subprocess.run(argv, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=full, timeout=timeout)
    return Result(argv, done)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def blob(n, seed=1):
    return random.Random(seed).randbytes(n)


class Cluster:
    def __init__(self, nodes=8, code="rs-4-2", options=()):
        self.dir = tempfile.mkdtemp(prefix="stele-e2e-")
        self.path = os.path.join(self.dir, "c")
        os.mkdir(self.path)
        try:
            up = run(os.path.join(BIN, "stele"), "dev", "up", "--dir", self.path, "--nodes", nodes, "--code", code,
                     *options)
            if up.code != 0:
                raise AssertionError("dev up: %s" % up)
        except BaseException:  # a runner that is interrupted here knows of no cluster yet
            self.down()
            raise

    def stele(self, *argv, **kw):
        argv = list(argv)
        at = len(argv) if "--" not in argv else argv.index("--")
        return run(os.path.join(BIN, "stele"), *argv[:at], "--cluster", os.path.join(self.path, "cluster.json"),
                   *argv[at:], **kw)

    def json(self, *argv, code=0):
        r = self.stele(*argv, "--json")
        assert r.code == code, str(r)
        return r.json

    def dev(self, what, *argv):
        return run(os.path.join(BIN, "stele"), "dev", what, "--dir", self.path, *argv)

    def kill(self, *nodes):
        r = self.dev("kill", *nodes)
        assert r.code == 0, str(r)

    def start(self, *nodes):
        r = self.dev("start", *nodes)
        assert r.code == 0, str(r)

    def file(self, name, data):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def put(self, path, code=0):
        r = self.stele("put", path, "--json")
        assert r.code == code, str(r)
        return r

    def get(self, ident, *argv):
        return self.stele("get", ident, *argv)

    def disk(self, node, slot=0):
        return os.path.join(self.path, "node%d" % node, "disk%d" % slot)

    def extents(self, node):
        """The node's extent files, the largest first."""
        found = []
        for top, _, names in os.walk(self.disk(node)):
            found += [os.path.join(top, n) for n in names if "extent" in n or n.endswith(".ext")]
        return sorted(found, key=os.path.getsize, reverse=True)

    def down(self):
        run(os.path.join(BIN, "stele"), "dev", "down", "--dir", self.path, "--delete")
        shutil.rmtree(self.dir, ignore_errors=True)
        reports = sorted(glob.glob(os.path.join(REPORTS, "*")))
        if reports:
            with open(reports[0]) as f:
                text = f.read()
            for path in reports:
                os.unlink(path)
            raise AssertionError("%d reports of a sanitizer, the first:\n%s" % (len(reports), text[:8000]))


class Case(unittest.TestCase):
    """A test with a cluster of its own; options may be set by the subclass."""
    nodes, code, options = 8, "rs-4-2", ()

    def setUp(self):
        self.cluster = Cluster(self.nodes, self.code, self.options)
        self.addCleanup(self.cluster.down)

    def ok(self, result, code=0):
        self.assertEqual(result.code, code, str(result))
        return result

    def one_line(self, result, code, *words):
        """A failure that a person can act on: its code, one line on stderr, these words in it."""
        self.assertEqual(result.code, code, str(result))
        lines = [l for l in result.err.splitlines() if l.strip()]
        self.assertEqual(len(lines), 1, str(result))
        for word in words:
            self.assertIn(word.lower(), lines[0].lower(), str(result))
        self.assertNotIn(b"Traceback", result.out)


def default_signals():
    """In a child: a runner started in the background may have SIGINT ignored, and children inherit that."""
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_DFL)


class Shared(Case):
    """One cluster for all tests of the class; whatever they kill, they start again."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.nodes, cls.code, cls.options)
        cls.addClassCleanup(cls.cluster.down)
        cls.data = blob(300000, seed=1)
        cls.id = sha256(cls.data)
        cls.path = cls.cluster.file("object", cls.data)
        assert cls.cluster.put(cls.path).code == 0

    def setUp(self):
        self.map = os.path.join(self.cluster.path, "cluster.json")
        self.scratch = os.path.join(self.cluster.dir, self._testMethodName)
        os.mkdir(self.scratch)

    def there(self, name):
        return os.path.join(self.scratch, name)

    def file(self, name, content):
        with open(self.there(name), "wb") as f:
            f.write(content)
        return self.there(name)

    def things(self):
        return self.cluster.json("status")["things"]

    def popen(self, *argv, **kw):
        """A command that goes on while the test does something to it."""
        kw.setdefault("stdout", subprocess.PIPE)
        env = dict(os.environ, STELE_CLUSTER=self.map)
        return subprocess.Popen([os.path.join(BIN, "stele")] + [str(a) for a in argv], stderr=subprocess.PIPE, env=env,
                                preexec_fn=default_signals, **kw)

    def still_whole(self):
        self.assertTrue(self.ok(self.cluster.get(self.id)).out == self.data)


def data(*parts):
    """A public sample file, or None where the samples are not."""
    path = os.path.join(DATA, *parts)
    return path if DATA and os.path.exists(path) else None


def data_files():
    found = []
    for top, _, names in os.walk(DATA) if DATA and os.path.isdir(DATA) else []:
        found += [os.path.join(top, n) for n in sorted(names)]
    return sorted(found)


def main():
    unittest.main(verbosity=2)
