/* The head in a file. One process at a time: compare-and-set is read, compare, replace. */
#include "net/anchor/head.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "storage/base/text.h"

#define HEADLINE "stele.dev/head/v1"
#define TEXT_MAX 512u

struct body {
	struct stele_hash cluster, log_id;
	struct stele_log_head head;
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

static const struct stele_text_line lines[] = {
    LINE1("cluster", HEX32, cluster),
    LINE1("logid", HEX32, log_id),
    LINE1("size", U64, head.size),
    LINE1("root", HEX32, head.root),
    LINE1("manifest", OBJECT, head.manifest),
    {0},
};

static enum stele_err decode(const char *text, size_t len, struct body *out)
{
	struct stele_reader r = stele_reader(text, len);
	unsigned line = 0;
	memset(out, 0, sizeof(*out));
	STELE_TRY(stele_text_expect(&r, &line, HEADLINE));
	STELE_TRY(stele_text_read(lines, &r, &line, out));
	return stele_text_end(&r, line);
}

enum stele_err stele_log_head_load(struct stele_env *env, const char *path,
                                   const struct stele_hash *cluster,
                                   const struct stele_hash *log_id, struct stele_log_head *out)
{
	struct body b;
	char *text;
	size_t len;
	STELE_TRY(stele_file_load(env, path, TEXT_MAX, &text, &len));
	enum stele_err err = decode(text, len, &b);
	free(text);
	if (err)
		return stele_wrap(err, "%s", path);
	if (!stele_hash_equal(&b.cluster, cluster) || !stele_hash_equal(&b.log_id, log_id))
		return stele_fail(STELE_ERR_CORRUPT, "%s: the head of another cluster or log",
		                  path);
	*out = b.head;
	return STELE_OK;
}

enum stele_err stele_log_head_move(struct stele_env *env, const char *path,
                                   const struct stele_hash *cluster,
                                   const struct stele_hash *log_id,
                                   const struct stele_log_head *from,
                                   const struct stele_log_head *to)
{
	struct stele_log_head now = {0};
	struct body b = {.cluster = *cluster, .log_id = *log_id, .head = *to};
	char text[TEXT_MAX];
	struct stele_writer w = stele_writer(text, sizeof(text));
	enum stele_err err = stele_log_head_load(env, path, cluster, log_id, &now);
	if (err && err != STELE_ERR_NOT_FOUND)
		return err;
	if (now.size != from->size || !stele_hash_equal(&now.root, &from->root))
		return stele_fail(STELE_ERR_STALE,
		                  "%s: the head is at %" PRIu64 " leaves, not %" PRIu64, path,
		                  now.size, from->size);
	stele_write_bytes(&w, HEADLINE "\n", strlen(HEADLINE) + 1);
	err = stele_text_write(lines, &b, &w);
	assert(!err && !w.bad); /* hashes and a number always have a text */
	return stele_file_save(env, path, text, stele_written(&w), 0644);
}
