/* The codec of deposits. It judges form, and fields that contradict each other; the depositor's
 * right to sign, and whether object and tree name the same bytes, are its readers' to check. */
#include "storage/base/deposit.h"

#include <assert.h>

#include "storage/base/sha256.h"
#include "storage/base/text.h"

#define HEADLINE "stele.dev/deposit/v1"

#define AT(field) offsetof(struct stele_deposit, field)
#define PART(k, field)                                                                             \
	{                                                                                          \
		STELE_TEXT_##k, AT(field), NULL, NULL                                              \
	}

static const char *const type_words[] = {NULL, "evidence", "ledger", "index", "system", NULL};

static const struct stele_text_line lines[] = {
    {"cluster", false, 0, {PART(HEX32, cluster)}},
    {"type", false, 0, {{STELE_TEXT_WORD, AT(type), type_words, NULL}}},
    {"object", false, 0, {PART(OBJECT, object)}},
    {"length", false, 0, {PART(U64, length)}},
    {"tree", false, 0, {PART(HEX32, tree)}},
    {"layout", true, AT(has_layout), {PART(HEX32, layout)}},
    {"pool", false, 0, {PART(NAME, pool)}},
    {"depositor", false, 0, {PART(HEX32, depositor)}},
    {"time", false, 0, {PART(U64, time)}},
    {"after",
     true,
     AT(has_after),
     {PART(CAIP2, after.caip2), PART(U64, after.height), PART(HEX32, after.hash)}},
    {"chain",
     true,
     AT(has_chain),
     {PART(CAIP2, chain.caip2), PART(U64, chain.first), PART(U64, chain.last),
      PART(HEX32, chain.first_hash), PART(HEX32, chain.last_hash)}},
    {"meta", true, AT(has_meta), {PART(HEX32, meta)}},
    {"plain", true, AT(has_plain), {PART(HEX32, plain)}},
    {"sm3", true, AT(has_sm3), {PART(HEX32, sm3)}},
    {"nonce", false, 0, {PART(HEX32, nonce)}},
    {0},
};

/* What relates two lines. err is the caller's: INVALID when writing, CORRUPT when reading. */
static enum stele_err check(const struct stele_deposit *d, enum stele_err err)
{
	if (d->has_layout && d->length == 0)
		return stele_fail(err, "layout: an empty object has none");
	if (!d->has_layout && d->length > STELE_INLINE_MAX)
		return stele_fail(err, "layout: an object beyond %u bytes has one",
		                  STELE_INLINE_MAX);
	if (d->has_chain && d->chain.first > d->chain.last)
		return stele_fail(err, "chain: last height before the first");
	return STELE_OK;
}

enum stele_err stele_deposit_encode(const struct stele_deposit *d, char *out, size_t *len)
{
	struct stele_writer w = stele_writer(out, STELE_DEPOSIT_MAX);
	stele_write_bytes(&w, HEADLINE "\n", strlen(HEADLINE) + 1);
	enum stele_err err = stele_text_write(lines, d, &w);
	if (!err)
		err = check(d, STELE_ERR_INVALID);
	if (err)
		return stele_wrap(err, "deposit");
	assert(!w.bad); /* every line is bounded, and so is their sum */
	*len = stele_written(&w);
	return STELE_OK;
}

static enum stele_err decode(struct stele_reader *r, struct stele_deposit *d)
{
	unsigned line = 0;
	STELE_TRY(stele_text_expect(r, &line, HEADLINE));
	STELE_TRY(stele_text_read(lines, r, &line, d));
	STELE_TRY(stele_text_end(r, line));
	return check(d, STELE_ERR_CORRUPT);
}

enum stele_err stele_deposit_decode(const char *text, size_t len, struct stele_deposit *out)
{
	struct stele_reader r = stele_reader(text, len);
	struct stele_deposit d = {0};
	if (len > STELE_DEPOSIT_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "deposit: %zu bytes, at most %u", len,
		                  STELE_DEPOSIT_MAX);
	enum stele_err err = decode(&r, &d);
	if (err)
		return stele_wrap(err, "deposit");
	*out = d;
	return STELE_OK;
}

void stele_deposit_hash(const char *text, size_t len, struct stele_hash *out)
{
	stele_sha256(text, len, out);
}
