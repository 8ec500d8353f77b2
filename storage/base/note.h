/*
 * Checkpoints as C2SP signed notes (c2sp.org/tlog-checkpoint, signed-note, tlog-cosignature):
 *
 *   <origin>\n<size>\n<base64 of the root>\n
 *   \n
 *   — <key name> <base64 of key id4 || signature>\n     one or more
 *
 * No extension lines. The log's own key bears the origin as its name: type 0x01, Ed25519 over the
 * text up to the blank line; key id = first 4 bytes of SHA-256(name || "\n" || 0x01 || public key).
 * Cosignatures: type 0x04, time8 (big-endian) || Ed25519 over "cosignature/v1\ntime <t>\n" || text.
 * Reading is strict: what it accepts has one spelling. Pure. Thread: any.
 */
#ifndef STELE_BASE_NOTE_H
#define STELE_BASE_NOTE_H

#include "storage/base/log.h"
#include "storage/base/sign.h"

#define STELE_NOTE_MAX      8192u /* bytes */
#define STELE_NOTE_SIGS_MAX 16u
#define STELE_NOTE_SIG_MAX  (8u + STELE_SIG_LEN) /* of a signature without its key id */

struct stele_checkpoint {
	char origin[STELE_LOG_ORIGIN_MAX]; /* printable, no blank, no '+' */
	uint64_t size;
	struct stele_hash root;
};

struct stele_note_sig {
	char name[STELE_LOG_ORIGIN_MAX];
	uint8_t key_id[4];
	uint8_t bytes[STELE_NOTE_SIG_MAX];
	uint32_t len; /* 64: Ed25519; 72: cosignature/v1 */
};

struct stele_note { /* owns nothing */
	struct stele_checkpoint checkpoint;
	const char *text; /* the signed part, in the bytes it was read from */
	size_t text_len;
	uint32_t nsigs;
	struct stele_note_sig sig[STELE_NOTE_SIGS_MAX];
};

bool stele_origin_ok(const char *origin);
void stele_note_key_id(const char *name, uint8_t type, const struct stele_public_key *key,
                       uint8_t out[4]);

/* Writes a checkpoint signed by the log's key to out (STELE_NOTE_MAX bytes). INVALID: origin, or a
 * size beyond STELE_LOG_SIZE_MAX. */
STELE_MUST_USE enum stele_err stele_note_sign(const struct stele_checkpoint *c,
                                              const struct stele_secret_key *key, char *out,
                                              size_t *len);
/* Appends name's cosignature line to the note of *len bytes in note (STELE_NOTE_MAX bytes).
 * TOO_LARGE, INVALID, CORRUPT (the note). */
STELE_MUST_USE enum stele_err stele_note_cosign(char *note, size_t *len, const char *name,
                                                const struct stele_secret_key *key, uint64_t time);

/* Reads the form; no signature is verified. CORRUPT says what. out->text points into bytes. */
STELE_MUST_USE enum stele_err stele_note_read(const char *bytes, size_t len,
                                              struct stele_note *out);
/* True when one of the note's signatures is the log's own, by this key. */
bool stele_note_signed_by(const struct stele_note *note, const struct stele_public_key *key);
/* True when name cosigned it with this key; *time is when, by its own clock. */
bool stele_note_cosigned_by(const struct stele_note *note, const char *name,
                            const struct stele_public_key *key, uint64_t *time);

#endif
