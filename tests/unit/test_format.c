/* Goal: detection reads nothing outside the bytes given and takes no noise for a ledger;
 * whatever length a file claims, a parser holds what came and no more than its stated limit;
 * formats without a parser say so. */
#include <malloc.h>

#include "tests/unit/evm_fixture.h"
#include "tests/unit/fabric_fixture.h"
#include "tests/unit/fisco_fixture.h"
#include "tests/unit/ledger_fixture.h"
#include "tests/unit/mined.h"

static struct blob sample(enum stele_format format)
{
	struct evm_block *b = evm_chain_make(0, 3, false);
	struct blob out = {0}, mined = mined_file((struct stele_miner_opts){.seed = 1}, 3);
	switch ((int)format) {
	case STELE_FORMAT_BITCOIN_BLK:
		blob_add(&out, mined.p, mined.len);
		break;
	case STELE_FORMAT_BITCOIN_RAW:
		blob_add(&out, mined.p + 8, stele_le32(mined.p + 4));
		break;
	case STELE_FORMAT_ERA1:
		out = era1_make(b, 0, 3, 0);
		break;
	case STELE_FORMAT_RLP:
		out = evm_block_rlp(&b[0]);
		break;
	case STELE_FORMAT_FABRIC:
		out = fabric_file("ch", 0, 3);
		break;
	case STELE_FORMAT_FISCO:
		out = fisco_file(0, 3, false, FISCO_USER_BITS);
		break;
	}
	blob_free(&mined);
	evm_chain_free(b, 3);
	return out;
}

static const enum stele_format made[] = {STELE_FORMAT_BITCOIN_BLK, STELE_FORMAT_BITCOIN_RAW,
                                         STELE_FORMAT_ERA1,        STELE_FORMAT_RLP,
                                         STELE_FORMAT_FABRIC,      STELE_FORMAT_FISCO};
#define MADE (sizeof(made) / sizeof(made[0]))

Test(format, samples_are_detected_and_cut_ones_harm_nothing)
{
	struct guard g = guard_create(STELE_DETECT_LEN);
	for (size_t i = 0; i < MADE; i++) {
		struct blob b = sample(made[i]);
		size_t len = b.len < STELE_DETECT_LEN ? b.len : STELE_DETECT_LEN;
		cr_assert_eq(stele_format_detect(b.p, len, "any name", NULL), made[i], "%s",
		             stele_format_name(made[i]));
		cr_assert(stele_format_supported(made[i]));
		for (size_t cut = 0; cut <= len; cut++) {
			uint8_t *p = guard_end(&g, cut);
			memcpy(p, b.p, cut);
			enum stele_format f = stele_format_detect(p, cut, NULL, NULL);
			cr_assert(f == made[i] || f == STELE_FORMAT_UNKNOWN);
		}
		blob_free(&b);
	}
	guard_destroy(&g);
}

Test(format, noise_and_everyday_files_are_no_ledgers)
{
	uint64_t random = 31;
	uint8_t bytes[512];
	for (int i = 0; i < 200000; i++) {
		guard_fill(&random, bytes, 1 + i % 300);
		cr_assert_eq(stele_format_detect(bytes, 1 + i % 300, NULL, NULL),
		             STELE_FORMAT_UNKNOWN);
	}
	static const char *const everyday[] = {
	    "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>",
	    "PK\x03\x04\x14",
	    "\x89PNG\r\n\x1a\n",
	    "{\"a\": 1}",
	    "GIF89a",
	    "ID3\x03",
	    "\x7f"
	    "ELF\x02\x01\x01"};
	for (size_t i = 0; i < sizeof(everyday) / sizeof(everyday[0]); i++)
		cr_assert_eq(stele_format_detect(everyday[i], strlen(everyday[i]), "x.era1", NULL),
		             STELE_FORMAT_UNKNOWN);
	memset(bytes, 0, sizeof(bytes));
	cr_assert_eq(stele_format_detect(bytes, sizeof(bytes), NULL, NULL), STELE_FORMAT_UNKNOWN);
}

Test(format, formats_without_a_parser_say_so)
{
	static const enum stele_format none[] = {STELE_FORMAT_UNKNOWN,      STELE_FORMAT_ERE,
	                                         STELE_FORMAT_GETH_FREEZER, STELE_FORMAT_CHAINMAKER,
	                                         STELE_FORMAT_ERA,          (enum stele_format)200};
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct stele_parser_opts opts = {.format = none[i], .on_block = seen_block};
		struct stele_parser *p;
		cr_assert_not(stele_format_supported(none[i]));
		cr_assert_eq(stele_parser_create(&opts, &p), STELE_ERR_INVALID);
		cr_assert(strstr(stele_detail(), stele_format_name(none[i])));
	}
	cr_assert_str_eq(stele_level_name(STELE_LEVEL_BOUND), "bound");
	cr_assert_str_eq(stele_level_name(STELE_LEVEL_LINKED), "linked");
}

static size_t allocated(void)
{
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

/* The front of a file that says the longest thing that its format lets it say, and then only
 * bytes. */
static struct blob longest(enum stele_format format)
{
	struct blob b = {0};
	switch ((int)format) {
	case STELE_FORMAT_BITCOIN_BLK:
		b = blob_copy("\xfa\xbf\xb5\xda\x00\x09\x3d\x00", 8); /* 4,000,000 */
		break;
	case STELE_FORMAT_ERA1: {
		struct evm_block *chain = evm_chain_make(0, 1, false);
		struct blob file = era1_make(chain, 0, 1, 0);
		size_t body = 16 + stele_le32(file.p + 10);
		b = blob_copy(file.p, body);
		blob_add(&b, "\x04\x00\x00\x00\x40\x02\x00\x00", 8); /* 36 MiB of body */
		blob_free(&file);
		evm_chain_free(chain, 1);
		break;
	}
	case STELE_FORMAT_RLP:
		b = blob_copy("\xfa\xff\xff\xff", 4);
		break;
	case STELE_FORMAT_FABRIC:
		b = blob_copy("\xff\xff\xff\x1f", 4);
		break;
	case STELE_FORMAT_FISCO:
		b = blob_copy("\0\0\0\1\x03\xff\xff\xff", 8);
		break;
	}
	return b;
}

Test(format, memory_follows_the_bytes_that_came)
{
	uint8_t *piece = malloc(1 << 20);
	uint64_t random = 17;
	guard_fill(&random, piece, 1 << 20);
	for (size_t i = 0; i < MADE; i++) {
		struct blob b = longest(made[i]);
		struct seen s = {0};
		struct stele_parser_opts opts = {.format = made[i],
		                                 .want_tx_ids = true,
		                                 .on_block = seen_block,
		                                 .on_gap = seen_gap,
		                                 .ctx = &s};
		struct stele_parser *p;
		size_t before = allocated(), most = 0, fed = b.len;
		cr_assert_eq(stele_parser_create(&opts, &p), STELE_OK);
		size_t idle = allocated() - before;
		enum stele_err err = stele_parser_feed(p, b.p, b.len);
		cr_assert_eq(err, STELE_OK, "%s", stele_detail());
		while (err == STELE_OK && fed < 80u << 20) {
			err = stele_parser_feed(p, piece, 1 << 20);
			fed += 1 << 20;
			size_t now = allocated() - before;
			most = now > most ? now : most;
			cr_assert_leq(now, idle + 2 * fed + (4u << 20), "%s after %zu bytes",
			              stele_format_name(made[i]), fed);
		}
		cr_assert_eq(err, STELE_ERR_CORRUPT, "%s", stele_format_name(made[i]));
		cr_assert_leq(most, (size_t)STELE_PARSER_MEMORY_MAX, "%s",
		              stele_format_name(made[i]));
		stele_parser_destroy(p);
		seen_free(&s);
		blob_free(&b);
	}
	free(piece);
}
