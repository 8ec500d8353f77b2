/* One RLP item at a time: header, content, canonical or not. Knows nothing of what items mean. */
#include "storage/ledger/rlp.h"

/* The content's length, big-endian in n bytes: no leading zero, more than 55. */
static bool long_length(const uint8_t *bytes, size_t n, uint64_t *len)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | bytes[i];
	*len = v;
	return bytes[0] != 0 && v > 55;
}

bool stele_rlp_peek(const uint8_t *bytes, size_t len, size_t *header, uint64_t *total, bool *list)
{
	*total = 0;
	*header = 1;
	if (len == 0)
		return true;
	uint8_t first = bytes[0];
	*list = first >= 0xc0;
	if (first < 0x80) {
		*header = 0;
		*total = 1;
		return true;
	}
	uint8_t base = *list ? 0xc0 : 0x80;
	uint8_t low = (uint8_t)(first - base);
	uint64_t content = low;
	if (low > 55) {
		size_t n = low - 55u;
		*header = 1 + n;
		if (len < 1 + n)
			return true;
		if (!long_length(bytes + 1, n, &content) || content > UINT64_MAX - 1 - n)
			return false;
	}
	*total = *header + content;
	/* a string of one small byte is written as that byte */
	if (!*list && content == 1 && len > 1 && bytes[1] < 0x80)
		return false;
	return true;
}

bool stele_rlp_next(struct stele_reader *r, struct stele_rlp *out)
{
	size_t left = stele_read_left(r);
	if (left == 0)
		return false;
	size_t header;
	uint64_t total;
	bool list;
	if (!stele_rlp_peek(r->p, left, &header, &total, &list) || total == 0 || total > left) {
		r->bad = true;
		return false;
	}
	*out = (struct stele_rlp){
	    .raw = r->p,
	    .raw_len = (size_t)total,
	    .data = r->p + header,
	    .len = (size_t)total - header,
	    .list = list,
	};
	r->p += total;
	return true;
}

bool stele_rlp_whole(const void *bytes, size_t len, struct stele_rlp *out)
{
	struct stele_reader r = stele_reader(bytes, len);
	return stele_rlp_next(&r, out) && stele_read_done(&r);
}

struct stele_reader stele_rlp_items(const struct stele_rlp *list)
{
	return stele_reader(list->data, list->len);
}

bool stele_rlp_u64(const struct stele_rlp *item, uint64_t *out)
{
	if (item->list || item->len > 8 || (item->len && item->data[0] == 0))
		return false;
	uint64_t v = 0;
	for (size_t i = 0; i < item->len; i++)
		v = v << 8 | item->data[i];
	*out = v;
	return true;
}

size_t stele_rlp_header(bool list, uint64_t len, uint8_t out[STELE_RLP_HEADER_MAX])
{
	uint8_t base = list ? 0xc0 : 0x80;
	if (len <= 55) {
		out[0] = (uint8_t)(base + len);
		return 1;
	}
	uint8_t be[8];
	stele_put_be64(be, len);
	size_t skip = 0;
	while (be[skip] == 0)
		skip++;
	out[0] = (uint8_t)(base + 55 + (8 - skip));
	memcpy(out + 1, be + skip, 8 - skip);
	return 1 + 8 - skip;
}
