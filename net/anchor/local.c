/*
 * The file anchors.local: reading and verifying its chain, appending to it. One durable write a
 * line. What a checkpoint commits to, and whether it extends the one before, is the sequencer's to
 * check: it has the tiles.
 */
#include "net/anchor/local.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "net/anchor/canon.h"
#include "storage/base/sha256.h"

#define READ_LEN (1u << 20)
_Static_assert(READ_LEN >= 2 * STELE_ANCHOR_LINE_MAX, "a read holds a whole line");

struct place { /* of a line */
	uint64_t off;
	uint64_t size; /* of its checkpoint */
	uint32_t len;
};

struct stele_anchor_local {
	struct stele_env *env;
	struct stele_anchor_trust trust;
	char path[STELE_PATH_MAX];
	int fd;
	bool write;
	bool torn;
	bool broken;  /* a write failed: what the file holds is not known */
	uint64_t end; /* of the last good line */
	struct place *place;
	size_t n, cap;
	struct stele_hash last_hash; /* of the last line's bytes; zeros when there is none */
	struct stele_hash last_root;
};

/* Leaves under the newest line; 0: there is none. */
static uint64_t last_size(const struct stele_anchor_local *l)
{
	return l->n ? l->place[l->n - 1].size : 0;
}

static enum stele_err remember(struct stele_anchor_local *l, const struct stele_anchor_line *line,
                               const char *bytes, size_t len)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct place *place = realloc(l->place, cap * sizeof(*place));
		if (!place)
			return stele_fail(STELE_ERR_NOMEM, "%s: no memory for its lines", l->path);
		l->place = place;
		l->cap = cap;
	}
	l->place[l->n++] = (struct place){l->end, line->checkpoint.size, (uint32_t)len};
	l->end += len;
	stele_sha256(bytes, len, &l->last_hash);
	l->last_root = line->checkpoint.root;
	return STELE_OK;
}

/* A line read from the file, against the one before it and the keys. */
static enum stele_err take_line(struct stele_anchor_local *l, const char *bytes, size_t len)
{
	struct stele_anchor_line line;
	STELE_TRY(stele_anchor_line_decode(bytes, len, &line));
	if (line.number != l->n)
		return stele_fail(STELE_ERR_CORRUPT, "its number is %" PRIu64, line.number);
	if (!stele_hash_equal(&line.previous, &l->last_hash))
		return stele_fail(STELE_ERR_CORRUPT, "it does not name the line before it");
	if (line.checkpoint.size <= last_size(l))
		return stele_fail(STELE_ERR_CORRUPT, "its log is not larger than before");
	STELE_TRY(stele_anchor_line_check(&line, &l->trust));
	return remember(l, &line, bytes, len);
}

/* Takes the lines of buf[0, have), which is the file from l->end on. whole: it reaches the file's
 * end. *used: the bytes taken. */
static enum stele_err take_lines(struct stele_anchor_local *l, const char *buf, size_t have,
                                 bool whole, size_t *used)
{
	size_t at = 0;
	enum stele_err err = STELE_OK;
	while (at < have && !err && !l->torn) {
		const char *lf = memchr(buf + at, '\n', have - at);
		size_t len = lf ? (size_t)(lf + 1 - (buf + at)) : have - at;
		if (!lf && !whole && len < STELE_ANCHOR_LINE_MAX)
			break; /* the rest of it is not read yet */
		if (len > STELE_ANCHOR_LINE_MAX)
			err = stele_fail(STELE_ERR_CORRUPT, "it is too long");
		else if (whole && at + len == have && (!lf || memchr(buf + at, 0, len)))
			l->torn = true;
		else
			err = take_line(l, buf + at, len);
		if (!err && !l->torn)
			at += len;
	}
	*used = at;
	return err ? stele_wrap(err, "%s: line %zu", l->path, l->n + 1) : STELE_OK;
}

static enum stele_err scan(struct stele_anchor_local *l)
{
	struct stele_stat st;
	STELE_TRY(stele_file_stat(l->env, l->path, &st));
	char *buf = malloc(READ_LEN);
	if (!buf)
		return stele_fail(STELE_ERR_NOMEM, "%s: no memory to read it", l->path);
	enum stele_err err = STELE_OK;
	size_t have = 0, used = 0;
	uint64_t off = 0;
	while (!err && !l->torn && off + have < st.size) {
		size_t more = READ_LEN - have;
		if (more > st.size - off - have)
			more = (size_t)(st.size - off - have);
		err = stele_file_pread(l->env, l->fd, buf + have, more, off + have);
		have += more;
		if (!err)
			err = take_lines(l, buf, have, off + have == st.size, &used);
		memmove(buf, buf + used, have - used);
		have -= used;
		off += used;
		used = 0;
	}
	free(buf);
	return err;
}

static enum stele_err open_file(struct stele_anchor_local *l)
{
	char dir[STELE_PATH_MAX];
	if (!l->write)
		return stele_file_open(l->env, l->path, STELE_OPEN_READ, 0, &l->fd);
	STELE_TRY(
	    stele_file_open(l->env, l->path, STELE_OPEN_WRITE | STELE_OPEN_CREATE, 0644, &l->fd));
	struct stele_op lock = {.kind = STELE_OP_LOCK, .fd = l->fd};
	int64_t got = stele_env_call(l->env, &lock);
	if (got == -EWOULDBLOCK)
		return stele_fail(STELE_ERR_EXISTS, "%s: another process sequences this log",
		                  l->path);
	if (got < 0)
		return stele_fail_errno((int)-got, "%s: lock", l->path);
	memcpy(dir, l->path, sizeof(dir));
	char *slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	return stele_file_sync_dir(l->env, slash ? dir : ".");
}

enum stele_err stele_anchor_local_open(struct stele_env *env, const char *path,
                                       const struct stele_anchor_trust *trust, bool write,
                                       struct stele_anchor_local **out)
{
	size_t len = strlen(path);
	if (len >= STELE_PATH_MAX)
		return stele_fail(STELE_ERR_INVALID, "a path of %zu bytes", len);
	struct stele_anchor_local *l = calloc(1, sizeof(*l));
	if (!l)
		return stele_fail(STELE_ERR_NOMEM, "%s: no memory to open it", path);
	l->env = env;
	l->trust = *trust;
	l->fd = -1;
	l->write = write;
	memcpy(l->path, path, len + 1);
	enum stele_err err = open_file(l);
	if (!err)
		err = scan(l);
	if (err) {
		stele_anchor_local_close(l);
		return err;
	}
	*out = l;
	return STELE_OK;
}

void stele_anchor_local_close(struct stele_anchor_local *l)
{
	if (!l)
		return;
	stele_file_close(l->env, &l->fd);
	free(l->place);
	free(l);
}

uint64_t stele_anchor_local_count(const struct stele_anchor_local *l)
{
	return l->n;
}

enum stele_err stele_anchor_local_line(struct stele_anchor_local *l, uint64_t number,
                                       struct stele_anchor_line *out)
{
	char bytes[STELE_ANCHOR_LINE_MAX];
	if (number >= l->n)
		return stele_fail(STELE_ERR_NOT_FOUND, "%s: has %zu lines", l->path, l->n);
	const struct place *p = &l->place[number];
	STELE_TRY(stele_file_pread(l->env, l->fd, bytes, p->len, p->off));
	enum stele_err err = stele_anchor_line_decode(bytes, p->len, out);
	if (!err)
		err = stele_anchor_line_check(out, &l->trust);
	return err ? stele_wrap(err, "%s: line %" PRIu64, l->path, number + 1) : STELE_OK;
}

enum stele_err stele_anchor_local_covering(struct stele_anchor_local *l, uint64_t index,
                                           struct stele_anchor_line *out)
{
	size_t low = 0, high = l->n; /* the first whose size is beyond index */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (l->place[middle].size > index)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == l->n)
		return stele_fail(STELE_ERR_NOT_FOUND, "leaf %" PRIu64 " is not anchored yet",
		                  index);
	return stele_anchor_local_line(l, low, out);
}

static enum stele_err write_line(struct stele_anchor_local *l, const char *bytes, size_t len)
{
	if (l->torn) {
		struct stele_op cut = {.kind = STELE_OP_TRUNCATE, .fd = l->fd, .len = l->end};
		struct stele_op sync = {.kind = STELE_OP_SYNC, .fd = l->fd};
		int64_t got = stele_env_call(l->env, &cut);
		if (got >= 0)
			got = stele_env_call(l->env, &sync);
		if (got < 0)
			return stele_fail_errno((int)-got, "%s: cutting its torn end", l->path);
		l->torn = false;
	}
	return stele_file_pwrite(l->env, l->fd, bytes, len, l->end, STELE_WRITE_DSYNC);
}

enum stele_err stele_anchor_local_append(struct stele_anchor_local *l,
                                         const struct stele_secret_key *key, const char *note,
                                         size_t note_len, const struct stele_hash *manifest,
                                         uint64_t time, struct stele_anchor_line *out)
{
	struct stele_note read;
	char bytes[STELE_ANCHOR_LINE_MAX], body[STELE_DEPOSIT_MAX];
	size_t len;
	assert(l->write);
	if (l->broken)
		return stele_fail(STELE_ERR_FENCED, "%s: a write failed; open it again", l->path);
	STELE_TRY(stele_note_read(note, note_len, &read));
	if (l->n && read.checkpoint.size == last_size(l) &&
	    stele_hash_equal(&read.checkpoint.root, &l->last_root))
		return stele_anchor_local_line(l, l->n - 1, out);
	if (read.checkpoint.size <= last_size(l))
		return stele_fail(STELE_ERR_REFUSED,
		                  "%s: a checkpoint of %" PRIu64
		                  " leaves cannot follow one of %" PRIu64,
		                  l->path, read.checkpoint.size, last_size(l));
	if (time > STELE_CANON_NUMBER_MAX)
		return stele_fail(STELE_ERR_INVALID, "%s: time %" PRIu64, l->path, time);
	memset(out, 0, sizeof(*out));
	out->number = l->n;
	out->previous = l->last_hash;
	memcpy(out->note, note, note_len);
	out->note_len = note_len;
	out->checkpoint = read.checkpoint;
	out->manifest = *manifest;
	out->time = time;
	stele_anchor_line_body(out, &l->trust.cluster, body, &len);
	stele_sign(key, body, len, &out->sig);
	STELE_TRY(stele_anchor_line_encode(out, bytes, &len));
	STELE_TRY(stele_anchor_line_check(out, &l->trust)); /* nothing that open would refuse */
	enum stele_err err = write_line(l, bytes, len);
	if (!err)
		err = remember(l, out, bytes, len);
	if (err)
		l->broken = true;
	return err;
}
