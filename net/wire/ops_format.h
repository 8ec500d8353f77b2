/*
 * Opcodes, and the bytes of every request's and reply's head. Little-endian; DO NOT CHANGE THESE
 * VALUES: they go over the wire (net/PROTOCOL.md). Decoders check lengths before they trust a field and
 * refuse trailing bytes. Pointers in decoded heads point into the head's own bytes.
 */
#ifndef NET_WIRE_OPS_FORMAT_H
#define NET_WIRE_OPS_FORMAT_H

#include "storage/base/bytes.h"
#include "storage/store.h" /* struct stele_key, kinds: the same on disk and wire */

/* X(name, code) */
#define STELE_OPCODE_MAP(X)                                                                        \
	X(HELLO, 1)                                                                                \
	X(PING, 2)                                                                                 \
	X(MAP_GET, 3)                                                                              \
	X(MAP_PUT, 4) X(HAVE, 10) X(SHARD_PUT, 11) X(SHARD_GET, 12) X(REF_ADD, 13)                 \
	    X(RECORD_PUT, 20) X(RECORD_GET, 21) X(MARK_ADD, 22) X(RECEIPT, 23) X(REFUSE, 24)       \
	        X(LIST, 30) X(PG_DIGEST, 31) X(REBUILD, 32) X(KEEP, 33) X(STATUS, 40)              \
	            X(REPAIR, 41) X(SCRUB, 42) X(REPORT_BAD, 43) X(DISK, 44) X(FEED, 50)           \
	                X(ANCHOR_NOW, 51) X(CHALLENGE, 52)
enum stele_opcode {
#define X(name, code) STELE_OPCODE_##name = code,
	STELE_OPCODE_MAP(X)
#undef X
};
const char *stele_opcode_name(unsigned op); /* "SHARD_PUT"; "?" */

#define STELE_PROTOCOL_VERSION 1u

/* Roles (M7), a bit each; the map binds them to TLS keys. */
enum stele_role {
	STELE_ROLE_NODE = 1 << 0,
	STELE_ROLE_WRITER = 1 << 1,
	STELE_ROLE_READER = 1 << 2,
	STELE_ROLE_AUDITOR = 1 << 3,
	STELE_ROLE_ADMIN = 1 << 4,
	STELE_ROLE_OFFICER = 1 << 5,
	STELE_ROLE_SEQUENCER = 1 << 6,
	STELE_ROLE_SUBMITTER = 1 << 7,
	STELE_ROLE_ANY = 0xffff,
};

/* Every op marked D addresses one disk of the node: `slot`, as the map names it. */

struct
    stele_head_hello { /* request: version4 cluster32; reply: version4 node4 root_epoch8 state_epoch8 */
	uint32_t version;
	struct stele_hash cluster;
	uint32_t node;
	uint64_t root_epoch, state_epoch;
};

struct stele_ping_disk {
	uint16_t slot;
	uint8_t state; /* 0 missing, 1 serving, 2 full, 3 fenced, 4 refilling, 5 refilling and full */
	struct stele_uuid uuid;
	uint64_t incarnation, lsn, capacity, used;
};
#define STELE_PING_DISKS 64u
struct stele_head_ping { /* reply: root_epoch8 state_epoch8 map_hash32 n2 disks */
	uint64_t root_epoch, state_epoch;
	struct stele_hash map_hash;
	uint16_t ndisks;
	struct stele_ping_disk disk[STELE_PING_DISKS];
};
struct stele_ping_told { /* what the caller remembers of a disk of the node it calls */
	uint16_t slot;
	struct stele_uuid uuid;
	uint64_t incarnation, lsn;
};
struct stele_head_ping_told { /* request: empty, or n2 disks (slot2 uuid16 incarnation8 lsn8) */
	uint16_t n;
	struct stele_ping_told disk[STELE_PING_DISKS];
};
#define STELE_PING_TOLD_MAX (2u + STELE_PING_DISKS * 34u)

/* MAP_GET: request empty, reply body: the cluster file. MAP_PUT: request body: the same. */

/* key on the wire, 68 bytes: pool2 kind1 index1 id32 sub32 */
#define STELE_WIRE_KEY_LEN 68u
void stele_write_key(struct stele_writer *w, const struct stele_key *k);
void stele_read_key(struct stele_reader *r, struct stele_key *k);

/* HAVE D: slot2 n2 keys; reply head: a byte (0/1) per key. At most STELE_HAVE_MAX keys. */
#define STELE_HAVE_MAX 1024u

struct
    stele_head_shard_put { /* D: slot2 pool2 index1 has_ref1 [deposit32 object32] meta_len4 meta; body: S bytes */
	uint16_t slot, pool;
	uint8_t index;
	bool has_ref;
	struct stele_hash deposit, object;
	const uint8_t *meta; /* descriptor, own row, other rows ascending (rep-n: one row) */
	uint32_t meta_len;
}; /* reply empty */

struct
    stele_head_shard_get { /* D: slot2 pool2 index1 flags1 block32 first4 cells4; reply head: meta if asked; body: cells */
	uint16_t slot, pool;
	uint8_t index;
	bool want_meta;
	struct stele_hash block;
	uint32_t first_cell, cells; /* cells 0: meta alone */
};

struct stele_wire_ref { /* block32 deposit32 object32 */
	struct stele_hash block, deposit, object;
};
#define STELE_REFS_MAX 1024u
struct
    stele_head_ref_add { /* D: slot2 pool2 n2 refs; reply head: one wire error code (1 byte) per ref */
	uint16_t slot, pool, n;
	const uint8_t *refs; /* n * 96 bytes: stele_wire_ref_at */
};
void stele_wire_ref_at(const struct stele_head_ref_add *h, uint32_t i, struct stele_wire_ref *out);

struct stele_head_record_put { /* D: slot2 len4 record; reply empty */
	uint16_t slot;
	const uint8_t *record; /* storage/base/deposit.h */
	uint32_t record_len;
};
struct
    stele_head_record_get { /* D: slot2 id32 after-key68; reply: as LIST (kinds RECORD, MARK, with metas) */
	uint16_t slot;
	struct stele_hash id;
	struct stele_key after;
};
struct stele_head_mark_add { /* D: slot2 len4 packed mark; reply empty */
	uint16_t slot;
	const uint8_t *mark;
	uint32_t mark_len;
};
struct
    stele_head_refuse { /* D: slot2 object32 deposit32 look1; reply: one byte, enum stele_refusal */
	uint16_t slot;
	struct stele_hash object, deposit;
	bool look; /* only asks: nothing is refused by it */
};
enum stele_refusal {
	STELE_REFUSAL_MADE = 0,     /* the disk refuses the deposit, durably, since now or before */
	STELE_REFUSAL_RECORD = 1,   /* it has the record */
	STELE_REFUSAL_NONE = 2,     /* of a look: neither */
	STELE_REFUSAL_NO_VOICE = 3, /* it refuses, durably, but is being refilled: not one of all */
};

struct stele_head_list { /* D: slot2 pool2 first32 last32 kinds4 want_meta1 after68 max4 */
	uint16_t slot, pool;
	struct stele_hash first, last;
	uint32_t kinds;
	bool want_meta;
	struct stele_key after;
	uint32_t max;
};
/* Reply of LIST, RECORD_GET, FEED: head: n4 more1; body: n x { key68 lsn8 data_len8 bad1 meta_len4 meta } */
struct stele_head_listed {
	uint32_t n;
	bool more;
};
size_t stele_listed_len(const struct stele_listed *it);
void stele_write_listed(struct stele_writer *w, const struct stele_listed *it);
/* Reads one item; it->meta points into the body. */
void stele_read_listed(struct stele_reader *r, struct stele_listed *it);

struct stele_head_feed { /* D: slot2 after_lsn8 max4 want_meta1 */
	uint16_t slot;
	uint64_t after_lsn;
	uint32_t max;
	bool want_meta;
};

/* PG_DIGEST D: slot2 pool2 kinds4 n2 pg4[n] (ascending); reply head: n x { digest32 keys8 bytes8 }.
 * One request covers many placement groups: an inventory costs a round trip per disk, not per group. */
#define STELE_DIGEST_PGS_MAX 4096u
#define STELE_DIGEST_LEN     48u
struct stele_head_pg_digest {
	uint16_t slot, pool;
	uint32_t kinds;
	uint16_t n;
	const uint8_t *pgs; /* n * 4 bytes, little-endian */
};
struct stele_wire_digest {
	struct stele_hash digest;
	uint64_t keys, bytes;
};
void stele_write_digest(struct stele_writer *w, const struct stele_wire_digest *d);
void stele_read_digest(struct stele_reader *r, struct stele_wire_digest *d);

struct stele_wire_helper { /* node2 slot2 index1 */
	uint16_t node, slot;
	uint8_t index;
};
struct
    stele_head_rebuild { /* D (the target): slot2 pool2 index1 block32 nhelpers1 helpers; reply: bytes_read8 bytes_written8 */
	uint16_t slot, pool;
	uint8_t index;
	struct stele_hash block;
	uint8_t nhelpers;
	struct stele_wire_helper helper[STELE_CODE_N_MAX];
};
struct
    stele_head_keep { /* D: slot2 pool2 index1 block32 epoch8; reply empty: the promise is durable */
	uint16_t slot, pool;
	uint8_t index;
	struct stele_hash block;
	uint64_t epoch;
};
struct stele_head_report_bad { /* D: slot2 key68: the node re-reads it itself before it believes */
	uint16_t slot;
	struct stele_key key;
};

/* STATUS, REPAIR, SCRUB, DISK: request and reply bodies are JSON texts (net/PROTOCOL.md), for admins. */

/* An error reply's head: err2 detail_len2 detail. */

#define STELE_HEAD_CODEC(name)                                                                     \
	void stele_head_##name##_encode(const struct stele_head_##name *h,                         \
	                                struct stele_writer *w);                                   \
	STELE_MUST_USE enum stele_err stele_head_##name##_decode(const void *bytes, size_t len,    \
	                                                         struct stele_head_##name *out);
STELE_HEAD_CODEC(shard_put)
STELE_HEAD_CODEC(shard_get)
STELE_HEAD_CODEC(ref_add)
STELE_HEAD_CODEC(record_put)
STELE_HEAD_CODEC(record_get)
STELE_HEAD_CODEC(mark_add)
STELE_HEAD_CODEC(refuse)
STELE_HEAD_CODEC(list)
STELE_HEAD_CODEC(listed)
STELE_HEAD_CODEC(feed)
STELE_HEAD_CODEC(pg_digest)
STELE_HEAD_CODEC(rebuild)
STELE_HEAD_CODEC(keep)
STELE_HEAD_CODEC(report_bad)
STELE_HEAD_CODEC(ping)      /* the reply */
STELE_HEAD_CODEC(ping_told) /* the request, when it is not empty */
void stele_head_hello_encode(const struct stele_head_hello *h, bool reply, struct stele_writer *w);
STELE_MUST_USE enum stele_err stele_head_hello_decode(const void *bytes, size_t len, bool reply,
                                                      struct stele_head_hello *out);

#endif
