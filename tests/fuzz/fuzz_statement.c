/*
 * Deposits, marks, records, layouts, checkpoints and ids. Whatever a decoder accepts, its encoder writes
 * back byte for byte: nothing that is signed has two spellings.
 *
 * Input: a letter for the kind, then the bytes.
 */
#include <string.h>

#include "storage/base/deposit.h"
#include "storage/base/note.h"
#include "storage/base/sha256.h"
#include "tests/fuzz/fuzz.h"

static void fill(struct stele_hash *h, unsigned i)
{
	stele_sha256(&i, sizeof(i), h);
}

static size_t seed_deposit(unsigned i, uint8_t *out, struct stele_deposit *d)
{
	size_t len;
	memset(d, 0, sizeof(*d));
	d->type = (enum stele_deposit_type)(1 + i % 4);
	d->length = i % 3 ? 1000 + i : 0;
	d->has_layout = i % 3 == 2;
	fill(&d->cluster, i);
	fill(&d->layout, i + 1);
	fill(&d->nonce, i + 2);
	strcpy(d->pool, "evidence");
	d->time = 1700000000 + i;
	d->has_after = i & 1;
	if (d->has_after) {
		strcpy(d->after.caip2, "eip155:1");
		d->after.height = 19000000;
	}
	d->has_chain = i & 2;
	if (d->has_chain) {
		strcpy(d->chain.caip2, "bip122:000000000019d6689c085ae165831e93");
		d->chain.last = 118;
	}
	d->has_meta = i & 4;
	d->has_plain = i & 8;
	d->has_sm3 = i & 16;
	stele_sha256("", 0, &d->object);
	stele_sha256("", 0, &d->tree);
	FUZZ_CHECK(stele_deposit_encode(d, (char *)out, &len) == STELE_OK);
	return len;
}

static size_t seed_mark(unsigned i, uint8_t *out)
{
	struct stele_mark m = {.kind = (enum stele_mark_kind)(1 + i % STELE_MARK_CATALOGUE),
	                       .time = i};
	size_t len;
	m.has_deposit = m.kind != STELE_MARK_CATALOGUE;
	if (m.kind == STELE_MARK_HOLD || m.kind == STELE_MARK_RELEASE)
		strcpy(m.u.hold.reason, "case-17");
	if (m.kind == STELE_MARK_LAYOUT) {
		m.u.layout.piece.len = 100;
		m.u.layout.generation = 1;
	}
	if (m.kind == STELE_MARK_PRUNED) {
		strcpy(m.u.pruned.node, "node-1");
		strcpy(m.u.pruned.caip2, "eip155:1");
	}
	if (m.kind == STELE_MARK_CATALOGUE) {
		strcpy(m.u.catalogue.caip2, "eip155:1");
		stele_catalogue_id("eip155:1", &m.object);
		m.u.catalogue.last = 8191;
		m.u.catalogue.count = 8192;
	}
	FUZZ_CHECK(stele_mark_encode(&m, (char *)out, &len) == STELE_OK);
	return len;
}

static size_t seed_layout(unsigned i, uint8_t *out)
{
	struct stele_piece piece[20] = {{.off = 0}};
	struct stele_layout l = {.generation = i, .npieces = i % 20, .piece = piece};
	for (unsigned p = 0; p < 20; p++)
		piece[p].len = 1 + p * i;
	return stele_layout_encode(&l, out);
}

/* Of an empty object, or with a layout of i pieces. */
static size_t seed_record(unsigned i, uint8_t *out)
{
	static uint8_t text[STELE_DEPOSIT_MAX];
	struct stele_piece piece[20] = {{.off = 0}};
	struct stele_record r = {.layout = {.npieces = i % 20, .piece = piece}};
	struct stele_deposit *d = &r.deposit;
	size_t len;
	seed_deposit(0, text, d);
	for (unsigned p = 0; p < r.layout.npieces; p++) {
		piece[p].len = 65536;
		d->length += 65536;
	}
	d->has_layout = r.layout.npieces > 0;
	stele_layout_hash(&r.layout, &d->layout);
	FUZZ_CHECK(stele_deposit_encode(d, (char *)text, &len) == STELE_OK);
	r.text = (const char *)text;
	r.text_len = (uint32_t)len;
	FUZZ_CHECK(stele_record_encode(&r, out, &len) == STELE_OK);
	return len;
}

static size_t seed_note(unsigned i, uint8_t *out)
{
	struct stele_checkpoint c = {.origin = "stele.example/log", .size = i * 1000};
	struct stele_secret_key key;
	uint8_t seed[32] = {1};
	size_t len;
	stele_key_from_seed(&key, seed);
	fill(&c.root, i);
	FUZZ_CHECK(stele_note_sign(&c, &key, (char *)out, &len) == STELE_OK);
	if (i & 1)
		FUZZ_CHECK(stele_note_cosign((char *)out, &len, "witness.example", &key, i) ==
		           STELE_OK);
	return len;
}

static size_t seed_id(unsigned i, uint8_t *out)
{
	static const char *const ids[] = {
	    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	    "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
	    "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
	    "ni:///sha-256;47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"};
	struct stele_hash h;
	const char *id = ids[i % 4];
	memcpy(out, id, strlen(id));
	FUZZ_CHECK(stele_id_parse(id, &h) == STELE_OK);
	return strlen(id);
}

size_t fuzz_seed(unsigned i, uint8_t *out)
{
	struct stele_deposit d;
	unsigned n = i / 6;
	if (i >= 6 * 24)
		return 0;
	out[0] = (uint8_t) "dmlrni"[i % 6];
	switch (i % 6) {
	case 0:
		return 1 + seed_deposit(n, out + 1, &d);
	case 1:
		return 1 + seed_mark(n, out + 1);
	case 2:
		return 1 + seed_layout(n, out + 1);
	case 3:
		return 1 + seed_record(n, out + 1);
	case 4:
		return 1 + seed_note(n, out + 1);
	default:
		return 1 + seed_id(n, out + 1);
	}
}

static uint8_t again[STELE_META_MAX];
static struct stele_piece pieces[STELE_PIECES_MAX];

static void same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	FUZZ_CHECK(a_len == b_len && memcmp(a, b, a_len) == 0);
}

static void try_deposit(const uint8_t *p, size_t size)
{
	struct stele_deposit d;
	size_t len;
	if (stele_deposit_decode((const char *)p, size, &d) != STELE_OK)
		return;
	FUZZ_CHECK(stele_deposit_encode(&d, (char *)again, &len) == STELE_OK);
	same(p, size, again, len);
}

static void try_mark(const uint8_t *p, size_t size)
{
	struct stele_mark m;
	struct stele_sig sig;
	const char *text;
	size_t len;
	if (stele_mark_decode((const char *)p, size, &m) == STELE_OK) {
		FUZZ_CHECK(stele_mark_encode(&m, (char *)again, &len) == STELE_OK);
		same(p, size, again, len);
	}
	if (stele_mark_unpack(p, size, &text, &len, &sig) == STELE_OK) {
		FUZZ_CHECK(stele_mark_pack(text, len, &sig, again, &len) == STELE_OK);
		same(p, size, again, len);
	}
}

static void try_layout(const uint8_t *p, size_t size)
{
	struct stele_layout l;
	size_t used;
	if (stele_layout_decode(p, size, &l, pieces, STELE_PIECES_MAX, &used) != STELE_OK)
		return;
	FUZZ_CHECK(used <= size && used == stele_layout_len(l.npieces));
	FUZZ_CHECK(stele_layout_encode(&l, again) == used);
	FUZZ_CHECK(memcmp(p, again, used) == 0);
	FUZZ_CHECK(stele_layout_total(&l) <= STELE_OBJECT_LEN_MAX);
}

static void try_record(const uint8_t *p, size_t size)
{
	struct stele_record r;
	size_t len;
	if (stele_record_decode(p, size, true, &r, pieces) != STELE_OK)
		return;
	FUZZ_CHECK(stele_record_encode(&r, again, &len) == STELE_OK);
	same(p, size, again, len);
	if (stele_record_check_sig(&r) == STELE_OK) /* signed by nobody: none may hold */
		FUZZ_CHECK(!stele_all_zero(r.sig.b, sizeof(r.sig.b)));
}

static void try_note(const uint8_t *p, size_t size)
{
	static struct stele_note note;
	if (stele_note_read((const char *)p, size, &note) != STELE_OK)
		return;
	FUZZ_CHECK(note.nsigs <= STELE_NOTE_SIGS_MAX && note.text_len <= size);
	FUZZ_CHECK(stele_origin_ok(note.checkpoint.origin));
}

static void try_id(const uint8_t *p, size_t size)
{
	char text[200], printed[STELE_ID_TEXT];
	struct stele_hash id, back;
	size = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
	memcpy(text, p, size);
	text[size] = '\0';
	if (stele_id_parse(text, &id) != STELE_OK)
		return;
	FUZZ_CHECK(stele_id_parse(stele_id_text(&id, printed), &back) == STELE_OK);
	FUZZ_CHECK(stele_hash_equal(&id, &back));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	switch (*data) {
	case 'd':
		try_deposit(data + 1, size - 1);
		break;
	case 'm':
		try_mark(data + 1, size - 1);
		break;
	case 'l':
		try_layout(data + 1, size - 1);
		break;
	case 'r':
		try_record(data + 1, size - 1);
		break;
	case 'n':
		try_note(data + 1, size - 1);
		break;
	case 'i':
		try_id(data + 1, size - 1);
		break;
	}
	return 0;
}
