/*
 * Many SHA-256 messages at once: hands messages, and an object's stream, to the lanes of the kernel
 * in use. Nothing allocates; message bytes are read where they lie, only the edges are copied.
 *
 * A message in a lane is a few runs of blocks: a first block that holds the leaf prefix 0x00 and 63
 * bytes, or the stream's held-back bytes; then the body, straight from the caller's memory; then
 * the padded end. All lanes that run take as many blocks as the shortest run among them has.
 */
#include <assert.h>

#include "storage/base/sha256_kernel.h"

#define BLOCK STELE_SHA256_BLOCK

/* What a lane works on: `p` and `blocks` are its current run; when that is done, `stage` says what
 * comes next. */
struct lane {
	uint32_t h[8];
	const uint8_t *p;
	size_t blocks;
	enum { IDLE, HEAD, BODY, END } stage;
	const uint8_t *rest; /* not yet in a run */
	size_t left;
	uint64_t total;                     /* of the message, its prefix included */
	struct stele_hash *out;             /* of a message */
	struct stele_sha256_stream *stream; /* or the stream that it feeds */
	uint8_t edge[2 * BLOCK];
};

struct crew {
	const struct stele_sha256_kernel *kernel;
	struct stele_sha256_source *source;
	bool leaf;                           /* 0x00 goes before each of the source's messages */
	bool more;                           /* the source may have another one */
	uint64_t stream_left, messages_left; /* blocks, the latter by the source's own account */
	bool pairs;                          /* no more than two lanes from here on */
	struct lane lane[STELE_SHA256_LANES_MAX];
};

/* Runs of a lane */

static void run_body(struct lane *l)
{
	l->stage = BODY;
	l->p = l->rest;
	l->blocks = l->left / BLOCK;
	l->rest += l->blocks * BLOCK;
	l->left %= BLOCK;
}

/* The first block is `held` bytes that lie in the edge already, and the message's first ones. */
static void run_head(struct lane *l, size_t held)
{
	memcpy(l->edge + held, l->rest, BLOCK - held);
	l->stage = HEAD;
	l->p = l->edge;
	l->blocks = 1;
	l->rest += BLOCK - held;
	l->left -= BLOCK - held;
}

static void start_stream(struct lane *l, struct stele_sha256_stream *s, const void *data,
                         size_t len)
{
	size_t held = s->total % BLOCK;
	memcpy(l->h, s->h, sizeof(l->h));
	l->stream = s;
	l->rest = data;
	l->left = len;
	l->total = s->total + len;
	memcpy(l->edge, s->block, held);
	if (held && held + len >= BLOCK)
		run_head(l, held);
	else if (held) /* not even one block: the bytes wait in the stream */
		l->stage = BODY, l->blocks = 0;
	else
		run_body(l);
}

static void start_message(struct lane *l, const struct stele_sha256_message *m, bool leaf)
{
	memcpy(l->h, stele_sha256_initial, sizeof(l->h));
	l->stream = NULL;
	l->out = m->out;
	l->rest = m->data;
	l->left = m->len;
	l->total = (uint64_t)m->len + leaf;
	l->edge[0] = 0x00;
	if (leaf && m->len >= BLOCK - 1)
		run_head(l, 1);
	else if (leaf) /* prefix and all go into the end */
		l->stage = BODY, l->blocks = 0;
	else
		run_body(l);
}

static void run_end(struct lane *l)
{
	size_t held = l->total % BLOCK;
	size_t prefix = held - l->left; /* 1 where a short leaf's prefix was not hashed yet */
	assert(prefix <= 1);
	l->edge[0] = 0x00;
	if (l->left)
		memcpy(l->edge + prefix, l->rest, l->left);
	l->stage = END;
	l->p = l->edge;
	l->blocks = stele_sha256_pad(l->edge, held, l->total);
}

static void finish_stream(struct lane *l)
{
	struct stele_sha256_stream *s = l->stream;
	size_t held = l->total % BLOCK;
	memcpy(s->h, l->h, sizeof(s->h));
	if (l->left)
		memcpy(s->block + held - l->left, l->rest, l->left);
	s->total = l->total;
	l->stage = IDLE;
}

/* Moves a lane whose run is over to its next run, or to IDLE when its message is done. */
static void advance(struct lane *l)
{
	while (l->stage != IDLE && l->blocks == 0) {
		if (l->stage == HEAD) {
			run_body(l);
		} else if (l->stage == BODY && l->stream) {
			finish_stream(l);
		} else if (l->stage == BODY) {
			run_end(l);
		} else {
			stele_sha256_output(l->h, l->out);
			l->stage = IDLE;
		}
	}
}

/* The crew */

#define CELL_BLOCKS (STELE_CELL_LEN / BLOCK)

/*
 * How many lanes to run. Beside a stream, only as many as let it end together with the messages: a
 * stream left over runs alone, at half the speed. For the same reason the last four cells go over
 * three lanes two by two. Else all of them.
 */
static unsigned width(struct crew *c)
{
	unsigned lanes = c->kernel->lanes;
	if (lanes < 3)
		return lanes;
	if (c->stream_left)
		return c->messages_left <= c->stream_left ? 2 : lanes;
	bool idle = true;
	for (unsigned i = 0; i < lanes; i++)
		idle &= c->lane[i].stage == IDLE;
	if (idle && lanes == 3)
		c->pairs = (c->messages_left + CELL_BLOCKS / 2) / CELL_BLOCKS == 4;
	return c->pairs ? 2 : lanes;
}

/* Gives a lane its next message, if it has none and there are more. */
static void refill(struct crew *c, struct lane *l)
{
	struct stele_sha256_message m;
	while (l->stage == IDLE && c->more) {
		c->more = c->source->next(c->source, &m);
		if (c->more) {
			start_message(l, &m, c->leaf);
			advance(l);
		}
	}
}

static uint64_t less(uint64_t from, uint64_t by)
{
	return from > by ? from - by : 0;
}

/* One run of up to `width` lanes, the stream's among them. False: everything is done. */
static bool step(struct crew *c)
{
	uint32_t *h[STELE_SHA256_LANES_MAX];
	const uint8_t *p[STELE_SHA256_LANES_MAX];
	struct lane *busy[STELE_SHA256_LANES_MAX];
	unsigned n = 0, most = width(c);
	size_t blocks = SIZE_MAX;
	for (unsigned i = 0; i < c->kernel->lanes && n < most; i++) {
		struct lane *l = &c->lane[i];
		refill(c, l);
		if (l->stage == IDLE)
			continue;
		h[n] = l->h;
		p[n] = l->p;
		busy[n++] = l;
		blocks = l->blocks < blocks ? l->blocks : blocks;
	}
	if (!n)
		return false;
	c->kernel->run(n, h, p, blocks);
	for (unsigned i = 0; i < n; i++) {
		if (busy[i]->stream)
			c->stream_left = less(c->stream_left, blocks);
		else
			c->messages_left = less(c->messages_left, blocks);
		busy[i]->p += blocks * BLOCK;
		busy[i]->blocks -= blocks;
		advance(busy[i]);
	}
	return true;
}

static void run_all(struct stele_sha256_source *source, bool leaf, const void *data, size_t len,
                    struct stele_sha256_stream *object)
{
	struct crew c = {.kernel = stele_sha256_current(),
	                 .source = source,
	                 .leaf = leaf,
	                 .more = true,
	                 .messages_left = source->bytes / BLOCK};
	if (object && len && c.kernel->stream_apart) {
		stele_sha256_update(object, data, len);
	} else if (object && len) {
		c.stream_left = len / BLOCK;
		start_stream(&c.lane[0], object, data, len);
		advance(&c.lane[0]);
	}
	while (step(&c))
		;
}

void stele_sha256_leaves_and_stream(struct stele_sha256_source *leaves, const void *data,
                                    size_t len, struct stele_sha256_stream *object)
{
	run_all(leaves, true, data, len, object);
}

struct cell_source {
	struct stele_sha256_source base;
	const uint8_t *p;
	size_t left;
	struct stele_hash *leaf;
};

static bool next_cell(struct stele_sha256_source *source, struct stele_sha256_message *out)
{
	struct cell_source *c = (struct cell_source *)source;
	if (!c->left)
		return false;
	out->data = c->p;
	out->len = c->left < STELE_CELL_LEN ? c->left : STELE_CELL_LEN;
	out->out = c->leaf++;
	c->p += out->len;
	c->left -= out->len;
	return true;
}

void stele_sha256_cells_and_stream(const void *data, size_t len, struct stele_hash *leaf,
                                   struct stele_sha256_stream *object)
{
	struct cell_source cells = {
	    .base = {.next = next_cell, .bytes = len}, .p = data, .left = len, .leaf = leaf};
	run_all(&cells.base, true, data, len, object);
}

void stele_sha256_cells(const void *data, size_t len, struct stele_hash *leaf)
{
	stele_sha256_cells_and_stream(data, len, leaf, NULL);
}

struct list_source {
	struct stele_sha256_source base;
	const struct stele_sha256_message *next;
	size_t left;
};

static bool next_listed(struct stele_sha256_source *source, struct stele_sha256_message *out)
{
	struct list_source *list = (struct list_source *)source;
	if (!list->left)
		return false;
	*out = *list->next++;
	list->left--;
	return true;
}

void stele_sha256_many(const struct stele_sha256_message *messages, size_t n)
{
	struct list_source list = {.base = {.next = next_listed}, .next = messages, .left = n};
	run_all(&list.base, false, NULL, 0, NULL);
}
