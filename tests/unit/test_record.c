/* Goal: a record says exactly what its deposit signed: layouts hash to it, pieces add up, inline
 * bytes are the object; any other bytes are refused before anything is trusted. */
#include "storage/base/sha256.h"
#include "tests/unit/statements.h"

struct made {
	struct stele_record r;
	struct stele_piece piece[STELE_PIECES_MAX];
	char text[STELE_DEPOSIT_MAX];
	uint8_t bytes[STELE_INLINE_MAX];
	uint8_t out[STELE_META_MAX];
	size_t out_len;
};

static struct stele_secret_key test_key(void)
{
	struct stele_secret_key key;
	uint8_t seed[32] = {42};
	stele_key_from_seed(&key, seed);
	return key;
}

/* An inline record of len random bytes, or one of npieces pieces; encoded, but not yet with a
 * changed deposit: `edit` may spoil the deposit before it is signed. */
static struct made *make(uint64_t seed, uint32_t inline_len, uint32_t npieces,
                         void (*edit)(struct stele_deposit *d))
{
	struct made *m = calloc(1, sizeof(*m));
	cr_assert_not_null(m);
	struct stele_secret_key key = test_key();
	struct stele_deposit *d = &m->r.deposit;
	size_t len;
	statement_deposit(&seed, d);
	d->depositor = key.pub;
	d->has_layout = npieces > 0;
	memset(&d->layout, 0, sizeof(d->layout));
	d->length = inline_len;
	m->r.layout.piece = m->piece;
	m->r.layout.npieces = npieces;
	if (npieces) {
		d->length = 0;
		for (uint32_t i = 0; i < npieces; i++) {
			guard_fill(&seed, m->piece[i].block.b, 32);
			m->piece[i].len = 1 + (uint32_t)(guard_random(&seed) >> 41);
			d->length += m->piece[i].len;
		}
		stele_layout_hash(&m->r.layout, &d->layout);
	} else {
		guard_fill(&seed, m->bytes, inline_len);
		stele_sha256(m->bytes, inline_len, &d->object);
		stele_sha256_cells(m->bytes, inline_len, &d->tree);
		if (inline_len == 0)
			d->tree = d->object;
	}
	if (edit)
		edit(d);
	cr_assert_eq(stele_deposit_encode(d, m->text, &len), STELE_OK, "%s", stele_detail());
	m->r.text = m->text;
	m->r.text_len = (uint32_t)len;
	stele_sign(&key, m->text, len, &m->r.sig);
	m->r.inline_bytes = m->bytes;
	m->r.inline_len = inline_len;
	cr_assert_eq(stele_record_encode(&m->r, m->out, &m->out_len), STELE_OK, "%s",
	             stele_detail());
	return m;
}

static enum stele_err decode(const struct made *m, struct stele_record *out)
{
	static struct stele_piece piece[STELE_PIECES_MAX];
	return stele_record_decode(m->out, m->out_len, true, out, piece);
}

Test(record, round_trip)
{
	static const uint32_t shapes[][2] = {{0, 0}, {1, 0}, {65535, 0}, {65536, 0},
	                                     {0, 1}, {0, 2}, {0, 1024}};
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		struct made *m = make(i, shapes[i][0], shapes[i][1], NULL);
		struct stele_record back;
		struct stele_hash hash;
		cr_assert_eq(decode(m, &back), STELE_OK, "shape %zu: %s", i, stele_detail());
		cr_assert_eq(back.text_len, m->r.text_len);
		cr_assert_arr_eq(back.text, m->text, back.text_len);
		cr_assert(statement_deposit_same(&back.deposit, &m->r.deposit));
		stele_deposit_hash(m->text, m->r.text_len, &hash);
		cr_assert(stele_hash_equal(&hash, &back.deposit_hash));
		cr_assert_eq(back.layout.npieces, shapes[i][1]);
		cr_assert_eq(
		    memcmp(back.layout.piece, m->piece, shapes[i][1] * sizeof(m->piece[0])), 0);
		cr_assert_eq(back.inline_len, shapes[i][0]);
		cr_assert_eq(memcmp(back.inline_bytes, m->bytes, shapes[i][0]), 0);
		cr_assert_eq(stele_record_check_sig(&back), STELE_OK);
		free(m);
	}
}

/* The bytes are format: deposit_len4 deposit sig64 generation4 npieces4 pieces inline_len4 inline.
 */
Test(record, golden_places)
{
	struct made *m = make(7, 0, 2, NULL);
	size_t d = m->r.text_len;
	cr_assert_eq(stele_le32(m->out), d);
	cr_assert_arr_eq(m->out + 4, m->text, d);
	cr_assert_arr_eq(m->out + 4 + d, m->r.sig.b, 64);
	cr_assert_eq(stele_le32(m->out + 68 + d), 0u);
	cr_assert_eq(stele_le32(m->out + 72 + d), 2u);
	cr_assert_arr_eq(m->out + 76 + d + 40, m->piece[1].block.b, 32);
	cr_assert_eq(stele_le32(m->out + 76 + d + 72), m->piece[1].off);
	cr_assert_eq(stele_le32(m->out + 76 + d + 76), m->piece[1].len);
	cr_assert_eq(stele_le32(m->out + 76 + d + 80), 0u);
	cr_assert_eq(m->out_len, 76 + d + 84);
	/* the layout hash is plain SHA-256 over its bytes as they lie there */
	struct stele_hash h;
	stele_sha256(m->out + 68 + d, 88, &h);
	cr_assert(stele_hash_equal(&h, &m->r.deposit.layout));
	free(m);
}

Test(record, every_changed_byte_is_refused)
{
	static const uint32_t shapes[][2] = {{100, 0}, {0, 0}, {0, 2}};
	for (size_t s = 0; s < 3; s++) {
		struct made *m = make(20 + s, shapes[s][0], shapes[s][1], NULL);
		struct stele_record back;
		for (size_t i = 0; i < m->out_len; i++)
			for (unsigned v = 1; v < 256; v++) {
				m->out[i] ^= (uint8_t)v;
				enum stele_err err = decode(m, &back);
				cr_assert(err == STELE_OK || err == STELE_ERR_CORRUPT);
				/* what hashes do not cover, the signature does: unless the bytes
				 * are the deposit's or the signature's, decoding itself refuses */
				if (err == STELE_OK) {
					cr_assert(i >= 4 && i < 4 + m->r.text_len + 64u,
					          "byte %zu ^ %u was accepted", i, v);
					if (v == 1)
						cr_assert_eq(stele_record_check_sig(&back),
						             STELE_ERR_CORRUPT);
				}
				m->out[i] ^= (uint8_t)v;
			}
		free(m);
	}
}

Test(record, every_cut_is_refused)
{
	struct made *m = make(30, 500, 0, NULL);
	struct stele_record back;
	size_t whole = m->out_len;
	for (m->out_len = 0; m->out_len < whole; m->out_len++) {
		uint8_t *exact = malloc(m->out_len + 1);
		struct stele_piece piece[1];
		cr_assert_not_null(exact);
		memcpy(exact, m->out, m->out_len);
		cr_assert_eq(stele_record_decode(exact, m->out_len, true, &back, piece),
		             STELE_ERR_CORRUPT);
		free(exact);
	}
	m->out_len = whole + 1;
	cr_assert_eq(decode(m, &back), STELE_ERR_CORRUPT);
	free(m);
}

static void longer(struct stele_deposit *d)
{
	d->length++;
}

static void other_layout(struct stele_deposit *d)
{
	d->layout.b[31] ^= 1;
}

static void other_object(struct stele_deposit *d)
{
	d->object.b[0] ^= 1;
}

static void other_tree(struct stele_deposit *d)
{
	d->tree.b[0] ^= 1;
}

static void without_layout(struct stele_deposit *d)
{
	d->has_layout = false;
	d->length = 10;
}

static void with_layout(struct stele_deposit *d)
{
	d->has_layout = true;
}

static void expect_corrupt(uint32_t inline_len, uint32_t npieces,
                           void (*edit)(struct stele_deposit *), const char *word)
{
	struct made *m = make(40, inline_len, npieces, edit);
	struct stele_record back;
	cr_assert_eq(decode(m, &back), STELE_ERR_CORRUPT, "%s", word);
	cr_assert_not_null(strstr(stele_detail(), word), "\"%s\" lacks \"%s\"", stele_detail(),
	                   word);
	free(m);
}

Test(record, signed_lies_are_named)
{
	expect_corrupt(100, 0, longer, "101");
	expect_corrupt(0, 3, longer, "add up");
	expect_corrupt(0, 3, other_layout, "not the deposit's");
	expect_corrupt(0, 3, without_layout, "where the deposit has none");
	expect_corrupt(100, 0, with_layout, "the record none");
	expect_corrupt(100, 0, other_object, "object");
	expect_corrupt(100, 0, other_tree, "tree");
	expect_corrupt(0, 0, other_object, "object");
	expect_corrupt(0, 0, other_tree, "tree");
	/* without check_inline a node leaves hashing to the reader */
	struct made *m = make(40, 100, 0, other_object);
	struct stele_record back;
	struct stele_piece piece[1];
	cr_assert_eq(stele_record_decode(m->out, m->out_len, false, &back, piece), STELE_OK);
	free(m);
}

Test(record, hostile_counts_are_refused_before_use)
{
	struct made *m = make(50, 0, 1, NULL);
	struct stele_record back;
	size_t at = 4 + m->r.text_len + 64 + 4;
	static const uint32_t counts[] = {2, 1024, 1025, 0x06666667, 0x80000000, 0xffffffff};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		stele_put_le32(m->out + at, counts[i]);
		cr_assert_eq(decode(m, &back), STELE_ERR_CORRUPT, "%u pieces", counts[i]);
	}
	stele_put_le32(m->out + at, 1);
	stele_put_le32(m->out, 0xffffffff);
	cr_assert_eq(decode(m, &back), STELE_ERR_CORRUPT);
	free(m);
	struct stele_record bad = {.text = "x", .text_len = STELE_DEPOSIT_MAX + 1};
	uint8_t out[64];
	size_t len;
	cr_assert_eq(stele_record_encode(&bad, out, &len), STELE_ERR_INVALID);
	bad.text_len = 1;
	bad.layout.npieces = STELE_PIECES_MAX + 1;
	cr_assert_eq(stele_record_encode(&bad, out, &len), STELE_ERR_INVALID);
	bad.layout.npieces = 0;
	bad.inline_len = STELE_INLINE_MAX + 1;
	cr_assert_eq(stele_record_encode(&bad, out, &len), STELE_ERR_INVALID);
}

Test(layout, cap_is_too_large)
{
	struct stele_piece piece[3] = {{.len = 5}, {.off = 1, .len = 2}, {.len = 1}};
	struct stele_layout l = {.generation = 9, .npieces = 3, .piece = piece}, back;
	struct stele_piece into[3];
	uint8_t bytes[STELE_LAYOUT_HEAD_LEN + 3 * STELE_PIECE_LEN + 1];
	size_t used;
	cr_assert_eq(stele_layout_encode(&l, bytes), 128u);
	cr_assert_eq(stele_layout_decode(bytes, sizeof(bytes), &back, into, 3, &used), STELE_OK);
	cr_assert_eq(used, 128u);
	cr_assert_eq(back.generation, 9u);
	cr_assert_eq(stele_layout_total(&back), 8u);
	cr_assert_eq(stele_layout_decode(bytes, 128, &back, into, 2, &used), STELE_ERR_TOO_LARGE);
	cr_assert_eq(stele_layout_decode(bytes, 127, &back, into, 3, &used), STELE_ERR_CORRUPT);
}
