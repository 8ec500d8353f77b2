/*
 * A put as a pure state machine (DESIGN P1-P3; docs: "Life of a put"): no I/O, clock, randomness or
 * bytes. Events go in, actions come out; net/client/session_put.c carries them out.
 *
 *   READ -> CODE -> SHARDS -> [more? READ] -> REFS -> RECORD -> DONE        objects up to 64 KiB:
 * straight to RECORD
 *
 * Use: after every event, take actions until there is none. A few pieces are in memory at a time;
 * equal blocks are sent once. References follow
 * when every shard is durable: they make a block count, so a put that ends halfway leaves none (P3).
 *
 * It acknowledges (OK, or DEGRADED: P2) only what every block's shards and the record's copies, as
 * they were acknowledged, can lose: `margin`.
 */
#ifndef NET_CLIENT_PUT_H
#define NET_CLIENT_PUT_H

#include "net/client/put_block.h"

#define STELE_PUT_PIECES_IN_MEMORY 3u
#define STELE_PUT_SUSPECTS_MAX     32u

enum stele_put_phase {
	STELE_PUT_STREAM = 0, /* reading, coding, sending shards, all at once */
	STELE_PUT_REFS,
	STELE_PUT_RECORD,
	STELE_PUT_ENDED,
};

struct stele_put_piece {
	uint32_t block; /* once coded */
	uint32_t len;
};

struct stele_put_config {
	const struct stele_code *code;
	uint32_t min_margin; /* P2: enough for DEGRADED */
	uint32_t copies;     /* of the record: its pool's n */
	uint32_t block_len;
	uint64_t length; /* UINT64_MAX: unknown */
	/* The window of an id under the present map; record: in the record pool. Pure for one map.
	 */
	void (*place)(void *ctx, bool record, const struct stele_hash *id,
	              struct stele_window *out);
	void *ctx;
};

struct stele_put {
	struct stele_put_config config;
	enum stele_put_phase phase;
	/* pieces */
	uint32_t nread, ncoded, in_memory;
	uint64_t length;
	bool reading, coding, eof;
	bool forget; /* piece `forget_piece` is equal to an earlier one */
	uint32_t forget_piece;
	bool small;                    /* the bytes go into the record */
	struct stele_put_piece *piece; /* nread of them */
	uint32_t pieces_cap;
	struct stele_put_block *block;
	uint32_t nblocks, blocks_cap;
	/* deposit */
	bool deposit_asked, deposit_made;
	uint32_t refusals;
	struct stele_hash object;
	struct stele_spread record;
	bool record_placed;
	/* the map */
	uint32_t sending; /* calls under way */
	bool stale, reloading;
	uint16_t stale_node;
	uint16_t suspect[STELE_PUT_SUSPECTS_MAX];
	uint32_t nsuspects;
	/* the end */
	bool told;
	enum stele_err err;
	char detail[STELE_DETAIL_MAX];
	int margin;
};

enum stele_put_action_kind {
	STELE_PUT_DO_READ = 1, /* up to block_len bytes of the source, as piece `piece` -> READ */
	STELE_PUT_DO_CODE,     /* piece: encode, or (small) only hash -> CODED */
	STELE_PUT_DO_DEPOSIT,  /* write and sign a deposit with a new nonce -> DEPOSITED */
	STELE_PUT_DO_SHARD, /* send shard `item` of `block` to `disk`, with_ref its reference too ->
	                       SHARD */
	STELE_PUT_DO_REFS,  /* REF_ADD to `disk` for stele_put_refs -> REFS */
	STELE_PUT_DO_RECORD, /* copy `item` of the record to `disk` -> RECORD */
	STELE_PUT_DO_RELOAD, /* fetch the map from `node` -> MAP */
	STELE_PUT_DO_FORGET, /* the bytes of `piece` are not needed any more */
	STELE_PUT_DO_END,    /* once: err, detail, margin are final */
};
struct stele_put_action {
	enum stele_put_action_kind kind;
	uint32_t piece, block, item;
	struct stele_window_disk disk;
	bool with_ref;
	bool probe;        /* a short time limit */
	uint64_t delay_ns; /* before sending */
	uint16_t node;
};

enum stele_put_event_kind {
	STELE_PUT_READ = 1,  /* len bytes, eof: the source is at its end */
	STELE_PUT_CODED,     /* id and len of the piece's block; at the end also the object's id */
	STELE_PUT_DEPOSITED, /* object */
	STELE_PUT_SHARD,     /* block, item, err, node, answered */
	STELE_PUT_REFS_DONE, /* disk, err, node, answered; code[ncodes]: per reference */
	STELE_PUT_RECORD_DONE, /* item, err, node, answered */
	STELE_PUT_MAP,         /* changed: the map is newer than before */
	STELE_PUT_FAIL,        /* err, detail: the source failed, or the caller cancels */
};
struct stele_put_event {
	enum stele_put_event_kind kind;
	uint32_t len;
	bool eof;
	uint32_t block, item;
	const struct stele_hash *id; /* CODED: of the block; DEPOSITED: of the object */
	enum stele_err err;
	const char *detail;
	uint16_t node;
	bool answered; /* the node replied: an error of its own, not of the way there */
	struct stele_window_disk disk;
	const uint8_t *code; /* enum stele_err each */
	uint32_t ncodes;
	bool changed;
};

/* TOO_LARGE: length is known and needs more than STELE_PIECES_MAX pieces. */
STELE_MUST_USE enum stele_err stele_put_init(struct stele_put *put,
                                             const struct stele_put_config *config);
void stele_put_finish(struct stele_put *put); /* accepts a zeroed one */
/* Failures end the put by its END action. Events after the end are ignored. */
void stele_put_step(struct stele_put *put, const struct stele_put_event *event);
bool stele_put_next(struct stele_put *put, struct stele_put_action *out);
/* The blocks whose references are on their way to the disk, in the order of the reply's codes.
 * block: room for STELE_PIECES_MAX. Returns how many. */
uint32_t stele_put_refs(const struct stele_put *put, struct stele_window_disk disk,
                        uint32_t *block);

#endif
