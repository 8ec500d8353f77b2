"""A disk written by hand from storage/FORMAT.md, in Python, for tests of what reads disks: nothing of the store's code is in it."""
import hashlib
import os
import struct

PAGE = 4096
EXTENT_LEN = 4 << 20
SHARD, REF, RECORD, MARK, TOMB, REFUSE, KEEP = 1, 2, 3, 4, 5, 7, 8
SALT, DISK, CLUSTER = bytes(range(16)), bytes(range(100, 116)), bytes(range(200, 232))
LAST = 1 << 62  # an LSN above all others


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def siphash(key, data):
    """SipHash-2-4, 64 bits, as its authors' paper describes it."""
    def rotl(x, n):
        return (x << n | x >> (64 - n)) & (1 << 64) - 1

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) % 2 ** 64
            v[2] = (v[2] + v[3]) % 2 ** 64
            v[1], v[3] = rotl(v[1], 13) ^ v[0], rotl(v[3], 16) ^ v[2]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[1]) % 2 ** 64
            v[0] = (v[0] + v[3]) % 2 ** 64
            v[1], v[3] = rotl(v[1], 17) ^ v[2], rotl(v[3], 21) ^ v[0]
            v[2] = rotl(v[2], 32)
    k0, k1 = struct.unpack("<QQ", key)
    v = [int.from_bytes(b"somepseu", "big") ^ k0, int.from_bytes(b"dorandom", "big") ^ k1,
         int.from_bytes(b"lygenera", "big") ^ k0, int.from_bytes(b"tedbytes", "big") ^ k1]
    tail = data[len(data) // 8 * 8:]
    words = [int.from_bytes(data[i:i + 8], "little") for i in range(0, len(data) // 8 * 8, 8)]
    words.append(int.from_bytes(tail.ljust(7, b"\0") + bytes([len(data) & 255]), "little"))
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 255
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def checked(data, salt=SALT):
    return data + struct.pack("<Q", siphash(salt, data))


def up(data, unit):
    return data + bytes(-len(data) % unit)


def superblock(version=1, features=0, lsn_floor=0):
    return checked(struct.pack("<8sII16s32s16sQQQ", b"STLSUPER", version, features, DISK, CLUSTER, SALT, 1, EXTENT_LEN,
                               lsn_floor).ljust(PAGE - 8, b"\0"))


def header(extent=1, cycle=1, first_lsn=1, version=1):
    return checked(struct.pack("<4sIII16s16sQQ", b"STLX", version, extent, cycle, DISK, SALT, first_lsn,
                               EXTENT_LEN).ljust(PAGE - 8, b"\0"))


def trailer(extent, cycle, first_lsn, last_lsn, end, version=1):
    return checked(struct.pack("<4sIIIQQQQI4xQ", b"STLT", version, extent, cycle, first_lsn, last_lsn, end, end, 0,
                               0).ljust(PAGE - 8, b"\0"))


def entry(kind, ident, sub, meta, lsn, place, index=0, pool=1):
    """place: (extent, cycle, offset)"""
    extent, cycle, off = place
    length = (128 + len(meta) + 63) // 64 * 64
    head = struct.pack("<4sBBHBBHIQ32s32sIIIIIIII", b"STLE", kind, 0, pool, index, 16, 0, 0, lsn, ident, sub, len(meta),
                       crc32c(meta), 0, 0, length, extent, cycle, off // 64)
    return up(checked(head) + meta, 64)


def batch(items, lsn, place, durable_lsn=None):
    """items: (kind, id, sub, meta) each; place: (extent, cycle, offset)"""
    extent, cycle, off = place
    area = b""
    for kind, ident, sub, meta in items:
        area += entry(kind, ident, sub, meta, lsn, (extent, cycle, off + 64 + len(area)))
    meta_len = (64 + len(area) + PAGE - 1) // PAGE * PAGE
    area = area.ljust(meta_len - 64, b"\0")
    head = struct.pack("<4sHHQIIIIIII4xQ", b"STLB", 1, 0, lsn, extent, cycle, off // PAGE, meta_len, meta_len, len(items),
                       crc32c(area), lsn - 1 if durable_lsn is None else durable_lsn)
    return checked(head) + area


def record(data):
    """An item: the record of a small object, its deposit in order but for the signature."""
    text = "stele.dev/deposit/v1\n" + "".join("%s %s\n" % line for line in (
        ("cluster", CLUSTER.hex()), ("type", "evidence"), ("object", "sha256:" + sha256(data).hex()),
        ("length", len(data)), ("tree", sha256(b"\0" + data).hex() if data else sha256().hex()), ("layout", "-"),
        ("pool", "evidence"), ("depositor", "11" * 32), ("time", 1700000000), ("after", "-"), ("chain", "-"),
        ("meta", "-"), ("plain", "-"), ("sm3", "-"), ("nonce", "22" * 32)))
    text = text.encode()
    meta = struct.pack("<I", len(text)) + text + bytes(64) + struct.pack("<III", 0, 0, len(data)) + data
    return RECORD, sha256(data), sha256(text), meta


def tomb(item, victim_lsn):
    kind, ident, sub, _ = item
    return TOMB, ident, sub, struct.pack("<BB6xQ", kind, 0, victim_lsn)


def disk(path, parts, extent=1, **super_fields):
    """A directory with a superblock and an extent: {offset: bytes}."""
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "superblock"), "wb") as f:
        f.write(superblock(**super_fields))
    with open(os.path.join(path, "extent-%08x" % extent), "wb") as f:
        f.truncate(EXTENT_LEN)
        for off, data in parts.items():
            f.seek(off)
            f.write(data)
