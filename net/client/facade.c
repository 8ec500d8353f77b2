/*
 * libstele's handle, put, get, find, mark and ls: each starts a request of the session and runs the loop until it is over.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/client/facade_private.h"
#include "net/cluster/keys.h"

#define CLUSTER_DEFAULT "/etc/stele/cluster.json"

/* ---- the handle ---- */

const char *stele_cluster_file(const char *given, bool *named)
{
	const char *env = getenv("STELE_CLUSTER");
	if (!given && env && *env)
		given = env;
	if (named)
		*named = given != NULL;
	return given ? given : CLUSTER_DEFAULT;
}

static enum stele_err key_path(const char *cluster, const char *given, char out[STELE_PATH_MAX])
{
	const char *env = getenv("STELE_KEY"), *slash = strrchr(cluster, '/');
	int n;
	if (given || (env && *env))
		n = snprintf(out, STELE_PATH_MAX, "%s", given ? given : env);
	else
		n = snprintf(out, STELE_PATH_MAX, "%.*sclient.key",
		             slash ? (int)(slash - cluster + 1) : 0, cluster);
	return n < (int)STELE_PATH_MAX ? STELE_OK
	                               : stele_fail(STELE_ERR_USAGE, "a path is too long");
}

static enum stele_err load_map(struct stele *s, const char *path, struct stele_map **out)
{
	char *json;
	size_t len;
	enum stele_err err = stele_file_load(s->env, path, STELE_MAP_MAX, &json, &len);
	if (err == STELE_ERR_TOO_LARGE || err == STELE_ERR_NOMEM)
		return err;
	if (err != STELE_OK)
		return stele_wrap(STELE_ERR_USAGE,
		                  "the cluster file (--cluster or $STELE_CLUSTER names it)");
	err = stele_map_parse(json, len, NULL, out);
	free(json);
	return err == STELE_OK ? err : stele_wrap(err, "%s", path);
}

static enum stele_err load_keys(struct stele *s, const char *path, struct stele_keys *keys)
{
	enum stele_err err = stele_keys_load(s->env, path, keys);
	if (err == STELE_ERR_NOT_FOUND)
		return stele_fail(STELE_ERR_USAGE,
		                  "there is no key file %s: name it with --key or $STELE_KEY",
		                  path);
	if (err == STELE_OK && !keys->has_tls) {
		stele_keys_wipe(keys);
		return stele_fail(STELE_ERR_USAGE, "%s holds no TLS key: it is not a client's",
		                  path);
	}
	return err;
}

static enum stele_err open_session(struct stele *s, struct stele_map *map,
                                   const struct stele_keys *keys)
{
	struct stele_session_opts opts = {
	    .env = s->env, .map = map, .sign = keys->has_sign ? &keys->sign : NULL};
	STELE_TRY(stele_tls_factory_create(&keys->tls, &s->transport));
	opts.transport = s->transport;
	return stele_session_create(&opts, &s->session);
}

static enum stele_err open_parts(struct stele *s, const struct stele_open_opts *opts)
{
	const char *cluster = stele_cluster_file(opts->cluster, NULL);
	struct stele_env_opts env_opts = {0};
	struct stele_map *map;
	struct stele_keys keys;
	char key[STELE_PATH_MAX];
	STELE_TRY(stele_env_create(&env_opts, &s->env));
	STELE_TRY(key_path(cluster, opts->key, key));
	STELE_TRY(load_map(s, cluster, &map));
	enum stele_err err = load_keys(s, key, &keys);
	if (err == STELE_OK) {
		err = open_session(s, map, &keys);
		stele_keys_wipe(&keys);
	}
	stele_map_unref(map);
	return err;
}

enum stele_err stele_open(const struct stele_open_opts *opts, struct stele **out)
{
	static const struct stele_open_opts none;
	char detail[STELE_DETAIL_MAX];
	struct stele *s = calloc(1, sizeof(*s));
	if (!s)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	enum stele_err err = open_parts(s, opts ? opts : &none);
	if (err == STELE_OK) {
		*out = s;
		return STELE_OK;
	}
	stele_detail_copy(detail);
	stele_close(s);
	return stele_fail(err, "%s", detail);
}

void stele_interrupt(struct stele *s)
{
	atomic_store(&s->interrupted, true);
	stele_env_stop(s->env);
}

void stele_wait(struct stele *s, struct stele_job *job)
{
	bool cancelled = job == NULL;
	while (!s->over) {
		if (!cancelled && atomic_load(&s->interrupted)) {
			cancelled = true;
			stele_request_cancel(job);
		}
		stele_env_run(s->env); /* an interruption in between ends it at once */
	}
	s->over = false;
}

static void closed(void *ctx)
{
	stele_wait_over(ctx);
}

void stele_close(struct stele *s)
{
	char detail[STELE_DETAIL_MAX];
	if (!s)
		return;
	stele_detail_copy(detail); /* why the caller closes is still to be told */
	if (s->session) {
		stele_session_close(s->session, closed, s);
		stele_wait(s, NULL);
		stele_session_destroy(s->session);
	}
	stele_transport_factory_destroy(s->transport);
	stele_env_destroy(s->env);
	free(s);
	(void)stele_fail(STELE_OK, "%s", detail);
}

struct stele_session *stele_session_of(struct stele *s)
{
	return s->session;
}

struct stele_map *stele_map_of(struct stele *s)
{
	return stele_session_map(s->session);
}

/* ---- put ---- */

STELE_STOP(put_done, stele_put_request)

enum stele_err stele_put(struct stele *s, const struct stele_source *src,
                         const struct stele_put_opts *opts, struct stele_put_result *out)
{
	struct stele_put_request req = {.source = *src, .cb = put_done, .ctx = s};
	if (opts)
		req.opts = *opts;
	stele_session_put(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	if (err == STELE_OK || err == STELE_ERR_DEGRADED)
		*out = req.result;
	return err;
}

struct memory_source {
	const uint8_t *bytes;
	size_t left;
};

static enum stele_err read_memory(void *ctx, void *buf, size_t cap, size_t *got)
{
	struct memory_source *m = ctx;
	*got = cap < m->left ? cap : m->left;
	memcpy(buf, m->bytes, *got);
	m->bytes += *got;
	m->left -= *got;
	return STELE_OK;
}

enum stele_err stele_put_bytes(struct stele *s, const void *bytes, size_t len,
                               const struct stele_put_opts *opts, struct stele_put_result *out)
{
	struct memory_source m = {len ? bytes : "", len};
	struct stele_source src = {.read = read_memory, .ctx = &m, .length = len};
	return stele_put(s, &src, opts, out);
}

/* ---- get ---- */

STELE_STOP(get_done, stele_get_request)

static enum stele_err get_with(struct stele *s, struct stele_get_request *req,
                               struct stele_get_result *out)
{
	req->cb = get_done;
	req->ctx = s;
	stele_session_get(s->session, req);
	enum stele_err err = STELE_WAIT(s, req);
	if (out)
		*out = req->result;
	return err;
}

static const struct stele_get_opts whole = {.len = UINT64_MAX};

enum stele_err stele_get(struct stele *s, const struct stele_hash *id,
                         const struct stele_get_opts *opts, const struct stele_sink *sink,
                         struct stele_get_result *out)
{
	struct stele_get_request req = {.id = *id, .opts = opts ? *opts : whole, .sink = *sink};
	return get_with(s, &req, out);
}

struct memory_sink {
	uint8_t *bytes;
	size_t len, cap, max;
};

static enum stele_err write_memory(void *ctx, const void *bytes, size_t len)
{
	struct memory_sink *m = ctx;
	if (len > m->max - m->len)
		return stele_fail(STELE_ERR_TOO_LARGE, "the object is longer than %zu bytes",
		                  m->max);
	if (m->len + len > m->cap) {
		size_t cap = m->cap * 2 > m->len + len ? m->cap * 2 : m->len + len;
		uint8_t *grown = realloc(m->bytes, cap);
		if (!grown)
			return stele_fail(STELE_ERR_NOMEM, "out of memory");
		m->bytes = grown;
		m->cap = cap;
	}
	memcpy(m->bytes + m->len, bytes, len);
	m->len += len;
	return STELE_OK;
}

static enum stele_err restart_memory(void *ctx)
{
	struct memory_sink *m = ctx;
	m->len = 0;
	return STELE_OK;
}

enum stele_err stele_get_bytes(struct stele *s, const struct stele_hash *id, size_t max,
                               uint8_t **bytes, size_t *len)
{
	struct memory_sink m = {.max = max, .cap = 1, .bytes = malloc(1)};
	struct stele_get_request req = {
	    .id = *id, .opts = whole, .sink = {write_memory, &m}, .restart = restart_memory};
	if (!m.bytes)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	enum stele_err err = get_with(s, &req, NULL);
	if (err != STELE_OK) {
		free(m.bytes);
		return err;
	}
	*bytes = m.bytes;
	*len = m.len;
	return STELE_OK;
}

/* ---- records, marks, ls ---- */

STELE_STOP(find_done, stele_find_request)

enum stele_err stele_find(struct stele *s, const struct stele_hash *id, struct stele_found *out)
{
	struct stele_find_request req = {.id = *id, .cb = find_done, .ctx = s};
	stele_session_find(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	if (err == STELE_OK)
		*out = req.found;
	else
		stele_found_finish(&req.found);
	return err;
}

STELE_STOP(mark_done, stele_mark_request)

enum stele_err stele_mark_add(struct stele *s, struct stele_mark *mark, struct stele_hash *id)
{
	struct stele_mark_request req = {.mark = *mark, .cb = mark_done, .ctx = s};
	stele_session_mark(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	*mark = req.mark;
	if (id)
		*id = req.mark_id;
	return err;
}

struct ls {
	struct stele *s;
	bool (*each)(void *ctx, const struct stele_ls_item *item);
	void *ctx;
	struct stele_piece piece[STELE_PIECES_MAX];
};

static bool ls_each(void *ctx, const struct stele_hash *object, const struct stele_hash *deposit,
                    const uint8_t *bytes, uint32_t len)
{
	struct ls *ls = ctx;
	struct stele_record r;
	struct stele_ls_item item = {.object = *object, .deposit = *deposit};
	/* What hashes show to be no record of that name is no item. */
	if (stele_record_decode(bytes, len, false, &r, ls->piece) != STELE_OK ||
	    !stele_hash_equal(&r.deposit.object, object) ||
	    !stele_hash_equal(&r.deposit_hash, deposit))
		return true;
	const struct stele_client_entry *who =
	    stele_map_depositor(stele_map_of(ls->s), &r.deposit.depositor);
	item.length = r.deposit.length;
	item.time = r.deposit.time;
	item.type = r.deposit.type;
	memcpy(item.pool, r.deposit.pool, sizeof(item.pool));
	if (who)
		memcpy(item.depositor, who->name, sizeof(item.depositor));
	else
		stele_hex(r.deposit.depositor.b, 16, item.depositor);
	return ls->each(ls->ctx, &item);
}

STELE_STOP(list_done, stele_list_request)

enum stele_err stele_ls(struct stele *s, bool (*each)(void *ctx, const struct stele_ls_item *item),
                        void *ctx, bool *partial)
{
	struct ls *ls = malloc(sizeof(*ls));
	if (!ls)
		return stele_fail(STELE_ERR_NOMEM, "out of memory");
	ls->s = s;
	ls->each = each;
	ls->ctx = ctx;
	struct stele_list_request req = {
	    .each = ls_each, .each_ctx = ls, .cb = list_done, .ctx = s};
	stele_session_list(s->session, &req);
	enum stele_err err = STELE_WAIT(s, &req);
	*partial = req.partial;
	free(ls);
	return err;
}
