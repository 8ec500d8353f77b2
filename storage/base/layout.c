/* The layout's codec. It knows nothing of blocks but their largest length, and of deposits nothing.
 */
#include "storage/base/layout.h"

#include <assert.h>

#include "storage/base/sha256.h"

size_t stele_layout_len(uint32_t npieces)
{
	return STELE_LAYOUT_HEAD_LEN + (size_t)STELE_PIECE_LEN * npieces;
}

static void write_piece(struct stele_writer *w, const struct stele_piece *p)
{
	stele_write_hash(w, &p->block);
	stele_write_le32(w, p->off);
	stele_write_le32(w, p->len);
}

static void write_head(struct stele_writer *w, const struct stele_layout *l)
{
	stele_write_le32(w, l->generation);
	stele_write_le32(w, l->npieces);
}

size_t stele_layout_encode(const struct stele_layout *l, uint8_t *out)
{
	assert(l->npieces <= STELE_PIECES_MAX);
	struct stele_writer w = stele_writer(out, stele_layout_len(l->npieces));
	write_head(&w, l);
	for (uint32_t i = 0; i < l->npieces; i++)
		write_piece(&w, &l->piece[i]);
	assert(!w.bad && w.p == w.end);
	return stele_written(&w);
}

enum stele_err stele_layout_decode(const void *bytes, size_t len, struct stele_layout *out,
                                   struct stele_piece *piece, uint32_t cap, size_t *used)
{
	struct stele_reader r = stele_reader(bytes, len);
	uint32_t generation = stele_read_le32(&r);
	uint32_t npieces = stele_read_le32(&r);
	if (r.bad)
		return stele_fail(STELE_ERR_CORRUPT, "layout: %zu bytes are too few", len);
	if (npieces > cap || npieces > STELE_PIECES_MAX)
		return stele_fail(STELE_ERR_TOO_LARGE, "layout: %u pieces, at most %u", npieces,
		                  cap < STELE_PIECES_MAX ? cap : STELE_PIECES_MAX);
	if (stele_read_left(&r) < (size_t)STELE_PIECE_LEN * npieces)
		return stele_fail(STELE_ERR_CORRUPT, "layout: %u pieces do not fit in %zu bytes",
		                  npieces, len);
	for (uint32_t i = 0; i < npieces; i++) {
		struct stele_piece p;
		stele_read_hash(&r, &p.block);
		p.off = stele_read_le32(&r);
		p.len = stele_read_le32(&r);
		if (p.len == 0 || p.len > STELE_BLOCK_LEN_MAX ||
		    p.off > STELE_BLOCK_LEN_MAX - p.len)
			return stele_fail(
			    STELE_ERR_CORRUPT,
			    "layout: piece %u is bytes %u+%u of a block of at most %u", i, p.off,
			    p.len, STELE_BLOCK_LEN_MAX);
		piece[i] = p;
	}
	*out = (struct stele_layout){.generation = generation, .npieces = npieces, .piece = piece};
	*used = stele_layout_len(npieces);
	return STELE_OK;
}

uint64_t stele_layout_total(const struct stele_layout *l)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < l->npieces; i++)
		total += l->piece[i].len;
	return total;
}

void stele_layout_hash(const struct stele_layout *l, struct stele_hash *out)
{
	struct stele_sha256_stream s;
	uint8_t part[STELE_PIECE_LEN];
	struct stele_writer w = stele_writer(part, STELE_LAYOUT_HEAD_LEN);
	stele_sha256_init(&s);
	write_head(&w, l);
	stele_sha256_update(&s, part, STELE_LAYOUT_HEAD_LEN);
	for (uint32_t i = 0; i < l->npieces; i++) {
		w = stele_writer(part, sizeof(part));
		write_piece(&w, &l->piece[i]);
		stele_sha256_update(&s, part, sizeof(part));
	}
	stele_sha256_value(&s, out);
}
