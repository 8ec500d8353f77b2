/* Goal: anchors.local grows line by line, durably; opening it sees every change to what it held; a
 * torn end is cut off and nothing else ever is. Run on real files. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/anchor/head.h"
#include "net/anchor/local.h"
#include "storage/base/sha256.h"
#include "tests/unit/guard.h"

#define ORIGIN "log.example.org/00112233445566778899aabbccddeeff"

struct place {
	struct stele_env *env;
	char dir[64];
	char path[96];
	struct stele_secret_key key;
	struct stele_anchor_trust trust;
};

static struct place *place_create(void)
{
	struct place *p = calloc(1, sizeof(*p));
	uint8_t seed[32] = {9};
	cr_assert_not_null(p);
	strcpy(p->dir, "/tmp/test_local.XXXXXX");
	cr_assert_not_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/anchors.local", p->dir);
	cr_assert_eq(stele_env_threads_create(NULL, &p->env), STELE_OK, "%s", stele_detail());
	stele_key_from_seed(&p->key, seed);
	memset(p->trust.cluster.b, 0xc1, 32);
	strcpy(p->trust.origin, ORIGIN);
	p->trust.key[0] = p->key.pub;
	p->trust.nkeys = 1;
	return p;
}

static void place_destroy(struct place *p)
{
	char other[96];
	unlink(p->path);
	snprintf(other, sizeof(other), "%s/log.head", p->dir);
	unlink(other);
	rmdir(p->dir);
	stele_env_destroy(p->env);
	free(p);
}

static enum stele_err append(struct place *p, struct stele_anchor_local *l, uint64_t size,
                             struct stele_anchor_line *out)
{
	struct stele_checkpoint c = {.origin = ORIGIN, .size = size};
	struct stele_hash manifest;
	char note[STELE_NOTE_MAX];
	size_t len;
	stele_sha256(&size, sizeof(size), &c.root);
	stele_sha256(&c.root, sizeof(c.root), &manifest);
	cr_assert_eq(stele_note_sign(&c, &p->key, note, &len), STELE_OK);
	return stele_anchor_local_append(l, &p->key, note, len, &manifest, 1759680000 + size, out);
}

static struct stele_anchor_local *open_ok(struct place *p, bool write)
{
	struct stele_anchor_local *l;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, write, &l), STELE_OK, "%s",
	             stele_detail());
	return l;
}

/* A file of lines of sizes 10, 20, ... */
static void make_lines(struct place *p, unsigned n)
{
	struct stele_anchor_local *l = open_ok(p, true);
	struct stele_anchor_line line;
	for (unsigned i = 1; i <= n; i++)
		cr_assert_eq(append(p, l, 10 * i, &line), STELE_OK, "%s", stele_detail());
	stele_anchor_local_close(l);
}

static char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *bytes = malloc(1 << 20);
	cr_assert(f && bytes);
	*len = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	return bytes;
}

static void spill(const char *path, const char *bytes, size_t len)
{
	FILE *f = fopen(path, "wb");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(bytes, 1, len, f), len);
	cr_assert_eq(fclose(f), 0);
}

Test(local, lines_come_back)
{
	struct place *p = place_create();
	struct stele_anchor_line line, before = {0};
	struct stele_anchor_local *l;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, false, &l),
	             STELE_ERR_NOT_FOUND);
	make_lines(p, 5);
	make_lines(p, 0);
	l = open_ok(p, false);
	cr_assert_eq(stele_anchor_local_count(l), 5u);
	for (uint64_t i = 0; i < 5; i++) {
		cr_assert_eq(stele_anchor_local_line(l, i, &line), STELE_OK, "%s", stele_detail());
		cr_assert_eq(line.number, i);
		cr_assert_eq(line.checkpoint.size, 10 * (i + 1));
		cr_assert_eq(line.time, 1759680000 + 10 * (i + 1));
		if (i) { /* chained by plain SHA-256 over the line's bytes */
			char bytes[STELE_ANCHOR_LINE_MAX];
			struct stele_hash h;
			size_t len;
			cr_assert_eq(stele_anchor_line_encode(&before, bytes, &len), STELE_OK);
			stele_sha256(bytes, len, &h);
			cr_assert(stele_hash_equal(&h, &line.previous));
		} else {
			cr_assert(stele_all_zero(line.previous.b, 32));
		}
		before = line;
	}
	cr_assert_eq(stele_anchor_local_line(l, 5, &line), STELE_ERR_NOT_FOUND);
	static const struct {
		uint64_t leaf, number;
	} covering[] = {{0, 0}, {9, 0}, {10, 1}, {19, 1}, {20, 2}, {49, 4}};
	for (size_t i = 0; i < sizeof(covering) / sizeof(covering[0]); i++) {
		cr_assert_eq(stele_anchor_local_covering(l, covering[i].leaf, &line), STELE_OK);
		cr_assert_eq(line.number, covering[i].number);
	}
	cr_assert_eq(stele_anchor_local_covering(l, 50, &line), STELE_ERR_NOT_FOUND);
	stele_anchor_local_close(l);
	place_destroy(p);
}

Test(local, only_larger_checkpoints_follow)
{
	struct place *p = place_create();
	struct stele_anchor_line line;
	struct stele_hash zero = {{0}};
	char note[STELE_NOTE_MAX];
	size_t len;
	make_lines(p, 2);
	struct stele_anchor_local *l = open_ok(p, true);
	cr_assert_eq(append(p, l, 19, &line), STELE_ERR_REFUSED);
	cr_assert_eq(append(p, l, 20, &line), STELE_OK); /* again: the same line */
	cr_assert_eq(line.number, 1u);
	cr_assert_eq(stele_anchor_local_count(l), 2u);
	struct stele_checkpoint c = {.origin = ORIGIN,
	                             .size = 20}; /* the same size, another root */
	cr_assert_eq(stele_note_sign(&c, &p->key, note, &len), STELE_OK);
	cr_assert_eq(stele_anchor_local_append(l, &p->key, note, len, &zero, 1, &line),
	             STELE_ERR_REFUSED);
	/* what open would refuse is not written */
	struct stele_secret_key other;
	uint8_t seed[32] = {10};
	stele_key_from_seed(&other, seed);
	c.size = 30;
	cr_assert_eq(stele_note_sign(&c, &other, note, &len), STELE_OK);
	cr_assert_eq(stele_anchor_local_append(l, &p->key, note, len, &zero, 1, &line),
	             STELE_ERR_CORRUPT);
	cr_assert_eq(stele_note_sign(&c, &p->key, note, &len), STELE_OK);
	cr_assert_eq(stele_anchor_local_append(l, &other, note, len, &zero, 1, &line),
	             STELE_ERR_CORRUPT);
	cr_assert_eq(stele_anchor_local_append(l, &p->key, note, len, &zero, 1, &line), STELE_OK);
	stele_anchor_local_close(l);
	l = open_ok(p, false);
	cr_assert_eq(stele_anchor_local_count(l), 3u);
	stele_anchor_local_close(l);
	place_destroy(p);
}

Test(local, one_writer_at_a_time)
{
	struct place *p = place_create();
	struct stele_anchor_local *l = open_ok(p, true), *m;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, true, &m),
	             STELE_ERR_EXISTS);
	m = open_ok(p, false); /* readers are welcome */
	stele_anchor_local_close(m);
	stele_anchor_local_close(l);
	m = open_ok(p, true);
	stele_anchor_local_close(m);
	place_destroy(p);
}

/* Every byte of three lines, several changes each: seen, or such as only a torn last line has. */
Test(local, every_changed_byte_is_seen)
{
	struct place *p = place_create();
	size_t len, two;
	make_lines(p, 3);
	char *bytes = slurp(p->path, &len);
	two = len - 1;
	while (bytes[two - 1] != '\n')
		two--;
	for (size_t i = 0; i < len; i++) {
		static const uint8_t changes[] = {0x01, 0x20, 0x80};
		for (size_t k = 0; k < sizeof(changes); k++) {
			struct stele_anchor_local *l;
			bytes[i] = (char)(bytes[i] ^ (char)changes[k]);
			spill(p->path, bytes, len);
			enum stele_err err =
			    stele_anchor_local_open(p->env, p->path, &p->trust, false, &l);
			if (err == STELE_OK) {
				/* the last line feed, or a byte of the last line that is now zero
				 */
				cr_assert(i == len - 1 || (i >= two && bytes[i] == 0),
				          "byte %zu of %zu", i, len);
				cr_assert_eq(stele_anchor_local_count(l), 2u); /* ignored */
				stele_anchor_local_close(l);
			} else {
				cr_assert_eq(err, STELE_ERR_CORRUPT);
				cr_assert_not_null(strstr(stele_detail(), "line "));
			}
			bytes[i] = (char)(bytes[i] ^ (char)changes[k]);
		}
	}
	free(bytes);
	place_destroy(p);
}

Test(local, every_torn_end_is_cut_off)
{
	struct place *p = place_create();
	struct stele_anchor_line line;
	size_t len, two;
	make_lines(p, 2);
	free(slurp(p->path, &two));
	make_lines(p, 0);
	struct stele_anchor_local *l = open_ok(p, true);
	cr_assert_eq(append(p, l, 30, &line), STELE_OK);
	stele_anchor_local_close(l);
	char *bytes = slurp(p->path, &len);
	for (size_t cut = two; cut <= len; cut += cut + 64 < len  ? 61
	                                          : cut + 3 < len ? len - 3 - cut
	                                                          : 1) {
		spill(p->path, bytes, cut);
		l = open_ok(p, true);
		cr_assert_eq(stele_anchor_local_count(l), cut == len ? 3u : 2u);
		cr_assert_eq(append(p, l, 40, &line), STELE_OK, "%s", stele_detail());
		stele_anchor_local_close(l);
		l = open_ok(p, false);
		cr_assert_eq(stele_anchor_local_count(l), cut == len ? 4u : 3u);
			stele_anchor_local_close(l);
	}
	/* pages that never arrived: zeros anywhere in the last line, whatever follows them */
	memset(bytes + two + 100, 0, 200);
	spill(p->path, bytes, len);
	l = open_ok(p, true);
	cr_assert_eq(stele_anchor_local_count(l), 2u);
	cr_assert_eq(append(p, l, 21, &line), STELE_OK);
	stele_anchor_local_close(l);
	l = open_ok(p, false);
	cr_assert_eq(stele_anchor_local_count(l), 3u);
	stele_anchor_local_close(l);
	/* a torn end longer than the line that replaces it leaves nothing behind */
	memset(bytes + two, 'x', 2000);
	spill(p->path, bytes, two + 2000);
	l = open_ok(p, true);
	cr_assert_eq(stele_anchor_local_count(l), 2u);
	cr_assert_eq(append(p, l, 21, &line), STELE_OK);
	cr_assert_eq(append(p, l, 22, &line), STELE_OK);
	stele_anchor_local_close(l);
	l = open_ok(p, false);
	cr_assert_eq(stele_anchor_local_count(l), 4u);
	stele_anchor_local_close(l);
	free(bytes);
	place_destroy(p);
}

Test(local, lines_removed_swapped_or_of_others_are_seen)
{
	struct place *p = place_create();
	struct stele_anchor_local *l;
	size_t len, at[4] = {0};
	make_lines(p, 3);
	char *bytes = slurp(p->path, &len), *out = malloc(len);
	for (int i = 1; i <= 3; i++)
		at[i] = (size_t)((char *)memchr(bytes + at[i - 1], '\n', len) + 1 - bytes);
	/* the first is gone; the middle is gone; two are swapped */
	spill(p->path, bytes + at[1], len - at[1]);
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, false, &l),
	             STELE_ERR_CORRUPT);
	memcpy(out, bytes, at[1]);
	memcpy(out + at[1], bytes + at[2], len - at[2]);
	spill(p->path, out, at[1] + len - at[2]);
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, false, &l),
	             STELE_ERR_CORRUPT);
	spill(p->path, bytes, len);
	/* another cluster, another log, other keys */
	struct stele_anchor_trust t = p->trust;
	t.cluster.b[0] ^= 1;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &t, false, &l), STELE_ERR_CORRUPT);
	t = p->trust;
	t.origin[0] ^= 1;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &t, false, &l), STELE_ERR_CORRUPT);
	t = p->trust;
	t.key[0].b[0] ^= 1;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &t, false, &l), STELE_ERR_CORRUPT);
	t.key[1] = p->trust.key[0]; /* one of several suffices */
	t.nkeys = 2;
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &t, false, &l), STELE_OK);
	stele_anchor_local_close(l);
	free(bytes);
	free(out);
	place_destroy(p);
}

/* The bytes of n lines, made without a write for each. */
static char *line_bytes(struct place *p, unsigned n, size_t *len)
{
	struct stele_anchor_line line = {.number = 0};
	char *out = malloc((size_t)n * 1024), body[STELE_DEPOSIT_MAX];
	size_t one;
	cr_assert_not_null(out);
	*len = 0;
	strcpy(line.checkpoint.origin, ORIGIN);
	for (line.number = 0; line.number < n; line.number++) {
		line.checkpoint.size = 10 * (line.number + 1);
		cr_assert_eq(stele_note_sign(&line.checkpoint, &p->key, line.note, &line.note_len),
		             STELE_OK);
		stele_anchor_line_body(&line, &p->trust.cluster, body, &one);
		stele_sign(&p->key, body, one, &line.sig);
		cr_assert_eq(stele_anchor_line_encode(&line, out + *len, &one), STELE_OK);
		stele_sha256(out + *len, one, &line.previous);
		*len += one;
	}
	return out;
}

Test(local, many_lines_are_read_in_pieces)
{
	struct place *p = place_create();
	size_t len;
	char *bytes = line_bytes(p, 3000, &len); /* more than one read's length */
	cr_assert_gt(len, 1u << 20);
	spill(p->path, bytes, len);
	struct stele_anchor_local *l = open_ok(p, false);
	struct stele_anchor_line line;
	cr_assert_eq(stele_anchor_local_count(l), 3000u);
	cr_assert_eq(stele_anchor_local_covering(l, 29999, &line), STELE_OK);
	cr_assert_eq(line.number, 2999u);
	stele_anchor_local_close(l);
	bytes[len / 2] ^= 1;
	spill(p->path, bytes, len);
	cr_assert_eq(stele_anchor_local_open(p->env, p->path, &p->trust, false, &l),
	             STELE_ERR_CORRUPT);
	free(bytes);
	place_destroy(p);
}

Test(head, moves_only_from_where_it_is)
{
	struct place *p = place_create();
	struct stele_hash log_id = {{1}}, other = {{2}};
	struct stele_log_head none = {0}, a = {.size = 5, .root = {{5}}, .manifest = {{55}}},
	                      b = {.size = 9, .root = {{9}}, .manifest = {{99}}}, got;
	char path[96];
	size_t len;
	snprintf(path, sizeof(path), "%s/log.head", p->dir);
	const struct stele_hash *cluster = &p->trust.cluster;
	cr_assert_eq(stele_log_head_load(p->env, path, cluster, &log_id, &got),
	             STELE_ERR_NOT_FOUND);
	cr_assert_eq(stele_log_head_move(p->env, path, cluster, &log_id, &a, &b), STELE_ERR_STALE);
	cr_assert_eq(stele_log_head_move(p->env, path, cluster, &log_id, &none, &a), STELE_OK, "%s",
	             stele_detail());
	cr_assert_eq(stele_log_head_move(p->env, path, cluster, &log_id, &none, &b),
	             STELE_ERR_STALE);
	struct stele_log_head fork = a;
	fork.root.b[1] = 1;
	cr_assert_eq(stele_log_head_move(p->env, path, cluster, &log_id, &fork, &b),
	             STELE_ERR_STALE);
	cr_assert_eq(stele_log_head_move(p->env, path, cluster, &log_id, &a, &b), STELE_OK);
	cr_assert_eq(stele_log_head_load(p->env, path, cluster, &log_id, &got), STELE_OK);
	cr_assert_eq(got.size, 9u);
	cr_assert(stele_hash_equal(&got.root, &b.root));
	cr_assert(stele_hash_equal(&got.manifest, &b.manifest));
	cr_assert_eq(stele_log_head_load(p->env, path, cluster, &other, &got), STELE_ERR_CORRUPT);
	cr_assert_eq(stele_log_head_load(p->env, path, &other, &log_id, &got), STELE_ERR_CORRUPT);
	char *bytes = slurp(path, &len);
	spill(path, bytes, len - 1);
	cr_assert_eq(stele_log_head_load(p->env, path, cluster, &log_id, &got), STELE_ERR_CORRUPT);
	cr_assert_not_null(strstr(stele_detail(), "line 6 (manifest)"), "%s", stele_detail());
	free(bytes);
	place_destroy(p);
}
