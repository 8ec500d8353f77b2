/*
 * Goal: every head has one encoding: golden bytes for some, and for all of them: what was encoded comes
 * back, each truncation and each trailing byte is refused, counts and flags out of bounds too.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "net/wire/ops_format.h"

#define CAP (256u << 10)

static struct stele_hash hash(uint8_t fill)
{
	struct stele_hash h;
	memset(h.b, fill, sizeof(h.b));
	return h;
}

static struct stele_key key(uint8_t fill)
{
	return (struct stele_key){
	    .pool = 0x0201, .kind = 3, .index = fill, .id = hash(fill), .sub = hash(0x5b)};
}

static uint8_t bytes[CAP], again[CAP];

/* Encodes `in`, decodes it into `out`, encodes that: the same bytes. Then all that must be refused. Each
 * decoder gets a copy of exactly its bytes, so that ASan sees a read beyond them. */
#define ROUND(name, in)                                                                            \
	({                                                                                         \
		struct stele_head_##name *out = malloc(sizeof(*out));                              \
		struct stele_writer w = stele_writer(bytes, CAP);                                  \
		stele_head_##name##_encode(&(in), &w);                                             \
		cr_assert(!w.bad);                                                                 \
		size_t round_len = stele_written(&w);                                              \
		uint8_t *exact = malloc(round_len + 1);                                            \
		memcpy(exact, bytes, round_len);                                                   \
		cr_assert_eq(stele_head_##name##_decode(exact, round_len, out), STELE_OK,          \
		             #name ": %s", stele_detail());                                        \
		w = stele_writer(again, CAP);                                                      \
		stele_head_##name##_encode(out, &w);                                               \
		cr_assert_eq(stele_written(&w), round_len);                                        \
		cr_assert_eq(memcmp(bytes, again, round_len), 0, #name);                           \
		exact[round_len] = 0;                                                              \
		cr_assert_eq(stele_head_##name##_decode(exact, round_len + 1, out),                \
		             STELE_ERR_PROTOCOL, #name " with a trailing byte");                   \
		for (size_t cut = 0; cut < round_len; cut++) {                                     \
			uint8_t *part = malloc(cut ? cut : 1);                                     \
			memcpy(part, bytes, cut);                                                  \
			cr_assert_eq(stele_head_##name##_decode(part, cut, out),                   \
			             STELE_ERR_PROTOCOL, #name " cut at %zu", cut);                \
			free(part);                                                                \
		}                                                                                  \
		free(exact);                                                                       \
		free(out);                                                                         \
		round_len;                                                                         \
	})

static void golden(size_t len, const char *hex)
{
	char *text = malloc(2 * len + 1);
	cr_assert_str_eq(stele_hex(bytes, len, text), hex);
	free(text);
}

#define H11 "1111111111111111111111111111111111111111111111111111111111111111"
#define H22 "2222222222222222222222222222222222222222222222222222222222222222"
#define H5B "5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b"

Test(ops_format, names)
{
	cr_assert_str_eq(stele_opcode_name(11), "SHARD_PUT");
	cr_assert_str_eq(stele_opcode_name(STELE_OPCODE_CHALLENGE), "CHALLENGE");
	cr_assert_str_eq(stele_opcode_name(0), "?");
	cr_assert_str_eq(stele_opcode_name(65535), "?");
}

Test(ops_format, shard_put)
{
	struct stele_head_shard_put h = {.slot = 1,
	                                 .pool = 2,
	                                 .index = 5,
	                                 .has_ref = true,
	                                 .deposit = hash(0x11),
	                                 .object = hash(0x22),
	                                 .meta = (const uint8_t *)"meta",
	                                 .meta_len = 4};
	golden(ROUND(shard_put, h), "01000200"
	                            "05"
	                            "01" H11 H22 "04000000"
	                            "6d657461");
	h.has_ref = false;
	h.meta_len = 0;
	golden(ROUND(shard_put, h), "01000200"
	                            "05"
	                            "00"
	                            "00000000");
}

Test(ops_format, shard_get)
{
	struct stele_head_shard_get h = {.slot = 1,
	                                 .pool = 2,
	                                 .index = 5,
	                                 .want_meta = true,
	                                 .block = hash(0x11),
	                                 .first_cell = 3,
	                                 .cells = 22};
	size_t len = ROUND(shard_get, h);
	golden(len, "01000200"
	            "05"
	            "01" H11 "03000000"
	            "16000000");
	bytes[5] = 2; /* no such flag */
	cr_assert_eq(stele_head_shard_get_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
	bytes[5] = 1;
	bytes[len - 4] = 254; /* beyond the largest shard */
	cr_assert_eq(stele_head_shard_get_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
	memset(bytes + len - 8, 0xff, 8); /* and in a way that would overflow */
	cr_assert_eq(stele_head_shard_get_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
}

Test(ops_format, ref_add)
{
	uint8_t refs[3 * 96];
	for (size_t i = 0; i < sizeof(refs); i++)
		refs[i] = (uint8_t)(i / 32);
	struct stele_head_ref_add h = {.slot = 1, .pool = 2, .n = 3, .refs = refs};
	size_t len = ROUND(ref_add, h);
	cr_assert_eq(len, 6u + sizeof(refs));
	struct stele_wire_ref ref;
	stele_wire_ref_at(&h, 2, &ref);
	struct stele_hash block = hash(6), deposit = hash(7), object = hash(8);
	cr_assert(stele_hash_equal(&ref.block, &block));
	cr_assert(stele_hash_equal(&ref.deposit, &deposit));
	cr_assert(stele_hash_equal(&ref.object, &object));
	h.n = 0;
	ROUND(ref_add, h);
	stele_put_le16(bytes + 4, STELE_REFS_MAX + 1);
	cr_assert_eq(stele_head_ref_add_decode(bytes, CAP, &h), STELE_ERR_PROTOCOL);
}

Test(ops_format, records_and_marks)
{
	uint8_t text[700];
	memset(text, 'r', sizeof(text));
	struct stele_head_record_put put = {.slot = 9, .record = text, .record_len = sizeof(text)};
	ROUND(record_put, put);
	struct stele_head_record_get get = {.slot = 9, .id = hash(0x11), .after = key(0x22)};
	golden(ROUND(record_get, get), "0900" H11 "0102"
	                               "03"
	                               "22" H22 H5B);
	struct stele_head_mark_add mark = {.slot = 9, .mark = text, .mark_len = 12};
	golden(ROUND(mark_add, mark), "0900"
	                              "0c000000"
	                              "727272727272727272727272");
	struct stele_head_refuse refuse = {.slot = 9, .object = hash(0x11), .deposit = hash(0x22), .look = true};
	golden(ROUND(refuse, refuse), "0900" H11 H22 "01");
	/* a length beyond what an entry may hold, although the bytes are there */
	memset(bytes, 0, CAP);
	stele_put_le32(bytes + 2, STELE_META_MAX + 1);
	cr_assert_eq(stele_head_record_put_decode(bytes, 6 + STELE_META_MAX + 1, &put),
	             STELE_ERR_PROTOCOL);
}

Test(ops_format, lists)
{
	struct stele_head_list h = {.slot = 1,
	                            .pool = 2,
	                            .first = hash(0x11),
	                            .last = hash(0x22),
	                            .kinds = 0x16,
	                            .want_meta = true,
	                            .after = key(0x22),
	                            .max = 1000};
	size_t len = ROUND(list, h);
	golden(len, "01000200" H11 H22 "16000000"
	            "01"
	            "0102"
	            "03"
	            "22" H22 H5B "e8030000");
	bytes[72] = 3; /* neither true nor false */
	cr_assert_eq(stele_head_list_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
	struct stele_head_listed listed = {.n = 7, .more = true};
	golden(ROUND(listed, listed), "0700000001");
	struct stele_head_feed feed = {.slot = 1, .after_lsn = 258, .max = 10, .want_meta = true};
	golden(ROUND(feed, feed), "0100"
	                          "0201000000000000"
	                          "0a000000"
	                          "01");
}

Test(ops_format, listed_items)
{
	struct stele_listed in[3] = {
	    {.key = key(1), .lsn = 5, .data_len = 1u << 20},
	    {.key = key(2), .lsn = 6, .bad = true},
	    {.key = key(3), .lsn = 7, .meta = (const uint8_t *)"some meta", .meta_len = 9},
	};
	struct stele_writer w = stele_writer(bytes, CAP);
	size_t sum = 0;
	for (int i = 0; i < 3; i++) {
		stele_write_listed(&w, &in[i]);
		sum += stele_listed_len(&in[i]);
		cr_assert_eq(stele_written(&w), sum);
	}
	struct stele_reader r = stele_reader(bytes, sum);
	for (int i = 0; i < 3; i++) {
		struct stele_listed out;
		stele_read_listed(&r, &out);
		cr_assert(!r.bad);
		cr_assert_eq(out.key.index, in[i].key.index);
		cr_assert(stele_hash_equal(&out.key.id, &in[i].key.id));
		cr_assert(stele_hash_equal(&out.key.sub, &in[i].key.sub));
		cr_assert_eq(out.lsn, in[i].lsn);
		cr_assert_eq(out.data_len, in[i].data_len);
		cr_assert_eq(out.bad, in[i].bad);
		cr_assert_eq(out.meta_len, in[i].meta_len);
		cr_assert_eq(memcmp(out.meta, in[i].meta ? in[i].meta : out.meta, out.meta_len), 0);
	}
	cr_assert(stele_read_done(&r));
	for (size_t cut = 0; cut < sum; cut++) {
		r = stele_reader(bytes, cut);
		struct stele_listed out;
		for (int i = 0; i < 3; i++)
			stele_read_listed(&r, &out);
		cr_assert(r.bad, "cut at %zu", cut);
	}
}

Test(ops_format, digests)
{
	uint8_t pgs[3 * 4] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0};
	struct stele_head_pg_digest h = {.slot = 1, .pool = 2, .kinds = 6, .n = 3, .pgs = pgs};
	size_t len = ROUND(pg_digest, h);
	golden(len, "01000200"
	            "06000000"
	            "0300"
	            "01000000"
	            "02000000"
	            "00010000");
	bytes[len - 8] = 1; /* twice the same group */
	cr_assert_eq(stele_head_pg_digest_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
	stele_put_le16(bytes + 8, STELE_DIGEST_PGS_MAX + 1);
	cr_assert_eq(stele_head_pg_digest_decode(bytes, CAP, &h), STELE_ERR_PROTOCOL);
	struct stele_wire_digest in = {.digest = hash(0x11), .keys = 3, .bytes = 4}, out;
	struct stele_writer w = stele_writer(bytes, CAP);
	stele_write_digest(&w, &in);
	cr_assert_eq(stele_written(&w), STELE_DIGEST_LEN);
	golden(STELE_DIGEST_LEN, H11 "0300000000000000"
	                             "0400000000000000");
	struct stele_reader r = stele_reader(bytes, STELE_DIGEST_LEN);
	stele_read_digest(&r, &out);
	cr_assert(stele_read_done(&r));
	cr_assert_eq(out.keys, 3);
	cr_assert_eq(out.bytes, 4);
}

Test(ops_format, repair)
{
	struct stele_head_rebuild h = {.slot = 1, .pool = 2, .index = 3, .block = hash(0x11)};
	golden(ROUND(rebuild, h), "01000200"
	                          "03" H11 "00");
	h.nhelpers = 2;
	h.helper[0] = (struct stele_wire_helper){.node = 7, .slot = 8, .index = 9};
	h.helper[1] = (struct stele_wire_helper){.node = 10, .slot = 11, .index = 12};
	golden(ROUND(rebuild, h), "01000200"
	                          "03" H11 "02"
	                          "07000800"
	                          "09"
	                          "0a000b00"
	                          "0c");
	h.nhelpers = STELE_CODE_N_MAX;
	size_t len = ROUND(rebuild, h);
	bytes[42] = STELE_CODE_N_MAX; /* the first helper's shard */
	cr_assert_eq(stele_head_rebuild_decode(bytes, len, &h), STELE_ERR_PROTOCOL);
	bytes[37] = STELE_CODE_N_MAX + 1;
	cr_assert_eq(stele_head_rebuild_decode(bytes, CAP, &h), STELE_ERR_PROTOCOL);
	struct stele_head_keep keep = {
	    .slot = 1, .pool = 2, .index = 3, .block = hash(0x11), .epoch = 513};
	golden(ROUND(keep, keep), "01000200"
	                          "03" H11 "0102000000000000");
	struct stele_head_report_bad bad = {.slot = 1, .key = key(0x22)};
	golden(ROUND(report_bad, bad), "0100"
	                               "0102"
	                               "03"
	                               "22" H22 H5B);
}

Test(ops_format, hello)
{
	struct stele_head_hello in = {
	    .version = 1, .cluster = hash(0x11), .node = 4, .root_epoch = 5, .state_epoch = 6};
	for (int reply = 0; reply < 2; reply++) {
		struct stele_head_hello out;
		struct stele_writer w = stele_writer(bytes, CAP);
		stele_head_hello_encode(&in, reply, &w);
		size_t len = stele_written(&w);
		golden(len, reply ? "01000000"
		                    "04000000"
		                    "0500000000000000"
		                    "0600000000000000"
		                  : "01000000" H11);
		cr_assert_eq(stele_head_hello_decode(bytes, len, reply, &out), STELE_OK);
		cr_assert_eq(out.version, 1);
		cr_assert(reply ? out.node == 4 && out.root_epoch == 5 && out.state_epoch == 6
		                : stele_hash_equal(&out.cluster, &in.cluster));
		for (size_t cut = 0; cut < len; cut++)
			cr_assert_eq(stele_head_hello_decode(bytes, cut, reply, &out),
			             STELE_ERR_PROTOCOL);
		cr_assert_eq(stele_head_hello_decode(bytes, len + 1, reply, &out),
		             STELE_ERR_PROTOCOL);
	}
}

Test(ops_format, ping)
{
	struct stele_head_ping h = {.root_epoch = 1, .state_epoch = 2, .map_hash = hash(0x11)};
	golden(ROUND(ping, h), "0100000000000000"
	                       "0200000000000000" H11 "0000");
	h.ndisks = 64;
	for (uint16_t i = 0; i < 64; i++)
		h.disk[i] = (struct stele_ping_disk){.slot = i,
		                                     .state = 1,
		                                     .uuid = {.b = {1, 2, 3}},
		                                     .incarnation = 4,
		                                     .lsn = 1000u + i,
		                                     .capacity = 1ull << 44,
		                                     .used = i};
	cr_assert_eq(ROUND(ping, h), 50u + 64 * 51);
	stele_put_le16(bytes + 48, 65);
	cr_assert_eq(stele_head_ping_decode(bytes, CAP, &h), STELE_ERR_PROTOCOL);
}

Test(ops_format, ping_tells_what_is_remembered)
{
	struct stele_head_ping_told h = {.n = 1};
	h.disk[0] = (struct stele_ping_told){
	    .slot = 2, .uuid = {.b = {1, 2, 3}}, .incarnation = 4, .lsn = 0x1000};
	golden(ROUND(ping_told, h), "0100"
	                            "0200"
	                            "01020300000000000000000000000000"
	                            "0400000000000000"
	                            "0010000000000000");
	h.n = STELE_PING_DISKS;
	cr_assert_eq(ROUND(ping_told, h), STELE_PING_TOLD_MAX);
	stele_put_le16(bytes, STELE_PING_DISKS + 1);
	cr_assert_eq(stele_head_ping_told_decode(bytes, CAP, &h), STELE_ERR_PROTOCOL);
}
