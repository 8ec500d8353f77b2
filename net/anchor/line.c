/* The codec and the checks of an anchor's line. Chains of lines, and the file, are local.c's. */
#include "net/anchor/line.h"

#include <assert.h>

#include "net/anchor/canon.h"
#include "storage/base/sha256.h"
#include "storage/base/text.h"

#define HEADLINE "stele.dev/anchor/v1"

struct body {
	struct stele_hash cluster, log_id, previous, checkpoint, manifest;
	uint64_t number, time;
};

#define LINE1(name, k, field)                                                                      \
	{                                                                                          \
		name, false, 0,                                                                    \
		{                                                                                  \
			{                                                                          \
				STELE_TEXT_##k, offsetof(struct body, field)                       \
			}                                                                          \
		}                                                                                  \
	}

static const struct stele_text_line body_lines[] = {
    LINE1("cluster", HEX32, cluster),
    LINE1("logid", HEX32, log_id),
    LINE1("number", U64, number),
    LINE1("previous", HEX32, previous),
    LINE1("checkpoint", HEX32, checkpoint),
    LINE1("manifest", OBJECT, manifest),
    LINE1("time", U64, time),
    {0},
};

void stele_anchor_line_body(const struct stele_anchor_line *line, const struct stele_hash *cluster,
                            char *out, size_t *len)
{
	struct stele_writer w = stele_writer(out, STELE_DEPOSIT_MAX);
	struct body b = {
	    .cluster = *cluster,
	    .previous = line->previous,
	    .manifest = line->manifest,
	    .number = line->number,
	    .time = line->time,
	};
	stele_log_id(line->checkpoint.origin, &b.log_id);
	stele_sha256(line->note, line->note_len, &b.checkpoint);
	stele_write_bytes(&w, HEADLINE "\n", strlen(HEADLINE) + 1);
	enum stele_err err = stele_text_write(body_lines, &b, &w);
	assert(!err && !w.bad); /* hashes and numbers always have a text */
	(void)err;
	*len = stele_written(&w);
}

enum stele_err stele_anchor_line_check(const struct stele_anchor_line *line,
                                       const struct stele_anchor_trust *trust)
{
	struct stele_note note;
	char body[STELE_DEPOSIT_MAX];
	size_t len;
	bool noted = false, signed_too = false;
	STELE_TRY(stele_note_read(line->note, line->note_len, &note));
	if (strcmp(note.checkpoint.origin, trust->origin) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "the checkpoint is of the log %s, not %s",
		                  note.checkpoint.origin, trust->origin);
	stele_anchor_line_body(line, &trust->cluster, body, &len);
	for (uint32_t i = 0; i < trust->nkeys; i++) {
		noted = noted || stele_note_signed_by(&note, &trust->key[i]);
		signed_too = signed_too || stele_sig_ok(&trust->key[i], body, len, &line->sig);
	}
	if (!noted)
		return stele_fail(STELE_ERR_CORRUPT, "the log's key did not sign the checkpoint");
	if (!signed_too)
		return stele_fail(STELE_ERR_CORRUPT, "the log's key did not sign the anchor");
	return STELE_OK;
}

static void write_line(struct stele_canon *j, const struct stele_anchor_line *line)
{
	stele_canon_object(j, NULL);
	stele_canon_string(j, "checkpoint", line->note, line->note_len);
	stele_canon_hex(j, "manifest", line->manifest.b, sizeof(line->manifest.b));
	stele_canon_number(j, "number", line->number);
	stele_canon_hex(j, "previous", line->previous.b, sizeof(line->previous.b));
	stele_canon_hex(j, "signature", line->sig.b, sizeof(line->sig.b));
	stele_canon_number(j, "time", line->time);
	stele_canon_close(j, '}');
}

enum stele_err stele_anchor_line_encode(const struct stele_anchor_line *line, char *out,
                                        size_t *len)
{
	struct stele_canon j = {0};
	write_line(&j, line);
	if (j.failed) {
		stele_canon_finish(&j);
		return stele_fail(STELE_ERR_NOMEM, "anchor: no memory for a line");
	}
	assert(j.len < STELE_ANCHOR_LINE_MAX);
	memcpy(out, j.text, j.len);
	out[j.len] = '\n';
	*len = j.len + 1;
	stele_canon_finish(&j);
	return STELE_OK;
}

static enum stele_err read_fields(const json_t *o, struct stele_anchor_line *line)
{
	static const char *const keys[] = {"checkpoint", "manifest", "number", "previous",
	                                   "signature",  "time",     NULL};
	struct stele_note note;
	if (!stele_canon_only(o, keys) ||
	    !stele_canon_get_string(o, "checkpoint", line->note, sizeof(line->note),
	                            &line->note_len) ||
	    !stele_canon_get_hex(o, "manifest", line->manifest.b, sizeof(line->manifest.b)) ||
	    !stele_canon_get_number(o, "number", STELE_CANON_NUMBER_MAX, &line->number) ||
	    !stele_canon_get_hex(o, "previous", line->previous.b, sizeof(line->previous.b)) ||
	    !stele_canon_get_hex(o, "signature", line->sig.b, sizeof(line->sig.b)) ||
	    !stele_canon_get_number(o, "time", STELE_CANON_NUMBER_MAX, &line->time))
		return stele_fail(STELE_ERR_CORRUPT, "a field is missing, unknown or malformed");
	STELE_TRY(stele_note_read(line->note, line->note_len, &note));
	if (note.nsigs != 1)
		return stele_fail(STELE_ERR_CORRUPT, "a checkpoint with %u signatures, not 1",
		                  note.nsigs);
	line->checkpoint = note.checkpoint;
	return STELE_OK;
}

enum stele_err stele_anchor_line_decode(const char *bytes, size_t len,
                                        struct stele_anchor_line *out)
{
	struct stele_canon again = {0};
	json_t *o;
	if (len == 0 || len > STELE_ANCHOR_LINE_MAX || bytes[len - 1] != '\n')
		return stele_fail(STELE_ERR_CORRUPT, "%zu bytes are no line", len);
	STELE_TRY(stele_canon_parse(bytes, len - 1, &o));
	memset(out, 0, sizeof(*out));
	enum stele_err err = read_fields(o, out);
	json_decref(o);
	if (err)
		return err;
	write_line(&again, out);
	if (again.failed)
		err = stele_fail(STELE_ERR_NOMEM, "anchor: no memory for a line");
	else if (!stele_canon_is(&again, bytes, len - 1))
		err = stele_fail(STELE_ERR_CORRUPT, "not in canonical form");
	stele_canon_finish(&again);
	return err;
}
