/*
 * The descriptor's codec and arithmetic: code names, shard and cell lengths, row checks. Canonical:
 * one block has one encoding, everything else is refused by the name of the field that is wrong,
 * before anything is allocated. Knows nothing of generators: that is erasure/.
 */
#include "storage/base/descriptor.h"

#include <assert.h>
#include <stdio.h>

#include "storage/base/merkle.h"
#include "storage/base/sha256.h"

#define FIXED_LEN 32u /* before the roots */

static const uint8_t magic[4] = {'S', 'B', 'D', '1'};

/* Codes and their names */

enum stele_err stele_code_id_check(const struct stele_code_id *c)
{
	if (c->family < STELE_CODE_REP || c->family > STELE_CODE_LRC)
		return stele_fail(STELE_ERR_INVALID, "code: family %u is not known", c->family);
	if (c->k < 1 || c->k > STELE_CODE_K_MAX)
		return stele_fail(STELE_ERR_INVALID, "code: k is %u, not 1 to %u", c->k,
		                  STELE_CODE_K_MAX);
	if (c->m > STELE_CODE_M_MAX || (c->m < 1 && c->family != STELE_CODE_REP))
		return stele_fail(STELE_ERR_INVALID, "code: %u parity shards, not 1 to %u", c->m,
		                  STELE_CODE_M_MAX);
	if (c->family == STELE_CODE_REP && c->k != 1)
		return stele_fail(STELE_ERR_INVALID, "code: k is %u in rep-n, not 1", c->k);
	if (c->family != STELE_CODE_LRC && c->l != 0)
		return stele_fail(STELE_ERR_INVALID,
		                  "code: l is %u where there are no local groups", c->l);
	if (c->family == STELE_CODE_LRC && (c->l < 1 || c->l >= c->m || c->k % c->l != 0))
		return stele_fail(
		    STELE_ERR_INVALID,
		    "code: l is %u: local groups must divide k (%u) and leave a global "
		    "among %u parity shards",
		    c->l, c->k, c->m);
	return STELE_OK;
}

const char *stele_code_id_name(const struct stele_code_id *c, char out[STELE_NAME_MAX])
{
	if (c->family == STELE_CODE_REP)
		snprintf(out, STELE_NAME_MAX, "rep-%u", c->k + c->m);
	else if (c->family == STELE_CODE_RS)
		snprintf(out, STELE_NAME_MAX, "rs-%u-%u", c->k, c->m);
	else
		snprintf(out, STELE_NAME_MAX, "lrc-%u-%u-%u", c->k, c->l, c->m - c->l);
	return out;
}

/* A decimal of one to three digits without leading zeros at *p, followed by `after`; steps over
 * both. -1: it is none. */
static int read_number(const char **p, char after)
{
	const char *s = *p;
	int v = 0, digits = 0;
	while (*s >= '0' && *s <= '9' && digits < 3) {
		v = v * 10 + (*s++ - '0');
		digits++;
	}
	if (digits == 0 || (digits > 1 && (*p)[0] == '0') || *s != after)
		return -1;
	*p = after ? s + 1 : s;
	return v;
}

static enum stele_err bad_name(const char *name)
{
	return stele_fail(STELE_ERR_INVALID,
	                  "code \"%.40s\": expected rep-N, rs-K-M or lrc-K-L-G, such as rs-4-2",
	                  name);
}

enum stele_err stele_code_id_parse(const char *name, struct stele_code_id *out)
{
	struct stele_code_id c = {0};
	const char *p = name;
	int a = 0, b = 0, g = 0;
	if (strncmp(p, "rep-", 4) == 0) {
		p += 4;
		a = read_number(&p, '\0');
		c.family = STELE_CODE_REP;
		b = a - 1;
		a = a < 1 ? -1 : 1;
	} else if (strncmp(p, "rs-", 3) == 0) {
		p += 3;
		a = read_number(&p, '-');
		b = a < 0 ? -1 : read_number(&p, '\0');
		c.family = STELE_CODE_RS;
	} else if (strncmp(p, "lrc-", 4) == 0) {
		int l;
		p += 4;
		a = read_number(&p, '-');
		l = a < 0 ? -1 : read_number(&p, '-');
		g = l < 0 ? -1 : read_number(&p, '\0');
		c.family = STELE_CODE_LRC;
		b = l + g;
		if (l > UINT8_MAX || g < 0)
			return bad_name(name);
		c.l = (uint8_t)l;
	} else {
		return bad_name(name);
	}
	if (a < 0 || b < 0)
		return bad_name(name);
	/* beyond a byte is beyond the limits too, and is refused as such */
	c.k = (uint8_t)(a > UINT8_MAX ? UINT8_MAX : a);
	c.m = (uint8_t)(b > UINT8_MAX ? UINT8_MAX : b);
	enum stele_err err = stele_code_id_check(&c);
	if (err)
		return stele_wrap(err, "\"%.40s\"", name);
	*out = c;
	return STELE_OK;
}

/* Lengths */

uint64_t stele_shard_len(const struct stele_code_id *c, uint64_t length)
{
	return stele_round_up((length + c->k - 1) / c->k, STELE_SHARD_ALIGN);
}

uint64_t stele_block_len(const struct stele_code_id *c)
{
	uint64_t unit = (uint64_t)c->k * STELE_CELL_LEN;
	return STELE_BLOCK_LEN_MAX / unit * unit;
}

enum stele_err stele_descriptor_init(struct stele_descriptor *d, const struct stele_code_id *code,
                                     uint64_t length)
{
	STELE_TRY(stele_code_id_check(code));
	if (length < 1 || length > STELE_BLOCK_LEN_MAX)
		return stele_fail(STELE_ERR_INVALID, "block: length %llu is not 1 to %u",
		                  (unsigned long long)length, STELE_BLOCK_LEN_MAX);
	memset(d, 0, sizeof(*d));
	d->code = *code;
	d->n = (uint8_t)(code->k + code->m);
	d->length = length;
	d->S = stele_shard_len(code, length);
	return STELE_OK;
}

uint32_t stele_descriptor_roots(const struct stele_descriptor *d)
{
	return d->code.family == STELE_CODE_REP ? 1 : d->n;
}

const struct stele_hash *stele_descriptor_root(const struct stele_descriptor *d, uint32_t idx)
{
	assert(idx < d->n);
	return &d->root[d->code.family == STELE_CODE_REP ? 0 : idx];
}

size_t stele_descriptor_len(const struct stele_descriptor *d)
{
	return FIXED_LEN + (size_t)STELE_HASH_LEN * stele_descriptor_roots(d);
}

uint32_t stele_descriptor_cells(const struct stele_descriptor *d)
{
	return (uint32_t)((d->S + STELE_CELL_LEN - 1) / STELE_CELL_LEN);
}

uint32_t stele_descriptor_cell_len(const struct stele_descriptor *d, uint32_t cell)
{
	uint64_t off = (uint64_t)cell * STELE_CELL_LEN;
	assert(off < d->S);
	return d->S - off < STELE_CELL_LEN ? (uint32_t)(d->S - off) : STELE_CELL_LEN;
}

/* Codec */

size_t stele_descriptor_encode(const struct stele_descriptor *d, uint8_t *out)
{
	struct stele_writer w = stele_writer(out, STELE_DESCRIPTOR_MAX);
	stele_write_bytes(&w, magic, sizeof(magic));
	stele_write_u8(&w, d->code.family);
	stele_write_u8(&w, d->code.k);
	stele_write_u8(&w, d->code.m);
	stele_write_u8(&w, d->code.l);
	stele_write_u8(&w, d->n);
	stele_write_u8(&w, STELE_CELL_LOG2);
	stele_write_zero(&w, 2);
	stele_write_le64(&w, d->length);
	stele_write_le64(&w, d->S);
	stele_write_zero(&w, 4);
	for (uint32_t i = 0; i < stele_descriptor_roots(d); i++)
		stele_write_hash(&w, &d->root[i]);
	assert(!w.bad && stele_written(&w) == stele_descriptor_len(d));
	return stele_written(&w);
}

static enum stele_err corrupt(const char *field, uint64_t value, uint64_t expected)
{
	return stele_fail(STELE_ERR_CORRUPT, "descriptor: %s is %llu, not %llu", field,
	                  (unsigned long long)value, (unsigned long long)expected);
}

/* Reads the 32 bytes before the roots. */
static enum stele_err decode_fixed(struct stele_reader *r, struct stele_descriptor *d)
{
	struct stele_code_id code;
	const uint8_t *mag = stele_read_span(r, sizeof(magic));
	code.family = stele_read_u8(r);
	code.k = stele_read_u8(r);
	code.m = stele_read_u8(r);
	code.l = stele_read_u8(r);
	uint8_t n = stele_read_u8(r);
	uint8_t cell_log2 = stele_read_u8(r);
	uint16_t zero2 = stele_read_le16(r);
	uint64_t length = stele_read_le64(r);
	uint64_t S = stele_read_le64(r);
	uint32_t zero4 = stele_read_le32(r);
	if (r->bad)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: cut short");
	if (memcmp(mag, magic, sizeof(magic)) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: magic is not SBD1");
	if (stele_code_id_check(&code) != STELE_OK)
		return stele_wrap(STELE_ERR_CORRUPT, "descriptor");
	if (n != code.k + code.m)
		return corrupt("n", n, (uint64_t)code.k + code.m);
	if (cell_log2 != STELE_CELL_LOG2)
		return corrupt("cell_log2", cell_log2, STELE_CELL_LOG2);
	if (zero2 != 0 || zero4 != 0)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: reserved bytes are not zero");
	if (length < 1 || length > STELE_BLOCK_LEN_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: length %llu is not 1 to %u",
		                  (unsigned long long)length, STELE_BLOCK_LEN_MAX);
	if (S != stele_shard_len(&code, length))
		return corrupt("S", S, stele_shard_len(&code, length));
	return stele_descriptor_init(d, &code, length);
}

enum stele_err stele_descriptor_decode_prefix(const void *bytes, size_t len,
                                              struct stele_descriptor *out, size_t *used)
{
	struct stele_reader r = stele_reader(bytes, len);
	struct stele_descriptor d;
	STELE_TRY(decode_fixed(&r, &d));
	for (uint32_t i = 0; i < stele_descriptor_roots(&d); i++)
		stele_read_hash(&r, &d.root[i]);
	if (r.bad)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: roots: %zu bytes, not %zu", len,
		                  stele_descriptor_len(&d));
	*out = d;
	*used = stele_descriptor_len(&d);
	return STELE_OK;
}

enum stele_err stele_descriptor_decode(const void *bytes, size_t len, struct stele_descriptor *out)
{
	struct stele_descriptor d;
	size_t used;
	STELE_TRY(stele_descriptor_decode_prefix(bytes, len, &d, &used));
	if (used != len)
		return stele_fail(STELE_ERR_CORRUPT, "descriptor: roots: %zu bytes, not %zu", len,
		                  used);
	*out = d;
	return STELE_OK;
}

void stele_descriptor_id(const struct stele_descriptor *d, struct stele_hash *out)
{
	uint8_t bytes[STELE_DESCRIPTOR_MAX];
	stele_sha256(bytes, stele_descriptor_encode(d, bytes), out);
}

/* Checks */

bool stele_descriptor_row_ok(const struct stele_descriptor *d, uint32_t idx,
                             const struct stele_hash *row)
{
	struct stele_hash root;
	stele_merkle_root(row, stele_descriptor_cells(d), &root);
	return stele_hash_equal(&root, stele_descriptor_root(d, idx));
}

enum stele_err stele_descriptor_check_cell(const struct stele_descriptor *d, uint32_t cell,
                                           const struct stele_hash *row, const void *bytes,
                                           size_t len)
{
	struct stele_hash leaf;
	if (cell >= stele_descriptor_cells(d))
		return stele_fail(STELE_ERR_CORRUPT, "cell %u: the shard has %u", cell,
		                  stele_descriptor_cells(d));
	if (len != stele_descriptor_cell_len(d, cell))
		return stele_fail(STELE_ERR_CORRUPT, "cell %u: %zu bytes, not %u", cell, len,
		                  stele_descriptor_cell_len(d, cell));
	stele_sha256_cells(bytes, len, &leaf);
	if (!stele_hash_equal(&leaf, &row[cell]))
		return stele_fail(STELE_ERR_CORRUPT, "cell %u: its bytes do not match its hash",
		                  cell);
	return STELE_OK;
}
