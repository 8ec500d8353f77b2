/* The codec of marks: one table for what all kinds share, one for each kind's own lines. It judges
 * form, and fields that contradict each other; never whether the author may say so. */
#include "storage/base/mark.h"

#include <assert.h>

#include "storage/base/sha256.h"

#define HEADLINE "stele.dev/mark/v1"

#define AT(field) offsetof(struct stele_mark, field)
/* clang-format off */
#define LINE1(name, k, field) {name, false, 0, {{STELE_TEXT_##k, AT(field), NULL, NULL}}}
/* clang-format on */

static const char *const kind_words[] = {NULL,     "delete", "hold",      "release", "layout",
                                         "logged", "pruned", "catalogue", NULL};
#define KINDS (sizeof(kind_words) / sizeof(kind_words[0]) - 1)

static const struct stele_text_line common[] = {
    LINE1("cluster", HEX32, cluster),
    {"kind", false, 0, {{STELE_TEXT_WORD, AT(kind), kind_words, NULL}}},
    LINE1("object", OBJECT, object),
    {"deposit", true, AT(has_deposit), {{STELE_TEXT_HEX32, AT(deposit), NULL, NULL}}},
    LINE1("author", HEX32, author),
    LINE1("time", U64, time),
    LINE1("nonce", HEX32, nonce),
    {0},
};

/* kind layout: the layout's bytes, so that its hash is theirs */

#define SINGLE_LEN (STELE_LAYOUT_HEAD_LEN + STELE_PIECE_LEN)

static void write_single(const void *field, uint8_t *bytes)
{
	struct stele_mark_layout l = *(const struct stele_mark_layout *)field;
	struct stele_layout layout = {.generation = l.generation, .npieces = 1, .piece = &l.piece};
	stele_layout_encode(&layout, bytes);
}

static bool read_single(const uint8_t *bytes, void *field)
{
	struct stele_mark_layout *l = field;
	struct stele_layout layout;
	size_t used;
	if (stele_layout_decode(bytes, SINGLE_LEN, &layout, &l->piece, 1, &used) != STELE_OK ||
	    layout.npieces != 1)
		return false;
	l->generation = layout.generation;
	return true;
}

static const struct stele_text_own single = {SINGLE_LEN, write_single, read_single};
_Static_assert(SINGLE_LEN <= STELE_TEXT_OWN_MAX, "one piece fits");

static const char *const level_words[] = {"bound", "linked"};

static const struct stele_text_line no_lines[] = {{0}};
static const struct stele_text_line hold_lines[] = {
    LINE1("reason", LINE, u.hold.reason),
    {0},
};
static const struct stele_text_line layout_lines[] = {
    {"layout", false, 0, {{STELE_TEXT_OWN, AT(u.layout), NULL, &single}}},
    {0},
};
static const struct stele_text_line logged_lines[] = {
    LINE1("logid", HEX32, u.logged.logid),
    LINE1("index", U64, u.logged.index),
    {0},
};
static const struct stele_text_line pruned_lines[] = {
    LINE1("node", NAME, u.pruned.node),
    LINE1("chain", CAIP2, u.pruned.caip2),
    LINE1("height", U64, u.pruned.height),
    {0},
};
static const struct stele_text_line catalogue_lines[] = {
    LINE1("chain", CAIP2, u.catalogue.caip2),
    LINE1("first", U64, u.catalogue.first),
    LINE1("last", U64, u.catalogue.last),
    LINE1("first-parent", HEX32, u.catalogue.first_parent),
    LINE1("last-hash", HEX32, u.catalogue.last_hash),
    LINE1("count", U64, u.catalogue.count),
    LINE1("segment", OBJECT, u.catalogue.segment),
    LINE1("index", OBJECT, u.catalogue.index),
    {"level", false, 0, {{STELE_TEXT_FLAG, AT(u.catalogue.linked), level_words, NULL}}},
    {0},
};

static const struct stele_text_line *const own_lines[KINDS] = {
    [STELE_MARK_DELETE] = no_lines,           [STELE_MARK_HOLD] = hold_lines,
    [STELE_MARK_RELEASE] = hold_lines,        [STELE_MARK_LAYOUT] = layout_lines,
    [STELE_MARK_LOGGED] = logged_lines,       [STELE_MARK_PRUNED] = pruned_lines,
    [STELE_MARK_CATALOGUE] = catalogue_lines,
};

/* What relates two lines. err is the caller's: INVALID when writing, CORRUPT when reading. */
static enum stele_err check(const struct stele_mark *m, enum stele_err err)
{
	struct stele_hash id;
	if (m->has_deposit == (m->kind == STELE_MARK_CATALOGUE))
		return stele_fail(err, "deposit: a %s mark %s one", kind_words[m->kind],
		                  m->has_deposit ? "names no" : "must name");
	switch (m->kind) {
	case STELE_MARK_LAYOUT:
		if (m->u.layout.generation == 0)
			return stele_fail(err, "layout: generation 0 is the deposit's own");
		break;
	case STELE_MARK_CATALOGUE:
		if (m->u.catalogue.first > m->u.catalogue.last)
			return stele_fail(err, "last: height before the first");
		stele_catalogue_id(m->u.catalogue.caip2, &id);
		if (!stele_hash_equal(&id, &m->object))
			return stele_fail(err, "object: not the catalogue id of its chain");
		break;
	default:
		break;
	}
	return STELE_OK;
}

enum stele_err stele_mark_encode(const struct stele_mark *m, char *out, size_t *len)
{
	struct stele_writer w = stele_writer(out, STELE_MARK_MAX);
	enum stele_err err;
	stele_write_bytes(&w, HEADLINE "\n", strlen(HEADLINE) + 1);
	err = stele_text_write(common, m, &w); /* refuses a kind that is none */
	if (!err)
		err = stele_text_write(own_lines[m->kind], m, &w);
	if (!err)
		err = check(m, STELE_ERR_INVALID);
	if (err)
		return stele_wrap(err, "mark");
	assert(!w.bad); /* every line is bounded, and so is their sum */
	*len = stele_written(&w);
	return STELE_OK;
}

static enum stele_err decode(struct stele_reader *r, struct stele_mark *m)
{
	unsigned line = 0;
	STELE_TRY(stele_text_expect(r, &line, HEADLINE));
	STELE_TRY(stele_text_read(common, r, &line, m));
	STELE_TRY(stele_text_read(own_lines[m->kind], r, &line, m));
	STELE_TRY(stele_text_end(r, line));
	return check(m, STELE_ERR_CORRUPT);
}

enum stele_err stele_mark_decode(const char *text, size_t len, struct stele_mark *out)
{
	struct stele_reader r = stele_reader(text, len);
	struct stele_mark m = {0};
	if (len > STELE_MARK_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "mark: %zu bytes, at most %u", len,
		                  STELE_MARK_MAX);
	enum stele_err err = decode(&r, &m);
	if (err)
		return stele_wrap(err, "mark");
	*out = m;
	return STELE_OK;
}

void stele_mark_hash(const char *text, size_t len, struct stele_hash *out)
{
	stele_sha256(text, len, out);
}

const char *stele_mark_kind_name(enum stele_mark_kind kind)
{
	return (unsigned)kind < KINDS && kind_words[kind] ? kind_words[kind] : "?";
}

enum stele_err stele_mark_pack(const char *text, size_t len, const struct stele_sig *sig,
                               uint8_t *out, size_t *out_len)
{
	if (len == 0 || len > STELE_MARK_MAX)
		return stele_fail(STELE_ERR_INVALID, "mark: %zu bytes, not 1 to %u", len,
		                  STELE_MARK_MAX);
	struct stele_writer w = stele_writer(out, STELE_MARK_PACKED_MAX);
	stele_write_le32(&w, (uint32_t)len);
	stele_write_bytes(&w, text, len);
	stele_write_bytes(&w, sig->b, sizeof(sig->b));
	assert(!w.bad);
	*out_len = stele_written(&w);
	return STELE_OK;
}

enum stele_err stele_mark_unpack(const void *bytes, size_t len, const char **text, size_t *text_len,
                                 struct stele_sig *sig)
{
	struct stele_reader r = stele_reader(bytes, len);
	uint32_t n = stele_read_le32(&r);
	const uint8_t *body = stele_read_span(&r, n);
	const uint8_t *s = stele_read_span(&r, STELE_SIG_LEN);
	if (!stele_read_done(&r) || n == 0 || n > STELE_MARK_MAX)
		return stele_fail(STELE_ERR_CORRUPT,
		                  "packed mark: %zu bytes are not a length, text and signature",
		                  len);
	*text = (const char *)body;
	*text_len = n;
	memcpy(sig->b, s, sizeof(sig->b));
	return STELE_OK;
}

void stele_catalogue_id(const char *caip2, struct stele_hash *out)
{
	static const char domain[] = "stele.dev/catalogue/v1\n";
	struct stele_sha256_stream s;
	stele_sha256_init(&s);
	stele_sha256_update(&s, domain, strlen(domain));
	stele_sha256_update(&s, caip2, strlen(caip2));
	stele_sha256_value(&s, out);
}
