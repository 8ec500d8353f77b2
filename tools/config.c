/*
 * Reads steled.ini. Judges form and ranges; whether the directories and keys are there is found out
 * by those who open them.
 */
#include "tools/config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/cli.h" /* numbers and sizes as people write them */

#define FILE_MAX_LEN (64u << 10)
#define LINE_MAX_LEN (INI_MAX_LINE - 3) /* libinih cuts longer ones without a word */
#define WORKERS_MAX  64u
#define BUFS_MIN     8u
#define BUFS_MAX     65536u
#define SECONDS_MAX  (365u * 86400u)
#define KEYS_MAX     64u /* lines with a key */

struct parsing {
	struct stele_config *config;
	const char *path;
	int dir_len; /* of path's directory, without the slash; -1: there is none */
	char why[STELE_DETAIL_MAX];
	char seen[KEYS_MAX][64]; /* "section.key" */
	uint32_t nseen;
};

/* libinih's handlers return 0 for an error, and it then knows the line. */
STELE_PRINTF(2, 3) static int refuse(struct parsing *p, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, ap);
	va_end(ap);
	return 0;
}

static int read_number(struct parsing *p, const char *value, uint64_t min, uint64_t max,
                       uint64_t *out)
{
	uint64_t v;
	if (!stele_parse_number(value, &v) || v < min || v > max)
		return refuse(p, "\"%.60s\" is not a number from %llu to %llu", value,
		              (unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 1;
}

static int read_u32(struct parsing *p, const char *value, uint32_t min, uint32_t max, uint32_t *out)
{
	uint64_t v = 0;
	if (!read_number(p, value, min, max, &v))
		return 0;
	*out = (uint32_t)v;
	return 1;
}

static int read_size(struct parsing *p, const char *value, uint64_t min, uint64_t max,
                     uint64_t *out)
{
	char low[STELE_SIZE_TEXT], high[STELE_SIZE_TEXT];
	uint64_t v;
	if (!stele_parse_size(value, &v))
		return refuse(p, "\"%.60s\" is no size such as 64MiB", value);
	if (v < min || v > max)
		return refuse(p, "%.60s is not between %s and %s", value, stele_size_text(min, low),
		              stele_size_text(max, high));
	*out = v;
	return 1;
}

static int read_path(struct parsing *p, const char *value, char out[STELE_PATH_MAX])
{
	int n;
	if (!*value)
		return refuse(p, "is empty");
	if (value[0] == '/' || p->dir_len < 0)
		n = snprintf(out, STELE_PATH_MAX, "%s", value);
	else
		n = snprintf(out, STELE_PATH_MAX, "%.*s/%s", p->dir_len, p->path, value);
	if (n < 0 || n >= (int)STELE_PATH_MAX)
		return refuse(p, "is longer than %u bytes", STELE_PATH_MAX - 1);
	return 1;
}

static int read_node(struct parsing *p, const char *key, const char *value)
{
	struct stele_config *c = p->config;
	uint32_t id;
	if (strcmp(key, "id") == 0) {
		if (!read_u32(p, value, 1, UINT16_MAX, &id))
			return 0;
		c->id = (uint16_t)id;
		return 1;
	}
	if (strcmp(key, "key") == 0)
		return read_path(p, value, c->key);
	if (strcmp(key, "cluster") == 0)
		return read_path(p, value, c->cluster);
	if (strcmp(key, "dir") == 0)
		return read_path(p, value, c->dir);
	if (strcmp(key, "workers") == 0)
		return read_u32(p, value, 1, WORKERS_MAX, &c->workers);
	if (strcmp(key, "buffers") == 0)
		return read_u32(p, value, BUFS_MIN, BUFS_MAX, &c->bufs);
	if (strcmp(key, "listen") == 0) {
		const char *colon = strrchr(value, ':');
		uint64_t port;
		if (!colon || strlen(value) >= STELE_ADDR_MAX ||
		    !stele_parse_number(colon + 1, &port) || port > 65535)
			return refuse(p, "\"%.80s\" is not host:port", value);
		strcpy(c->listen, value);
		return 1;
	}
	return refuse(p, "there is no such key");
}

static int read_store(struct parsing *p, const char *key, const char *value)
{
	struct stele_config *c = p->config;
	if (strcmp(key, "capacity") == 0)
		return read_size(p, value, 2 * STELE_EXTENT_LEN_MIN, UINT64_MAX / 2, &c->capacity);
	if (strcmp(key, "extent_size") != 0)
		return refuse(p, "there is no such key");
	if (!read_size(p, value, STELE_EXTENT_LEN_MIN, STELE_EXTENT_LEN, &c->extent_len))
		return 0;
	if (c->extent_len % STELE_PAGE != 0)
		return refuse(p, "is not a multiple of %u", STELE_PAGE);
	return 1;
}

static int read_upkeep(struct parsing *p, const char *key, const char *value)
{
	uint64_t seconds = 0;
	if (strcmp(key, "heal_seconds") == 0) {
		if (!read_number(p, value, 1, SECONDS_MAX, &seconds))
			return 0;
		p->config->heal_ns = seconds * 1000000000ull;
		return 1;
	}
	if (strcmp(key, "scrub_rate") == 0)
		return read_size(p, value, 1, UINT64_MAX / 2, &p->config->scrub_bytes_per_s);
	return refuse(p, "there is no such key");
}

/* "[disk 3]": the slot by which the map names it. */
static int read_disk(struct parsing *p, const char *number, const char *key, const char *value)
{
	uint64_t slot;
	if (!stele_parse_number(number, &slot) || slot >= STELE_SLOTS_MAX)
		return refuse(p, "the slot is not a number from 0 to %u", STELE_SLOTS_MAX - 1);
	if (strcmp(key, "dir") != 0)
		return refuse(p, "there is no such key");
	p->config->disk_set[slot] = true;
	if (p->config->ndisks <= slot)
		p->config->ndisks = (uint32_t)slot + 1;
	return read_path(p, value, p->config->disk[slot]);
}

static int read_key(struct parsing *p, const char *section, const char *key, const char *value)
{
	if (strcmp(section, "node") == 0)
		return read_node(p, key, value);
	if (strcmp(section, "store") == 0)
		return read_store(p, key, value);
	if (strcmp(section, "upkeep") == 0)
		return read_upkeep(p, key, value);
	if (strncmp(section, "disk ", 5) == 0)
		return read_disk(p, section + 5, key, value);
	return refuse(p, "there is no such section");
}

static int once(struct parsing *p, const char *section, const char *key)
{
	char name[sizeof(p->seen[0])];
	snprintf(name, sizeof(name), "%s.%s", section, key);
	for (uint32_t i = 0; i < p->nseen; i++)
		if (strcmp(p->seen[i], name) == 0)
			return refuse(p, "is given twice");
	if (p->nseen == KEYS_MAX)
		return refuse(p, "there are more than %u keys", KEYS_MAX);
	strcpy(p->seen[p->nseen++], name);
	return 1;
}

static int handle(void *user, const char *section, const char *key, const char *value)
{
	struct parsing *p = user;
	char why[STELE_DETAIL_MAX];
	if (*p->why) /* libinih goes on after an error; the first one counts */
		return 0;
	if (once(p, section, key) && read_key(p, section, key, value))
		return 1;
	strcpy(why, p->why);
	snprintf(p->why, sizeof(p->why), "[%.40s] %.40s: %.400s", section, key, why);
	return 0;
}

/* What libinih would misread silently. */
static enum stele_err check_lines(const char *path, const char *text, size_t len)
{
	uint32_t line = 1;
	size_t start = 0;
	for (size_t i = 0; i <= len; i++) {
		if (i < len && text[i] == '\0')
			return stele_fail(STELE_ERR_USAGE, "%s: line %u: a zero byte", path, line);
		if (i < len && text[i] != '\n')
			continue;
		if (i - start > LINE_MAX_LEN)
			return stele_fail(STELE_ERR_USAGE,
			                  "%s: line %u: longer than %u bytes: use a shorter path, "
			                  "or one relative to this file",
			                  path, line, (unsigned)LINE_MAX_LEN);
		line++;
		start = i + 1;
	}
	return STELE_OK;
}

static enum stele_err check_whole(const char *path, const struct stele_config *c)
{
	const char *missing = !c->id           ? "[node] id"
	                      : !c->key[0]     ? "[node] key"
	                      : !c->cluster[0] ? "[node] cluster"
	                      : c->ndisks == 0 ? "[disk 0] dir"
	                                       : NULL;
	if (missing)
		return stele_fail(STELE_ERR_USAGE, "%s: %s is missing: see steled.ini.example",
		                  path, missing);
	for (uint32_t i = 0; i < c->ndisks; i++)
		for (uint32_t k = 0; k < i; k++)
			if (c->disk_set[i] && c->disk_set[k] && strcmp(c->disk[i], c->disk[k]) == 0)
				return stele_fail(
				    STELE_ERR_USAGE,
				    "%s: [disk %u] and [disk %u] are the same directory", path, k,
				    i);
	return STELE_OK;
}

static enum stele_err parse(struct parsing *p, const char *text)
{
	int line = ini_parse_string(text, handle, p);
	if (line < 0)
		return stele_fail(STELE_ERR_NOMEM, "%s: out of memory", p->path);
	if (line > 0)
		return stele_fail(STELE_ERR_USAGE, "%s: line %d: %s", p->path, line,
		                  *p->why ? p->why : "neither [section] nor key = value");
	return check_whole(p->path, p->config);
}

enum stele_err stele_config_parse(const char *path, const char *text, size_t len,
                                  struct stele_config *out)
{
	const char *slash = strrchr(path, '/');
	if (len > FILE_MAX_LEN)
		return stele_fail(STELE_ERR_USAGE, "%s: longer than %u bytes", path, FILE_MAX_LEN);
	STELE_TRY(check_lines(path, text, len));
	struct parsing *p = calloc(1, sizeof(*p));
	char *copy = malloc(len + 1); /* libinih wants it NUL-terminated */
	enum stele_err err = STELE_OK;
	if (!p || !copy) {
		err = stele_fail(STELE_ERR_NOMEM, "%s: out of memory", path);
		goto out;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	memset(out, 0, sizeof(*out));
	p->config = out;
	p->path = path;
	p->dir_len = slash ? (int)(slash - path) : -1;
	snprintf(out->dir, sizeof(out->dir), "%.*s", slash ? p->dir_len : 1, slash ? path : ".");
	err = parse(p, copy);
out:
	free(p);
	free(copy);
	return err;
}

enum stele_err stele_config_load(const char *path, struct stele_config *out)
{
	char *text = malloc(FILE_MAX_LEN + 1);
	FILE *f = fopen(path, "re");
	size_t len = 0;
	enum stele_err err = STELE_OK;
	if (!text)
		err = stele_fail(STELE_ERR_NOMEM, "%s: out of memory", path);
	else if (!f)
		err = stele_fail(STELE_ERR_USAGE, "%s: %s", path, strerror(errno));
	if (!err) {
		len = fread(text, 1, FILE_MAX_LEN + 1, f);
		if (ferror(f))
			err = stele_fail(STELE_ERR_USAGE, "%s: %s", path, strerror(errno));
	}
	if (f)
		fclose(f);
	if (!err)
		err = stele_config_parse(path, text, len, out);
	free(text);
	return err;
}
