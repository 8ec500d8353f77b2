#!/usr/bin/env python3
"""Rebuilds an object from disks alone: no daemon, no index, nothing but Python's standard library.

    stele_reader.py --id ID -o FILE DISKDIR...

Written from storage/FORMAT.md and erasure/FORMAT.md and from nothing else: the archive must outlive the software
that wrote it. The directories together must hold one record of the object and k shards of each of its blocks (for
an LRC: a pattern that decodes). Checked on the way: superblocks, extent headers, batches, entries, descriptors,
rows, every cell used, layout, deposit hash, the object's tree and its SHA-256; FILE appears only when all of it
held. Not checked: signatures (who deposited). Reads only; holds one cell of each shard in memory.
Exit code 0: done; 2: usage; 4: no record here; 5: something does not check; 7: too few shards, which are named.
"""
import argparse
import hashlib
import os
import re
import struct
import sys

PAGE, CELL, EXTENT_MAX = 4096, 65536, (4 << 30) - PAGE
SHARD, RECORD, TOMB = 1, 3, 5
FIELDS = "cluster type object length tree layout pool depositor time after chain meta plain sm3 nonce".split()


class Stop(Exception):
    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


def say(text):
    print("stele_reader: " + text, file=sys.stderr)


# ---- Checks ----

def sha256(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


def tree_root(leaves):
    """RFC 9162: pairs; an odd last one moves up as it is."""
    while len(leaves) > 1:
        pairs = [sha256(b"\x01", *leaves[i:i + 2]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[2 * len(pairs):]
    return leaves[0] if leaves else sha256()


def check8(salt, data):
    """SipHash-2-4."""
    mask, (k0, k1) = (1 << 64) - 1, struct.unpack("<QQ", salt)
    v0, v1, v2, v3 = (k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
                      k1 ^ 0x7465646279746573)
    last = data[len(data) & ~7:].ljust(7, b"\0") + bytes([len(data) & 255])
    words = [(w, 2) for (w,) in struct.iter_unpack("<Q", data[:len(data) & ~7] + last)]
    for word, rounds in words + [(None, 4)]:
        if word is None:
            v2 ^= 0xff
        v3 ^= word or 0
        for _ in range(rounds):
            v0, v2 = v0 + v1 & mask, v2 + v3 & mask
            v1, v3 = (v1 << 13 & mask | v1 >> 51) ^ v0, (v3 << 16 & mask | v3 >> 48) ^ v2
            v0 = v0 << 32 & mask | v0 >> 32
            v2, v0 = v2 + v1 & mask, v0 + v3 & mask
            v1, v3 = (v1 << 17 & mask | v1 >> 47) ^ v2, (v3 << 21 & mask | v3 >> 43) ^ v0
            v2 = v2 << 32 & mask | v2 >> 32
        v0 ^= word or 0
    return struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)


def checks(salt, data):
    return check8(salt, data[:-8]) == data[-8:]


def crc_table():
    table = list(range(256))
    for _ in range(8):
        table = [c >> 1 ^ (0x82f63b78 if c & 1 else 0) for c in table]
    return table


CRC = crc_table()
CRC_PLANE = [bytes(c >> 8 * b & 255 for c in CRC) for b in range(4)]
LANE = 64  # bytes of a lane


def crc_step(state, data):
    for byte in data:
        state = state >> 8 ^ CRC[(state ^ byte) & 255]
    return state


LANE_SHIFT = [[crc_step(x << 8 * b, bytes(LANE)) for x in range(256)] for b in range(4)]


def crc32c(data):
    """The data cut into lanes of 64 bytes, which advance together (bytes.translate looks up a byte of each);
    their remainders are then joined from left to right."""
    width = len(data) // LANE
    state = [0xff if width else 0] * 4  # the initial value belongs to the first lane
    for i in range(LANE if width else 0):
        at = (state[0] ^ int.from_bytes(data[i:width * LANE:LANE], "little")).to_bytes(width, "little")
        state = [a ^ int.from_bytes(at.translate(p), "little") for a, p in zip(state[1:] + [0], CRC_PLANE)]
    total = 0 if width else 0xffffffff
    for lane in zip(*(plane.to_bytes(width, "little") for plane in state)):
        total = (LANE_SHIFT[0][total & 255] ^ LANE_SHIFT[1][total >> 8 & 255] ^ LANE_SHIFT[2][total >> 16 & 255]
                 ^ LANE_SHIFT[3][total >> 24] ^ int.from_bytes(lane, "little"))
    return crc_step(total, data[width * LANE:]) ^ 0xffffffff


# ---- GF(2^8) and the codes ----

EXP = [1]
while len(EXP) < 255:
    EXP.append(EXP[-1] << 1 ^ (0x11d if EXP[-1] & 128 else 0))
LOG = {value: power for power, value in enumerate(EXP)}
TIMES = {}


def mul(a, b):
    return EXP[(LOG[a] + LOG[b]) % 255] if a and b else 0


def inv(a):
    return EXP[-LOG[a] % 255]


def times(a):
    """The table of multiplication by a, for bytes.translate."""
    if a not in TIMES:
        TIMES[a] = bytes(mul(a, x) for x in range(256))
    return TIMES[a]


def global_rows(k, g, l):
    c, size, group = lambda q, i: inv(k + q ^ i), k // l, [i // (k // l) for i in range(k)]
    place = [i % size for i in range(k)]
    if l == 1:
        return [[mul(c(t + 1, i), inv(c(0, i))) for i in range(k)] for t in range(g)]
    if g == 1:
        return [[j + 1 for j in place]]
    if g == 2 and size <= 15:
        a = ([(j + 1) * (16 if q else 1) for j, q in zip(place, group)] if l == 2 else
             [EXP[(q + 17 * j) % 255] for j, q in zip(place, group)])
        return [a, [mul(x, x) for x in a]]
    if (k, l, g) == (12, 2, 3):
        return [list(bytes.fromhex(t)) for t in
                ("26ac2d84b5486d316753fcf7", "ec37de03988d083a457d36be", "463a50d743fcfd30a46fd329")]
    raise Stop(5, "lrc-%d-%d-%d: there is no such code" % (k, l, g))


def code_rows(family, k, m, l):
    """What each of the n shards is made of: k coefficients."""
    if family == 1:
        parity = [[1]] * m
    elif family == 2:
        parity = [[inv(k + p ^ i) for i in range(k)] for p in range(m)]
    else:
        parity = [[int(i // (k // l) == p) for i in range(k)] for p in range(l)] + global_rows(k, m - l, l)
    return [[int(i == j) for j in range(k)] for i in range(k)] + parity


def solve(rows, have):
    """{data shard: {shard at hand: coefficient}} for all that can be had (Gauss and Jordan)."""
    work, k, pivots = [(list(rows[h]), {h: 1}) for h in have], len(rows[0]), {}
    for col in range(k):
        at = next((x for x, (row, _) in enumerate(work) if x not in pivots.values() and row[col]), None)
        if at is None:
            continue
        pivots[col], scale = at, inv(work[at][0][col])
        work[at] = ([mul(scale, v) for v in work[at][0]], {h: mul(scale, v) for h, v in work[at][1].items()})
        for x, (row, mix) in enumerate(work):
            if x != at and row[col]:
                f = row[col]
                mix = {h: mix.get(h, 0) ^ mul(f, work[at][1].get(h, 0)) for h in mix.keys() | work[at][1].keys()}
                work[x] = ([v ^ mul(f, w) for v, w in zip(row, work[at][0])], {h: v for h, v in mix.items() if v})
    return {col: work[x][1] for col, x in pivots.items() if sum(map(bool, work[x][0])) == 1}


# ---- Disks ----

def read(path, at, length):
    """Bytes of a file; fewer where it ends or the disk cannot read."""
    try:
        with open(path, "rb", buffering=0) as f:
            return os.pread(f.fileno(), length, at)
    except OSError as e:
        say("%s: offset %d: %s" % (path, at, e.strerror))
        return b""


def open_disk(path):
    """[(extent file, number, cycle or None, salt)]"""
    try:
        names = sorted(n for n in os.listdir(path) if re.fullmatch("extent-[0-9a-f]{8}", n))
    except OSError as e:
        raise Stop(2, "%s: %s" % (path, e.strerror))
    page, salt, found = read(os.path.join(path, "superblock"), 0, PAGE), None, []
    if len(page) == PAGE and page[:8] == b"STLSUPER" and checks(page[64:80], page):
        salt, (version, features) = page[64:80], struct.unpack_from("<II", page, 8)
        if version != 1 or features:
            say("%s: format version %d, features %x are newer than this reader: left alone" % (path, version, features))
            return []
    elif not names:
        raise Stop(2, "%s: not the directory of a disk: neither superblock nor extents" % path)
    else:
        say("%s: the superblock does not check" % path)
    for name in names:
        file, number = os.path.join(path, name), int(name[7:], 16)
        head, cycle = read(file, 0, PAGE), None
        if len(head) == PAGE and head[:4] == b"STLX" and checks(head[32:48], head):
            version, extent, cycle = struct.unpack_from("<III", head, 4)
            if version != 1 or extent != number or salt not in (None, head[32:48]):
                say("%s: the header is of version %d, extent %08x, or another disk's: left alone" % (file, version, extent))
                continue
            salt = head[32:48]
            if struct.unpack_from("<Q", head, 48)[0] == 0:
                continue
        else:
            say("%s: the header does not check" % file)
        found.append((file, number, cycle))
    if salt is None and found:
        say("%s: neither the superblock nor any extent's header checks: left alone" % path)
    return [(file, number, cycle, salt) for file, number, cycle in found if salt]


def batches(file, number, cycle, salt):
    """(offset, meta area, cycle) of each batch that counts, of whatever cycle if cycle is None."""
    at, end = PAGE, min(os.path.getsize(file), EXTENT_MAX)
    while at < end:
        head, step = read(file, at, 64), PAGE
        if head[:4] == b"STLB" and len(head) == 64 and checks(salt, head):
            version, _, _, extent, of, page, length, meta_len = struct.unpack_from("<HHQIIIII", head, 4)
            if (version, extent, page) == (1, number, at // PAGE) and cycle in (None, of) and meta_len <= length >= PAGE:
                step, meta = length, read(file, at, meta_len)
                if crc32c(meta[64:]) != struct.unpack_from("<I", head, 40)[0]:
                    say("%s: offset %d: the batch's meta area is damaged" % (file, at))
                yield at, meta, of
        at += step


class Entry:
    def __init__(self, file, head, meta):
        self.file, self.meta = file, meta
        (self.kind, _, self.pool, self.index, self.cell_log2, self.hot_len, self.hot_crc, self.birth, self.id, self.sub,
         self.meta_len, self.meta_crc, self.data_len, self.data_page, self.len, self.extent, self.cycle,
         self.off) = struct.unpack("<4xBBHBBHIQ32s32sIIIIIIII8x", head)
        self.name = "%s: entry at %d" % (file, self.off * 64)


def entries(disk, ids):
    """The living entries of a disk that have one of these ids."""
    alive, dead = [], {}
    for file, number, cycle, salt in disk:
        found = list(batches(file, number, cycle, salt)) if cycle is None else batches(file, number, cycle, salt)
        newest = max((of for _, _, of in found), default=0) if cycle is None else cycle
        for start, area, of in found:
            at = 64
            while of == newest and at + 128 <= len(area):
                head, step = area[at:at + 128], 64
                if head[:4] == b"STLE" and checks(salt, head):
                    e = Entry(file, head, b"")
                    if (e.extent, e.cycle, e.off * 64) == (number, of, start + at):
                        step, e.meta = max(e.len, 64), area[at + 128:at + 128 + e.meta_len]
                        if e.id in ids and e.kind in (SHARD, RECORD, TOMB):
                            if len(e.meta) != e.meta_len or crc32c(e.meta) != e.meta_crc:
                                say(e.name + ": damaged")
                                alive.append(None)
                            elif e.kind == TOMB and e.meta_len == 16:
                                kind, index, lsn = struct.unpack("<BB6xQ", e.meta)
                                key = (kind, index, e.pool, e.id, e.sub)
                                dead[key] = max(dead.get(key, 0), lsn)
                            elif e.kind != TOMB:
                                alive.append(e)
                at += step
    return [e for e in alive if not e or dead.get((e.kind, e.index, e.pool, e.id, e.sub), 0) < e.birth]
