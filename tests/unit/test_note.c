/* Goal: a checkpoint is C2SP's signed note to the byte, has one spelling, and says nothing that the
 * keys did not sign. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "storage/base/note.h"
#include "tests/unit/guard.h"

static struct stele_secret_key key_of(uint8_t first)
{
	struct stele_secret_key key;
	uint8_t seed[32] = {first};
	stele_key_from_seed(&key, seed);
	return key;
}

static struct stele_checkpoint example(void)
{
	struct stele_checkpoint c = {.origin = "example.org/0123456789abcdef0123456789abcdef",
	                             .size = 20852163};
	for (unsigned i = 0; i < 32; i++)
		c.root.b[i] = (uint8_t)(7 * i);
	return c;
}

/* Made with openssl pkeyutl (seed 01 00 ... 00), sha256sum and base64. */
static const char golden[] =
    "example.org/0123456789abcdef0123456789abcdef\n"
    "20852163\n"
    "AAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vcTL0tk=\n"
    "\n"
    "\u2014 example.org/0123456789abcdef0123456789abcdef "
    "ixJztueNTfo2PH3OGOdIr/pw/"
    "2M31pdu+6CQ8VSPOpQVnPnQYNLHEN1uhC2YL9gmBfooGsNY2iePEidKWQMoIuuhWQc=\n";

Test(note, golden)
{
	struct stele_secret_key key = key_of(1);
	struct stele_checkpoint c = example();
	char note[STELE_NOTE_MAX];
	size_t len;
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_OK);
	cr_assert_eq(len, strlen(golden), "%.*s", (int)len, note);
	cr_assert_arr_eq(note, golden, len);
}

Test(note, known_key_id)
{
	/* PeterNeumann's key of the Go package note's documentation: "PeterNeumann+c74f20a3+
	 * ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW" */
	struct stele_public_key key;
	uint8_t id[4];
	cr_assert(stele_unhex("1a5cd907143c384c41e830c5bce12aa8817ec5649aaabf2c31388b35b2d744d6",
	                      64, key.b, 32, true));
	stele_note_key_id("PeterNeumann", 1, &key, id);
	cr_assert_arr_eq(id, "\xc7\x4f\x20\xa3", 4);
}

Test(note, round_trip_and_trust)
{
	struct stele_secret_key key = key_of(1), other = key_of(2);
	struct stele_checkpoint c = example();
	struct stele_note read;
	char note[STELE_NOTE_MAX];
	size_t len;
	static const uint64_t sizes[] = {0, 1, 9, 10, STELE_LOG_SIZE_MAX};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		c.size = sizes[i];
		cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_OK);
		cr_assert_eq(stele_note_read(note, len, &read), STELE_OK, "%s", stele_detail());
		cr_assert_str_eq(read.checkpoint.origin, c.origin);
		cr_assert_eq(read.checkpoint.size, c.size);
		cr_assert(stele_hash_equal(&read.checkpoint.root, &c.root));
		cr_assert_eq(read.nsigs, 1u);
		cr_assert(stele_note_signed_by(&read, &key.pub));
		cr_assert(!stele_note_signed_by(&read, &other.pub));
	}
	c.size = STELE_LOG_SIZE_MAX + 1;
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_ERR_INVALID);
	c = example();
	strcpy(c.origin, "a b");
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_ERR_INVALID);
	strcpy(c.origin, "a+b");
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_ERR_INVALID);
	c.origin[0] = '\0';
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_ERR_INVALID);
	memset(c.origin, 'x', sizeof(c.origin));
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_ERR_INVALID);
}

Test(note, every_changed_byte_is_refused_or_unsigned)
{
	struct stele_secret_key key = key_of(1);
	struct stele_checkpoint c = example();
	struct stele_note read;
	char note[STELE_NOTE_MAX];
	size_t len;
	unsigned forms = 0;
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_OK);
	for (size_t i = 0; i < len; i++)
		for (unsigned v = 1; v < 256; v++) {
			note[i] = (char)(note[i] ^ (int)v);
			if (stele_note_read(note, len, &read) == STELE_OK) {
				forms++;
				cr_assert(!stele_note_signed_by(&read, &key.pub),
				          "byte %zu ^ %u still signed", i, v);
			}
			note[i] = (char)(note[i] ^ (int)v);
		}
	cr_assert_gt(forms, 1000u);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_eq(stele_note_read(note, cut, &read), STELE_ERR_CORRUPT);
}

static void refused(const char *from, const char *to)
{
	char text[2 * STELE_NOTE_MAX];
	struct stele_note read;
	const char *at = strstr(golden, from);
	cr_assert_not_null(at, "%s", from);
	int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - golden), golden, to,
	                   at + strlen(from));
	cr_assert_eq(stele_note_read(text, (size_t)len, &read), STELE_ERR_CORRUPT, "%s", text);
}

Test(note, other_spellings_are_refused)
{
	refused("20852163", "020852163");
	refused("20852163", "+20852163");
	refused("20852163", "9007199254740992");
	refused("20852163\n", "20852163\r\n");
	refused("=\n\n", "=\nextension\n\n"); /* no extension lines */
	refused("=\n\n", "=\n");
	refused("=\n\n", "\n\n");
	refused("=\n\n", "==\n\n");
	refused("\u2014 ", "- ");
	refused("\u2014 ", "\u2014  ");
	refused("example.org/0", "example org/0");
	refused("example.org/0", "example+org/0");
	refused("example.org/0", "\u00e9xample.org/0");
}

Test(note, base64_has_one_spelling)
{
	/* the root's last digit carries four bits and two that must be zero */
	struct stele_checkpoint c = example();
	struct stele_secret_key key = key_of(1);
	struct stele_note read;
	char note[STELE_NOTE_MAX];
	size_t len;
	unsigned accepted = 0;
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_OK);
	char *pad = strstr(note, "=\n\n");
	cr_assert_not_null(pad);
	for (int v = 1; v < 128; v++) {
		pad[-1] = (char)v;
		accepted += stele_note_read(note, len, &read) == STELE_OK;
	}
	cr_assert_eq(accepted, 16u);
}

Test(note, cosignatures)
{
	struct stele_secret_key key = key_of(1), node = key_of(3), other = key_of(4);
	struct stele_checkpoint c = example();
	struct stele_note read;
	char note[STELE_NOTE_MAX];
	size_t len;
	uint64_t time = 0;
	cr_assert_eq(stele_note_sign(&c, &key, note, &len), STELE_OK);
	cr_assert_eq(stele_note_cosign(note, &len, "node-1", &node, 1759680000), STELE_OK);
	cr_assert_eq(stele_note_read(note, len, &read), STELE_OK, "%s", stele_detail());
	cr_assert_eq(read.nsigs, 2u);
	cr_assert_eq(read.sig[1].len, 72u);
	cr_assert(stele_note_signed_by(&read, &key.pub));
	cr_assert(stele_note_cosigned_by(&read, "node-1", &node.pub, &time));
	cr_assert_eq(time, 1759680000u);
	cr_assert(!stele_note_cosigned_by(&read, "node-2", &node.pub, &time));
	cr_assert(!stele_note_cosigned_by(&read, "node-1", &other.pub, &time));
	/* a log's signature is no cosignature, nor the other way round */
	cr_assert(!stele_note_cosigned_by(&read, c.origin, &key.pub, &time));
	cr_assert(!stele_note_signed_by(&read, &node.pub));
	/* the time is signed */
	uint8_t *stamp = &read.sig[1].bytes[7];
	*stamp ^= 1;
	cr_assert(!stele_note_cosigned_by(&read, "node-1", &node.pub, &time));
	for (unsigned i = 2; i < STELE_NOTE_SIGS_MAX; i++)
		cr_assert_eq(stele_note_cosign(note, &len, "node-x", &other, i), STELE_OK);
	cr_assert_eq(stele_note_cosign(note, &len, "node-y", &other, 1), STELE_ERR_TOO_LARGE);
}
