/* Files mined on the spot, for tests and fuzz targets. */
#ifndef TESTS_UNIT_MINED_H
#define TESTS_UNIT_MINED_H

#include "storage/ledger/mine.h"
#include "tests/unit/blob.h"

/* The first n blocks of a miner as a blk*.dat. */
static inline struct blob mined_file(struct stele_miner_opts opts, size_t n)
{
	struct blob b = {0};
	struct stele_miner *m;
	enum stele_err err = stele_miner_create(&opts, &m);
	assert(err == STELE_OK);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *bytes;
		size_t len;
		struct stele_hash hash;
		uint8_t frame[STELE_MINE_FRAME];
		err = stele_miner_next(m, &bytes, &len, &hash);
		assert(err == STELE_OK);
		stele_mine_frame(len, frame);
		blob_add(&b, frame, sizeof(frame));
		blob_add(&b, bytes, len);
	}
	stele_miner_destroy(m);
	(void)err;
	return b;
}

#endif
