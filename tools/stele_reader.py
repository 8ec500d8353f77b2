#!/usr/bin/env python3
"""Rebuilds an object from disks alone: no daemon, no index, nothing but Python's standard library.

Written from storage/FORMAT.md and erasure/FORMAT.md and from nothing else: the archive must outlive the software that
wrote it. The directories together must hold a record of the object and k shards of each of its blocks (of an LRC: a
pattern that decodes). Every structure and hash met is checked, signatures are not; FILE appears only when all held.
Exit code 0: done; 2: usage; 4: no record here; 5: something does not check; 7: too few shards, which are named.
"""
import argparse, functools, hashlib, os, re, struct, sys, tempfile

PAGE, CELL, SHARD, RECORD, TOMB, NEWER = 4096, 65536, 1, 3, 5, ": a format newer than this reader; use a newer one"
LINES = ("stele.dev/deposit/v1 cluster type object length tree layout pool depositor time after chain meta plain "
         "sm3 nonce").split()
BROKEN = (ValueError, IndexError, KeyError, struct.error)  # bytes that check, and yet are no such structure

class Stop(Exception):
    """args: exit code, why"""

def say(text, *args):
    print("stele_reader: " + text % args, file=sys.stderr)

def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def tree_root(leaves):
    """RFC 9162: pairs; an odd last one moves up as it is."""
    while len(leaves) > 1:
        pairs = [leaves[i:i + 2] for i in range(0, len(leaves), 2)]
        leaves = [sha256(b"\x01", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return leaves[0] if leaves else sha256()

def checks(salt, data):
    """Do the last 8 bytes hold the SipHash-2-4 of all in front of them (a multiple of 8)?"""
    mask, (k0, k1) = (1 << 64) - 1, struct.unpack("<QQ", salt)
    *words, want = struct.unpack("<%dQ" % (len(data) // 8), data)
    v0, v1, v2, v3 = k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573
    for word, rounds in [(w, 2) for w in words] + [((len(data) - 8 & 255) << 56, 2), (0, 4)]:
        v2, v3 = v2 ^ (0xff if rounds == 4 else 0), v3 ^ word
        for _ in range(rounds):
            v0, v2 = v0 + v1 & mask, v2 + v3 & mask
            v1, v3 = (v1 << 13 & mask | v1 >> 51) ^ v0, (v3 << 16 & mask | v3 >> 48) ^ v2
            v2, v0 = v2 + v1 & mask, (v0 << 32 & mask | v0 >> 32) + v3 & mask
            v1, v3 = (v1 << 17 & mask | v1 >> 47) ^ v2, (v3 << 21 & mask | v3 >> 43) ^ v0
            v2 = v2 << 32 & mask | v2 >> 32
        v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3 == want

CRC = functools.reduce(lambda t, _: [c >> 1 ^ (0x82f63b78 if c & 1 else 0) for c in t], range(8), range(256))

def crc32c(data, table=CRC):
    state = 0xffffffff
    for byte in data:
        state = state >> 8 ^ table[state & 255 ^ byte]
    return state ^ 0xffffffff

EXP = functools.reduce(lambda e, _: e + [e[-1] << 1 ^ (0x11d if e[-1] & 128 else 0)], range(254), [1])
LOG = {value: power for power, value in enumerate(EXP)}
MUL = [bytes(EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0 for b in range(256)) for a in range(256)]
INV = [0] + [EXP[-LOG[a] % 255] for a in range(1, 256)]

def global_rows(k, l, g):
    place, group = [i % (k // l) for i in range(k)], [i // (k // l) for i in range(k)]
    if l == 1:
        return [[MUL[INV[k + t + 1 ^ i]][k ^ i] for i in range(k)] for t in range(g)]
    if g == 1:
        return [[j + 1 for j in place]]
    if g == 2 and k // l <= 15:
        a = [EXP[(q + 17 * j) % 255] if l > 2 else (j + 1) * (16 if q else 1) for j, q in zip(place, group)]
        return [a, [MUL[x][x] for x in a]]
    if (k, l, g) != (12, 2, 3):
        raise ValueError("there is no code lrc-%d-%d-%d" % (k, l, g))
    rows = bytes.fromhex("26ac2d84b5486d316753fcf7ec37de03988d083a457d36be463a50d743fcfd30a46fd329")
    return [rows[:12], rows[12:24], rows[24:]]

def code_rows(family, k, m, l):
    """What each shard is made of: a coefficient for each data shard."""
    parity = ([[1]] * m if family == 1 else [[INV[k + p ^ i] for i in range(k)] for p in range(m)] if family == 2 else
              [[int(i // (k // l) == p) for i in range(k)] for p in range(l)] + global_rows(k, l, m - l))
    return tuple(map(tuple, [[int(i == j) for j in range(k)] for i in range(k)] + parity))

@functools.lru_cache(256)
def solve(code, have):
    """{data shard: {shard at hand: coefficient}} for all that can be had (Gauss and Jordan)."""
    k, pivots = len(code[0]), {}
    work = [list(code[h]) + [int(h == j) for j in have] for h in have]
    for col in range(k):
        at = next((x for x, row in enumerate(work) if row[col] and x not in pivots.values()), None)
        if at is not None:
            pivots[col], scale = at, INV[work[at][col]]
            work[at] = [MUL[scale][v] for v in work[at]]
            work = [row if x == at or not row[col] else [v ^ MUL[row[col]][w] for v, w in zip(row, work[at])]
                    for x, row in enumerate(work)]
    return {col: {h: f for h, f in zip(have, work[at][k:]) if f} for col, at in pivots.items()
            if sum(map(bool, work[at][:k])) == 1}

def read(path, at, length):
    """Bytes of a file; zeros where it ends or the disk cannot read."""
    out = b""
    while len(out) < length:  # a read ends early in front of a bad sector
        try:
            with open(path, "rb", buffering=0) as f:
                out += os.pread(f.fileno(), length - len(out), at + len(out)) or bytes(length - len(out))
        except OSError as e:
            say("%s: offset %d: %s", path, at + len(out), e.strerror)
            out += bytes(min(PAGE, length - len(out)))
    return out

def open_disk(path):
    """[(extent's file, its number, its cycle or None, salt)]"""
    names = sorted(n for n in os.listdir(path) if re.fullmatch("extent-[0-9a-f]{8}", n))
    if not names and "superblock" not in os.listdir(path):
        raise Stop(2, path + ": not a disk's directory: neither superblock nor extents")
    page, salt, found = read(os.path.join(path, "superblock"), 0, PAGE), None, []
    if page[:8] == b"STLSUPER" and checks(page[64:80], page):
        salt = page[64:80]
        if struct.unpack_from("<II", page, 8) != (1, 0):
            raise Stop(5, path + NEWER)
    else:
        say("%s: the superblock does not check", path)
    for file, number in ((os.path.join(path, name), int(name[7:], 16)) for name in names):
        head, cycle = read(file, 0, PAGE), None
        if head[:4] == b"STLX" and checks(head[32:48], head):
            version, extent, cycle = struct.unpack_from("<III", head, 4)
            if version > 1 or extent != number or salt not in (None, head[32:48]):
                raise Stop(5, file + (NEWER if version > 1 else ": its header is of extent %08x or another disk" % extent))
            salt = head[32:48]
        else:
            say("%s: the header does not check", file)
        if cycle is None or head[48:56] != bytes(8):  # else prepared: holds nothing
            found.append((file, number, cycle))
    return [(file, number, cycle, salt) for file, number, cycle in found if salt]

def batches(file, number, cycle, salt):
    """(offset, meta area, cycle) of each batch that counts; of any cycle if cycle is None."""
    at, end, window, start = PAGE, os.path.getsize(file), b"", 0
    while at < end:
        if not start <= at < start + len(window):
            start, window = at, read(file, at, 64 * PAGE)
        head, step = window[at - start:at - start + 64], PAGE
        if head[:4] == b"STLB" and checks(salt, head):
            version, _, _, extent, of, page, length, meta_len = struct.unpack_from("<HHQIIIII", head, 4)
            if ((version, extent, page) == (1, number, at // PAGE) and cycle in (None, of)
                    and PAGE <= meta_len <= length <= end - at):
                step, meta = length, read(file, at, meta_len)
                if crc32c(meta[64:]) != struct.unpack_from("<I", head, 40)[0]:
                    say("%s: the meta area of the batch at %d is damaged", file, at)
                yield at, meta, of
        at += step

class Entry:
    def __init__(self, file, area, at):
        (self.kind, pool, self.index, self.birth, self.id, self.sub, meta_len, meta_crc, self.data_len,
         self.data_page, self.len, *self.place) = struct.unpack_from("<4xBxHB7xQ32s32sIIIIIIII", area, at)
        self.file, self.key = file, (self.kind, self.index, pool, self.id, self.sub)
        self.meta = meta if crc32c(meta := area[at + 128:at + 128 + meta_len]) == meta_crc else b""  # damaged: nothing

def entries(disks, ids, wanted):
    """The living entries of one kind that have one of these ids."""
    for disk in disks:
        found, dead = [], {}
        for file, number, cycle, salt in disk:
            newest = cycle or max((of for _, _, of in batches(file, number, None, salt)), default=0)
            for start, area, _ in batches(file, number, newest, salt):
                at = 64
                while at + 128 <= len(area):
                    head = area[at:at + 128]
                    e = Entry(file, area, at) if head[:4] == b"STLE" and checks(salt, head) else None
                    counts = e and e.place == [number, newest, (start + at) // 64]
                    if counts and e.id in ids and e.kind == TOMB and len(e.meta) == 16:
                        kind, index, lsn = struct.unpack("<BB6xQ", e.meta)
                        dead.setdefault((kind, index) + e.key[2:], []).append(lsn)
                    elif counts and e.id in ids and e.kind == wanted:
                        found.append(e)
                    at += max(e.len, 64) if counts else 64
        yield from (e for e in found if e.birth > max(dead.get(e.key, [0])))

def decode_record(e):
    """(the object's tree in hex, [(block, off, len)], inline bytes)"""
    at = 4 + struct.unpack_from("<I", e.meta)[0]
    text, end = e.meta[4:at], at + 72 + 40 * struct.unpack_from("<I", e.meta, at + 68)[0]
    layout, inline, inline_len = e.meta[at + 64:end], e.meta[end + 4:], struct.unpack_from("<I", e.meta, end)[0]
    lines = [line.partition(" ") for line in text.decode("ascii").split("\n")]
    deposit, pieces = {name: value for name, _, value in lines}, list(struct.iter_unpack("<32sII", layout[8:]))
    if (sha256(text) != e.sub or [line[0] for line in lines] != LINES + [""] or inline_len != len(inline)
            or deposit["object"] != "sha256:" + e.id.hex() or pieces and inline
            or deposit["layout"] != (sha256(layout).hex() if pieces else "-")
            or int(deposit["length"]) != sum(p[2] for p in pieces) + len(inline)):
        raise ValueError("deposit, layout and bytes contradict each other")
    return deposit["tree"], pieces, inline

class Block:
    def __init__(self, ident):
        self.name, self.id, self.rows, self.shards = "block " + ident.hex(), ident, {}, {}

    def add(self, e):
        family, k, m, l, n, log2, length, size = struct.unpack_from("<4xBBBBBB2xQQ", e.meta)
        roots, cells = 1 if family == 1 else n, -(-size // CELL)
        text, rows = e.meta[:32 + 32 * roots], e.meta[32 + 32 * roots + 4 * cells:]
        if (sha256(text) != self.id or text[:4] != b"SBD1" or not 0 < family < 4 or not k or n != k + m or log2 != 16
                or not length or size != (-(-length // k) + 63) // 64 * 64 or family == 3 and (not l or k % l)
                or len(rows) != roots * cells * 32 or e.data_len != size or e.index >= n):
            raise ValueError("descriptor")
        for place, i in enumerate(sorted(range(roots), key=lambda i: (i != e.index % roots, i))):
            row = [rows[32 * j:32 * j + 32] for j in range(place * cells, (place + 1) * cells)]
            if tree_root(row) != text[32 + 32 * i:64 + 32 * i]:
                raise ValueError("row of shard %d" % i)
            self.rows[i] = row
        self.roots, self.length, self.size, self.code = roots, length, size, code_rows(family, k, m, l)
        self.shards.setdefault(e.index, []).append((e, struct.unpack_from("<%dI" % cells, e.meta, len(text))))

    def lack(self, have, want=None):
        """Why the data shards wanted (none: all) cannot be had from those at hand, or None."""
        if not self.shards:
            return self.name + ": no shard of it is here"
        n, k = len(self.code), len(self.code[0])
        if not set(range(k) if want is None else want) <= solve(self.code, tuple(have)).keys():
            return "%s: too few shards: needs %d of %d; good here: %s; missing or damaged: %s" % (self.name, k, n,
                ", ".join(map(str, have)) or "none", ", ".join(str(i) for i in range(n) if i not in have))

    def cell(self, i, c):
        """Cell c of shard i as a disk has it, checked; or None."""
        for e, crcs in self.shards[i]:
            cell = read(e.file, e.data_page * PAGE + c * CELL, min(CELL, self.size - c * CELL))
            if crc32c(cell) == crcs[c] and sha256(b"\0", cell) == self.rows[i % self.roots][c]:
                return cell
            say("%s: cell %d of shard %d of %s is damaged", e.file, c, i, self.name)

    def column(self, c, want):
        """(offset in the block, bytes) of cell c of each data shard wanted, decoded where it is not to be had."""
        have, cells, helpers = sorted(self.shards), {None: None}, {None}
        while any(cells[h] is None for h in helpers):
            if self.lack(have, want):
                raise Stop(7, self.lack(have, want))
            plan = solve(self.code, tuple(have))
            helpers = {h for i in want for h in plan[i]}
            cells.update((h, self.cell(h, c)) for h in helpers - cells.keys())
            have = [i for i in have if cells.get(i, b"") is not None]
        for i in want:
            numbers = [int.from_bytes(cells[h].translate(MUL[factor]), "little") for h, factor in plan[i].items()]
            whole = functools.reduce(int.__xor__, numbers).to_bytes(min(CELL, self.size - c * CELL), "little")
            if sha256(b"\0", whole) != self.rows[i % self.roots][c]:
                raise Stop(5, "%s: cell %d of shard %d decodes to other bytes" % (self.name, c, i))
            yield i * self.size + c * CELL, whole

def write_object(out, disks, pieces):
    blocks, start = {ident: Block(ident) for ident, _, _ in pieces}, 0
    for e in entries(disks, blocks, SHARD):
        try:
            blocks[e.id].add(e)
        except BROKEN as why:
            say("%s: shard %d of block %s does not check: %s", e.file, e.index, e.id.hex(), why)
    lacks = [lack for lack in (b.lack(sorted(b.shards)) for b in blocks.values()) if lack]
    if lacks:
        raise Stop(7, "\n".join(lacks))
    for ident, off, length in pieces:
        b, end = blocks[ident], off + length
        if end > b.length:
            raise Stop(5, b.name + ": a piece reaches beyond its end")
        for c in range(-(-b.size // CELL)):
            spans = ((i * b.size + c * CELL, i * b.size + min((c + 1) * CELL, b.size)) for i in range(len(b.code[0])))
            for at, cell in b.column(c, [i for i, (first, last) in enumerate(spans) if first < end and last > off]):
                out.seek(start + max(at, off) - off)
                out.write(cell[max(off - at, 0):max(end - at, 0)])
        start += length

def rebuild(ident, path, disks):
    why, folder = Stop(4, "%s: no record of it is on these disks" % ident.hex()), os.path.dirname(os.path.abspath(path))
    for e in sorted({e.meta: e for e in entries(disks, {ident}, RECORD)}.values(), key=lambda e: len(e.meta)):
        try:
            tree, pieces, inline = decode_record(e)
            with tempfile.TemporaryDirectory(dir=folder) as tmp, open(os.path.join(tmp, "object"), "wb+") as out:
                out.write(inline)
                write_object(out, disks, pieces)
                out.seek(0)
                leaves = [sha256(b"\0", chunk) for chunk in iter(lambda: out.read(CELL), b"")]
                out.seek(0)
                if hashlib.file_digest(out, "sha256").digest() != ident or tree_root(leaves).hex() != tree:
                    raise Stop(5, "%s: deposit %s leads to other bytes" % (ident.hex(), e.sub.hex()))
                return os.replace(out.name, path)
        except (Stop, *BROKEN) as bad:
            why = bad if isinstance(bad, Stop) else Stop(5, "%s: a record does not check: %s" % (e.file, bad))
    raise why

def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--id", required=True, help="the object's SHA-256 in hex")
    args.add_argument("-o", required=True, metavar="FILE", help="where to write it")
    args.add_argument("disk", nargs="+", metavar="DISKDIR", help="a disk's directory")
    a = args.parse_args()
    if not re.fullmatch("(sha256:)?[0-9a-fA-F]{64}", a.id):
        args.error("--id: 64 hex digits")
    try:
        rebuild(bytes.fromhex(a.id[-64:]), a.o, [open_disk(path) for path in dict.fromkeys(a.disk)])
    except (Stop, OSError) as e:
        say("%s", e.args[1] if isinstance(e, Stop) else e)
        return e.args[0] if isinstance(e, Stop) else 2

if __name__ == "__main__":
    sys.exit(main())
