"""Disks that lie: changes an entry on a stopped node's disk and mends every checksum, so that only SHA-256 or a signature can
tell. Knows the format through tools/stele_reader.py, which was written from the documents alone."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import stele_reader as reader

MASK = (1 << 64) - 1
MARK = 4  # the kind of entry that the reader has no use for


def siphash(salt, data):
    """SipHash-2-4 of a multiple of 8 bytes."""
    k0, k1 = struct.unpack("<QQ", salt)
    v0, v1, v2, v3 = (k ^ int.from_bytes(c, "big") for k, c in zip((k0, k1, k0, k1), (b"somepseu", b"dorandom", b"lygenera",
                                                                                     b"tedbytes")))
    words = [(w, 2) for w in struct.unpack("<%dQ" % (len(data) // 8), data)] + [((len(data) & 255) << 56, 2), (0, 4)]
    for word, rounds in words:
        v2, v3 = v2 ^ (0xff if rounds == 4 else 0), v3 ^ word
        for _ in range(rounds):
            v0, v2 = v0 + v1 & MASK, v2 + v3 & MASK
            v1, v3 = (v1 << 13 & MASK | v1 >> 51) ^ v0, (v3 << 16 & MASK | v3 >> 48) ^ v2
            v0 = v0 << 32 & MASK | v0 >> 32
            v2, v0 = v2 + v1 & MASK, v0 + v3 & MASK
            v1, v3 = (v1 << 17 & MASK | v1 >> 47) ^ v2, (v3 << 21 & MASK | v3 >> 43) ^ v0
            v2 = v2 << 32 & MASK | v2 >> 32
        v0 ^= word
    return struct.pack("<Q", v0 ^ v1 ^ v2 ^ v3)


class Entry(reader.Entry):
    """An entry, where it lies, and whether none of its key was born later on its disk."""

    def __init__(self, file, salt, start, area, at):
        super().__init__(file, bytes(area), at)
        self.salt, self.start, self.area, self.at, self.alive = salt, start, area, at, True
        self.name = self.id.hex()

    def write(self):
        """Back to the disk, with every checksum right."""
        area, at, meta = self.area, self.at, self.at + 128
        hot_len, = struct.unpack_from("<H", area, at + 10)
        struct.pack_into("<I", area, at + 12, reader.crc32c(area[meta:meta + hot_len]) if hot_len else 0)
        struct.pack_into("<I", area, at + 92, reader.crc32c(area[meta:meta + len(self.meta)]))
        area[at + 120:at + 128] = siphash(self.salt, area[at:at + 120])
        struct.pack_into("<I", area, 40, reader.crc32c(area[64:]))
        area[56:64] = siphash(self.salt, area[:56])
        with open(self.file, "r+b") as f:
            f.seek(self.start)
            f.write(area)


def entries(disk, kind):
    """Every entry of that kind on a disk."""
    found = []
    for file, number, cycle, salt in reader.open_disk(disk):
        for start, area, _ in reader.batches(file, number, cycle, salt):
            at = 64
            while at + 128 <= len(area):
                if area[at:at + 4] == b"STLE" and reader.checks(salt, area[at:at + 128]):
                    e = Entry(file, salt, start, bytearray(area), at)
                    found += [e] if e.kind == kind else []
                    at += e.len
                else:
                    at += 64
    for e in found:
        e.alive = e.birth == max(o.birth for o in found if o.key == e.key)
    return [e for e in found if e.alive]


def shards(disk):
    return entries(disk, reader.SHARD)


def records(disk):
    return entries(disk, reader.RECORD)


def change_cell(shard, cell):
    """Changes one bit of a cell of a shard; its SHA-256 tells, no checksum does."""
    offset = shard.data_page * reader.PAGE + cell * reader.CELL
    content = bytearray(reader.read(shard.file, offset, min(reader.CELL, shard.data_len - cell * reader.CELL)))
    content[7] ^= 0x20
    roots = 1 if shard.meta[4] == 1 else shard.meta[8]
    struct.pack_into("<I", shard.area, shard.at + 128 + 32 + 32 * roots + 4 * cell, reader.crc32c(content))
    with open(shard.file, "r+b") as f:
        f.seek(offset)
        f.write(content)
    shard.write()


def change_signature(record):
    """Changes one bit of the depositor's signature; nothing but that signature tells."""
    deposit_len, = struct.unpack_from("<I", record.meta)
    record.area[record.at + 128 + 4 + deposit_len + 9] ^= 1
    record.write()
