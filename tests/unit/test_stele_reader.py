"""Goal: what reads disks reads them as storage/FORMAT.md says, and only so. Disks are written by hand (handmade.py): left-overs
of an earlier cycle count for nothing, whoever reads; a format that is newer is refused with a line that says what to do,
and nothing on such a disk is changed; the store's own programs accept what was written from the document alone."""
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import handmade as h

HERE = os.path.dirname(os.path.abspath(__file__))
READER = os.path.join(HERE, "..", "..", "tools", "stele_reader.py")
BIN = os.environ.get("STELE_BIN", os.path.join(HERE, "..", "..", "build", "bin"))
PAGE = h.PAGE


class Result:
    def __init__(self, *argv):
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        self.argv, self.code = argv, done.returncode
        self.out, self.err = done.stdout.decode(), done.stderr.decode()

    def __str__(self):
        return "%s\nexit %d\n%s\n%s" % (self.argv, self.code, self.out[-3000:], self.err[-3000:])


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="stele-reader-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.disk = os.path.join(self.dir, "disk")

    def read(self, data, *how):
        """The reader's exit code; what it wrote is right."""
        out = os.path.join(self.dir, "out")
        r = Result(sys.executable, "-B", *how, READER, "--id", h.sha256(data).hex(), "-o", out, self.disk)
        self.assertEqual(r.code == 0, os.path.exists(out), str(r))
        if r.code == 0:
            with open(out, "rb") as f:
                self.assertEqual(f.read(), data)
            os.unlink(out)
        return r

    def tool(self, name, *argv, code=0):
        r = Result(os.path.join(BIN, name), *argv)
        self.assertEqual(r.code, code, str(r))
        return r

    def bytes_of(self, name):
        with open(os.path.join(self.disk, name), "rb") as f:
            return f.read()

    def all_bytes(self):
        names = (os.path.relpath(os.path.join(top, name), self.disk) for top, _, names in os.walk(self.disk) for name in names)
        return {name: self.bytes_of(name) for name in names}


# A disk that cannot read one page: as if the kernel said so.
BAD_SECTOR = """
import errno, os, runpy, sys
real, bad = os.pread, int(sys.argv.pop(1))
def pread(fd, n, at):
    if at <= bad < at + n and os.readlink("/proc/self/fd/%d" % fd).endswith("extent-00000001"):
        if at == bad:
            raise OSError(errno.EIO, "bad sector")
        n = bad - at  # what lies in front of it is read
    return real(fd, n, at)
os.pread = pread
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class BadSector(Case):
    def read_with(self, bad, data):
        return super().read(data, "-c", BAD_SECTOR, bad)

    def test_only_what_lies_in_it_is_lost(self):
        first, second, third = b"in the first page", b"in the second", b"in the third"
        parts = {0: h.header(cycle=1, first_lsn=1)}
        parts[PAGE] = h.batch([h.record(first)], 1, (1, 1, PAGE))
        parts[2 * PAGE] = h.batch([h.record(second)], 2, (1, 1, 2 * PAGE))
        parts[3 * PAGE] = h.batch([h.record(third)], 3, (1, 1, 3 * PAGE))
        h.disk(self.disk, parts)
        for bad in (0, 4 * PAGE, h.EXTENT_LEN - PAGE):
            for data in (first, second, third):
                r = self.read_with(bad, data)
                self.assertEqual(r.code, 0, str(r))
        self.assertEqual(self.read_with(2 * PAGE, first).code, 0)
        self.assertEqual(self.read_with(2 * PAGE, third).code, 0)
        self.assertEqual(self.read_with(PAGE, second).code, 0)
        r = self.read_with(PAGE, first)
        self.assertEqual(r.code, 4, str(r))
        self.assertIn("offset %d: bad sector" % PAGE, r.err)


class LeftOvers(Case):
    """An extent that was used, emptied and used again."""
    mine, old, older = b"what lies here now", b"what lay here before", b"and before that"

    def parts(self, cycle=2):
        """One batch of this cycle; behind it batches, a footer's place and a trailer of earlier ones."""
        parts = {0: h.header(cycle=cycle, first_lsn=100)}
        parts[PAGE] = h.batch([h.record(self.mine)], 100, (1, 2, PAGE))
        parts[2 * PAGE] = h.batch([h.record(self.old), h.tomb(h.record(self.mine), h.LAST)], 50, (1, 1, 2 * PAGE))
        parts[3 * PAGE] = h.batch([h.record(self.older)], 51, (1, 1, 3 * PAGE))
        parts[h.EXTENT_LEN - PAGE] = h.trailer(1, 1, 40, 51, 4 * PAGE)
        return parts

    def test_left_overs_count_for_nothing(self):
        h.disk(self.disk, self.parts())
        self.assertEqual(self.read(self.mine).code, 0)
        for data in (self.old, self.older):
            self.assertIn("no record of it", self.ok_code(self.read(data), 4).err)

    def ok_code(self, r, code):
        self.assertEqual(r.code, code, str(r))
        return r

    def test_nor_when_the_header_is_damaged(self):
        """Then the cycle is the highest that any batch has under its own check."""
        parts = self.parts()
        parts[0] = parts[0][:60] + b"\xff" + parts[0][61:]
        h.disk(self.disk, parts)
        self.assertEqual(self.read(self.mine).code, 0)
        self.assertEqual(self.read(self.old).code, 4)

    def test_an_extent_that_is_prepared_holds_nothing(self):
        parts = self.parts()
        parts[0] = h.header(cycle=3, first_lsn=0)
        h.disk(self.disk, parts)
        for data in (self.mine, self.old, self.older):
            self.assertEqual(self.read(data).code, 4)

    def test_nor_do_entries_within_a_batch(self):
        """A batch's own meta area, and in its gap an entry that checks in another cycle and one from another place."""
        parts = self.parts()
        head_and_area = bytearray(parts[PAGE])
        for at, place in ((2048, (1, 1, PAGE + 2048)), (3072, (1, 2, 7 * PAGE + 3072))):
            kind, ident, sub, meta = h.record(self.old)
            stale = h.entry(kind, ident, sub, meta, 60, place)
            self.assertLess(len(stale), 1024)
            head_and_area[at:at + len(stale)] = stale
        area = bytes(head_and_area[64:])
        # the batch's own check must hold: its head is made again over that area
        import struct
        head = bytearray(head_and_area[:56])
        struct.pack_into("<I", head, 40, h.crc32c(area))
        parts[PAGE] = h.checked(bytes(head)) + area
        h.disk(self.disk, parts)
        r = self.read(self.mine)
        self.assertEqual((r.code, r.err), (0, ""), str(r))
        self.assertEqual(self.read(self.old).code, 4)

    def test_nor_do_they_hide_what_lies_behind_them(self):
        """In a gap an old batch begins that reached beyond the next batch of this cycle."""
        late, parts = b"written behind the gap", self.parts()
        old = h.batch([h.record(self.old + bytes(2 * PAGE))], 50, (1, 1, 2 * PAGE))
        self.assertEqual(len(old), 3 * PAGE)
        parts[2 * PAGE] = old
        parts[3 * PAGE] = h.batch([h.record(late)], 102, (1, 2, 3 * PAGE))
        h.disk(self.disk, parts)
        for data in (self.mine, late):
            self.assertEqual(self.read(data).code, 0)
        self.tool("stele-fsck", self.disk)
        for data in (self.mine, late):
            self.assertEqual(self.read(data).code, 0)

    def test_a_tombstone_of_this_cycle_counts(self):
        """So that the test above would see one that counts."""
        parts = self.parts()
        parts[2 * PAGE] = h.batch([h.tomb(h.record(self.mine), h.LAST)], 101, (1, 2, 2 * PAGE))
        h.disk(self.disk, parts)
        self.assertEqual(self.read(self.mine).code, 4)

    def test_the_store_agrees(self):
        """stele-dump and stele-fsck on the same disk, which no program of ours has written."""
        h.disk(self.disk, self.parts())
        r = self.tool("stele-dump", os.path.join(self.disk, "extent-00000001"))
        self.assertEqual(r.out.count("left-over"), 3, str(r))
        self.assertIn(" 0 damaged", r.out)
        r = self.tool("stele-fsck", self.disk)
        self.assertIn("0 shards, 0 references, 1 records, 0 marks", r.out)
        self.assertIn("clean", r.out)
        self.assertEqual(self.read(self.mine).code, 0)  # sealed now, by opening it
        self.assertEqual(self.read(self.old).code, 4)


class Newer(Case):
    data = b"some bytes"

    def refused(self):
        """Everybody refuses it, in one line that says what to do; nothing is changed, and the reader writes nothing."""
        before = self.all_bytes()
        for options in ((), ("--deep",), ("--rebuild-index",), ("--json",), ("--look",)):
            r = self.tool("stele-fsck", *options, self.disk, code=1)
            self.assertEqual(len(r.err.splitlines()), 1, str(r))
            self.assertIn("is newer than this program's", r.err)
            self.assertIn("use the programs of a newer release", r.err)
            self.assertIn(self.disk, r.err)
        r = self.read(self.data)
        self.assertEqual(r.code, 5, str(r))
        self.assertRegex(r.err, r"^stele_reader: .*disk.*newer than this reader; use a newer one\n$")
        after = self.all_bytes()
        after.pop("lock", None)
        self.assertEqual(after, before)

    def parts(self, **header):
        return {0: h.header(**header), PAGE: h.batch([h.record(self.data)], 1, (1, 1, PAGE))}

    def test_superblock(self):
        for fields in ({"version": 2}, {"version": 0xffffffff}, {"features": 1}, {"features": 1 << 31}):
            h.disk(self.disk, self.parts(), **fields)
            self.refused()
            r = self.tool("stele-dump", os.path.join(self.disk, "superblock"), code=5)
            self.assertIn("use the programs of a newer release", r.out)

    def test_extent(self):
        """A disk whose superblock went back: nothing in the extent may be taken for damage and written over."""
        h.disk(self.disk, self.parts(version=2))
        self.refused()
        r = self.tool("stele-dump", os.path.join(self.disk, "extent-00000001"), code=5)
        self.assertIn("disk format 2 is newer than this program's 1: use the programs of a newer release", r.out)

    def test_this_format_is_taken(self):
        h.disk(self.disk, self.parts())
        self.assertEqual(self.read(self.data).code, 0)
        self.tool("stele-dump", os.path.join(self.disk, "superblock"))
        self.assertIn("clean", self.tool("stele-fsck", "--deep", self.disk).out)
        self.assertEqual(self.read(self.data).code, 0)

    def test_lines(self):
        """Under 300 lines, and Python's standard library alone."""
        with open(READER) as f:
            lines = f.read().splitlines()
        self.assertLess(len(lines), 300)
        imports = {name.strip() for line in lines if line.startswith("import ") for name in line[7:].split(",")}
        self.assertLessEqual(imports, sys.stdlib_module_names)
        self.assertFalse([line for line in lines if line.startswith("from ")])


class Look(Case):
    """stele-fsck --look: every structure is checked as it lies there, and nothing is changed."""
    def look(self, code):
        before = self.all_bytes()
        r = self.tool("stele-fsck", "--look", "--json", self.disk, code=code)
        self.assertEqual(self.all_bytes(), before)
        return json.loads(r.out)

    def make(self, second_at=None):
        """Two batches, the second behind the first or where it is told to be; where each of them begins and ends."""
        items = [h.record(b"a"), h.record(b"b" * 5000), (h.REF, h.sha256(b"x"), h.sha256(b"y"), h.sha256(b"z")),
                 (h.REFUSE, h.sha256(b"r"), h.sha256(b"s"), b""), (h.KEEP, h.sha256(b"k"), h.sha256(b"l"), b"promise")]
        first = h.batch(items[:2], 1, (1, 1, PAGE))
        at = second_at or PAGE + len(first)
        second = h.batch(items[2:], 2, (1, 1, at))
        h.disk(self.disk, {0: h.header(), PAGE: first, at: second})
        return [*range(PAGE, PAGE + len(first)), *range(at, at + len(second))]

    def flips(self, offsets, rng):
        path = os.path.join(self.disk, "extent-00000001")
        for off in offsets:
            with open(path, "r+b") as f:
                f.seek(off)
                was = f.read(1)
                f.seek(off)
                f.write(bytes([was[0] ^ 1 << rng.randrange(8)]))
                f.flush()
                damage = self.look(5)["damage"]
                self.assertTrue(damage and all(d["why"] for d in damage), off)
                f.seek(off)
                f.write(was)
        self.assertEqual(self.look(0)["damage"], [])

    def test_finds_any_bit(self):
        rng = random.Random(7)
        bytes_of = self.make()
        self.assertEqual(self.look(0)["entries_read"], 5)
        self.flips([rng.randrange(PAGE)] + rng.sample(bytes_of, 60), rng)
        shutil.rmtree(self.disk)
        bytes_of = self.make(h.EXTENT_LEN // 16 * 15)
        self.tool("stele-fsck", self.disk)  # opens it: the extent, nearly full, is sealed now
        self.assertEqual(self.look(0)["entries_read"], 5)
        last = h.EXTENT_LEN - PAGE
        footer = range(last - PAGE, last)
        self.flips(rng.sample(bytes_of, 40) + rng.sample(footer, 20) + [last, last + 5, last + 20, last + 3000, last + 4095], rng)

    def test_names_what_it_finds(self):
        self.make()
        path = os.path.join(self.disk, "extent-00000001")
        with open(path, "r+b") as f:
            raw = f.read(64 * PAGE)
            f.seek(raw.index(b"b" * 5000) + 77)
            f.write(b"B")
        damage = self.look(5)["damage"]
        named = [d for d in damage if d.get("kind") == "record"]
        self.assertEqual([d["id"] for d in named], [h.sha256(b"b" * 5000).hex()], damage)
        self.assertIn("extent 00000001: its meta does not check at ", named[0]["why"])
        r = self.tool("stele-fsck", "--look", self.disk, code=5)
        self.assertIn("5 entries in 1 extents, dead and alive: 2 damaged", r.out)

    def test_a_file_that_was_cut(self):
        """It is named, by a look and by the whole check alike, and the others are looked at all the same."""
        end = self.make()[-1] + 1
        parts = {0: h.header(2, 1, 9), PAGE: h.batch([h.record(b"other")], 9, (2, 1, PAGE))}
        h.disk(self.disk, parts, extent=2)
        for size, entries in ((end, 6), (PAGE + 100, 1), (0, 1)):
            os.truncate(os.path.join(self.disk, "extent-00000001"), size)
            found = self.look(5)
            self.assertIn("extent 00000001: the file has %d bytes, not %d" % (size, h.EXTENT_LEN),
                          [d["why"] for d in found["damage"]])
            self.assertEqual((found["entries_read"], found["extents"]), (entries, 2), found)
        self.make()
        os.truncate(os.path.join(self.disk, "extent-00000001"), end)
        self.assertIn("the file has %d bytes" % end, self.tool("stele-fsck", self.disk, code=5).out)

    def test_a_name_that_leads_nowhere(self):
        self.make()
        os.symlink("/nonexistent/x", os.path.join(self.disk, "extent-00000003"))
        r = self.tool("stele-fsck", self.disk, code=1)
        self.assertIn("extent-00000003: No such file", r.err)
        self.assertIn("there is no such disk", self.tool("stele-fsck", self.disk + "x", code=2).err)

    def test_usage(self):
        self.make()
        self.tool("stele-fsck", "--look", "--deep", self.disk, code=2)
        self.tool("stele-fsck", "--look", "--rebuild-index", self.disk, code=2)
        self.tool("stele-fsck", "--look", self.dir, code=2)
        with open(os.path.join(self.disk, "lock"), "w") as f:  # in use
            fcntl.flock(f, fcntl.LOCK_EX)
            self.assertIn("another process has this store open", self.tool("stele-fsck", "--look", self.disk, code=1).err)


del Case
if __name__ == "__main__":
    unittest.main()
