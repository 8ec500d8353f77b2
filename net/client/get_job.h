/*
 * The state behind a get that is being carried out, shared by session_get.c (records, verifying, output, life) and
 * session_fetch.c (calls for shards).
 */
#ifndef NET_CLIENT_GET_JOB_H
#define NET_CLIENT_GET_JOB_H

#include "net/client/columns.h"
#include "net/client/get.h"
#include "net/client/session_private.h"

/* What lies behind a unit of the machine. */
struct stele_get_unit_memory {
	struct stele_get_job *get;
	uint8_t *data; /* the columns of the data shards, one after the other */
	size_t data_cap;
	uint8_t *parity[STELE_CODE_N_MAX]; /* of the others, as they are asked for */
	struct stele_hash *rows;
	struct stele_job_timer hedge;
};

struct stele_get_record_memory {
	struct stele_record record;
	struct stele_piece piece[STELE_PIECES_MAX];
	uint16_t pool;
};

struct stele_get_job {
	struct stele_get_request *req;
	struct stele_session *session;
	struct stele_get get;
	struct stele_find_request find;
	bool finding;
	uint32_t looked_at; /* records of find */
	struct stele_get_record_memory record; /* the machine's candidate */
	struct stele_get_unit_memory unit[STELE_GET_UNITS];
	struct stele_sha256_stream object;
	struct stele_job_work start, verify, emit;
	struct stele_columns columns;
	struct stele_fetch_job fetch_job;
	uint32_t verify_unit, emit_unit;
	bool verify_last, object_ok;
	bool emit_wanted;
	uint64_t emitted, emit_len;
	struct stele_get_action action;
};

/* Takes the machine's actions until there is none. */
void stele_get_pump(struct stele_get_job *g);

/* Carries out an action of a unit's fetch. False: no memory. */
bool stele_get_do_fetch(struct stele_get_job *g, uint32_t unit, const struct stele_fetch_action *a);
/* Where the columns of a shard go. NULL: no memory. */
uint8_t *stele_get_columns(struct stele_get_unit_memory *u, const struct stele_fetch *f,
                           uint32_t shard);
/* From now on nothing comes into the memory of these shards. */
void stele_get_drop_cells(struct stele_get_job *g, uint32_t unit, uint64_t shards);
/* Ends a unit's calls and drops what came; its rows stay good for as long as the block is the same. */
void stele_get_clear_unit(struct stele_get_job *g, uint32_t unit);

#endif
