/* Codecs of everything on disk; see extent_format.h. No I/O, no allocation, no state. */
#include "storage/extent_format.h"

#include <assert.h>
#include <sodium.h>

_Static_assert(crypto_shorthash_KEYBYTES == STELE_SALT_LEN, "the salt keys SipHash-2-4");
_Static_assert(crypto_shorthash_BYTES == 8, "checks are eight bytes");

#define PAGE_CHECK (STELE_PAGE - 8u) /* a whole page's check is its last eight bytes */

static const uint8_t superblock_magic[8] = {'S', 'T', 'L', 'S', 'U', 'P', 'E', 'R'};
static const uint8_t extent_magic[4] = {'S', 'T', 'L', 'X'};
static const uint8_t batch_magic[4] = {'S', 'T', 'L', 'B'};
static const uint8_t entry_magic[4] = {'S', 'T', 'L', 'E'};
static const uint8_t footer_magic[4] = {'S', 'T', 'L', 'F'};
static const uint8_t trailer_magic[4] = {'S', 'T', 'L', 'T'};

static void put_check(uint8_t *bytes, size_t at, const struct stele_salt *salt)
{
	crypto_shorthash(bytes + at, bytes, at, salt->b);
}

static bool check_ok(const uint8_t *bytes, size_t at, const struct stele_salt *salt)
{
	uint8_t want[8];
	crypto_shorthash(want, bytes, at, salt->b);
	return memcmp(want, bytes + at, sizeof(want)) == 0;
}

/* Superblock:
 * magic8 version4 features4 disk16 cluster32 salt16 incarnation8 extent_len8 lsn_floor8 0... check8 */

void stele_superblock_encode(const struct stele_superblock *s, uint8_t page[STELE_PAGE])
{
	memset(page, 0, STELE_PAGE);
	memcpy(page, superblock_magic, 8);
	stele_put_le32(page + 8, s->version);
	stele_put_le32(page + 12, s->features);
	memcpy(page + 16, s->disk.b, 16);
	memcpy(page + 32, s->cluster.b, 32);
	memcpy(page + 64, s->salt.b, 16);
	stele_put_le64(page + 80, s->incarnation);
	stele_put_le64(page + 88, s->extent_len);
	stele_put_le64(page + 96, s->lsn_floor);
	put_check(page, PAGE_CHECK, &s->salt);
}

enum stele_err stele_superblock_decode(const uint8_t page[STELE_PAGE], struct stele_superblock *out)
{
	struct stele_superblock s;
	if (memcmp(page, superblock_magic, 8) != 0)
		return stele_fail(STELE_ERR_CORRUPT, "superblock: not one of ours");
	memcpy(s.salt.b, page + 64, 16);
	if (!check_ok(page, PAGE_CHECK, &s.salt))
		return stele_fail(STELE_ERR_CORRUPT, "superblock: its check does not hold");
	s.version = stele_le32(page + 8);
	s.features = stele_le32(page + 12);
	if (s.version > STELE_DISK_VERSION || (s.features & ~STELE_FEATURES_KNOWN))
		return stele_fail(
		    STELE_ERR_VERSION,
		    "superblock: disk format %u (features %#x) is newer than this "
		    "program's %u (features %#x): use the programs of a newer release",
		    s.version, s.features, STELE_DISK_VERSION, STELE_FEATURES_KNOWN);
	memcpy(s.disk.b, page + 16, 16);
	memcpy(s.cluster.b, page + 32, 32);
	s.incarnation = stele_le64(page + 80);
	s.extent_len = stele_le64(page + 88);
	s.lsn_floor = stele_le64(page + 96);
	if (s.version == 0 || s.extent_len < STELE_EXTENT_LEN_MIN || s.extent_len % STELE_PAGE ||
	    s.extent_len > UINT32_MAX)
		return stele_fail(STELE_ERR_CORRUPT, "superblock: a field is out of range");
	*out = s;
	return STELE_OK;
}

/* Extent header:
 * magic4 version4 extent4 cycle4 disk16 salt16 first_lsn8 extent_len8 0... check8 */

void stele_extent_head_encode(const struct stele_extent_head *h, uint8_t page[STELE_PAGE])
{
	memset(page, 0, STELE_PAGE);
	memcpy(page, extent_magic, 4);
	stele_put_le32(page + 4, STELE_DISK_VERSION);
	stele_put_le32(page + 8, h->extent);
	stele_put_le32(page + 12, h->cycle);
	memcpy(page + 16, h->disk.b, 16);
	memcpy(page + 32, h->salt.b, 16);
	stele_put_le64(page + 48, h->first_lsn);
	stele_put_le64(page + 56, h->extent_len);
	put_check(page, PAGE_CHECK, &h->salt);
}

bool stele_extent_head_decode(const uint8_t page[STELE_PAGE], const struct stele_salt *salt,
                              struct stele_extent_head *out)
{
	struct stele_extent_head h;
	if (memcmp(page, extent_magic, 4) != 0)
		return false;
	memcpy(h.salt.b, page + 32, 16);
	if (!check_ok(page, PAGE_CHECK, salt ? salt : &h.salt))
		return false;
	if (stele_le32(page + 4) != STELE_DISK_VERSION)
		return false;
	h.extent = stele_le32(page + 8);
	h.cycle = stele_le32(page + 12);
	memcpy(h.disk.b, page + 16, 16);
	h.first_lsn = stele_le64(page + 48);
	h.extent_len = stele_le64(page + 56);
	if (h.extent_len < STELE_EXTENT_LEN_MIN || h.extent_len % STELE_PAGE ||
	    h.extent_len > UINT32_MAX)
		return false;
	*out = h;
	return true;
}

bool stele_extent_head_newer(const uint8_t page[STELE_PAGE], uint32_t *version)
{
	struct stele_salt salt;
	memcpy(salt.b, page + 32, 16);
	*version = stele_le32(page + 4);
	return memcmp(page, extent_magic, 4) == 0 && check_ok(page, PAGE_CHECK, &salt) &&
	       *version > STELE_DISK_VERSION;
}

/* Batch header: magic4 version2 flags2 lsn8 extent4 cycle4 page4 len4 meta_len4 entries4 meta_crc4
 * 0[4] durable_lsn8 check8 */

void stele_batch_head_encode(const struct stele_batch_head *h, const struct stele_salt *salt,
                             uint8_t out[STELE_BATCH_HEAD])
{
	memset(out, 0, STELE_BATCH_HEAD);
	memcpy(out, batch_magic, 4);
	stele_put_le16(out + 4, STELE_DISK_VERSION);
	stele_put_le64(out + 8, h->lsn);
	stele_put_le32(out + 16, h->place.extent);
	stele_put_le32(out + 20, h->place.cycle);
	stele_put_le32(out + 24, (uint32_t)(h->place.off / STELE_PAGE));
	stele_put_le32(out + 28, h->len);
	stele_put_le32(out + 32, h->meta_len);
	stele_put_le32(out + 36, h->entries);
	stele_put_le32(out + 40, h->meta_crc);
	stele_put_le64(out + 48, h->durable_lsn);
	put_check(out, 56, salt);
}

bool stele_batch_head_decode(const uint8_t in[STELE_BATCH_HEAD], const struct stele_salt *salt,
                             const struct stele_place *place, uint64_t extent_len,
                             struct stele_batch_head *out)
{
	if (memcmp(in, batch_magic, 4) != 0 || !check_ok(in, 56, salt))
		return false;
	struct stele_batch_head h = {
	    .place = *place,
	    .lsn = stele_le64(in + 8),
	    .durable_lsn = stele_le64(in + 48),
	    .len = stele_le32(in + 28),
	    .meta_len = stele_le32(in + 32),
	    .entries = stele_le32(in + 36),
	    .meta_crc = stele_le32(in + 40),
	};
	if (stele_le16(in + 4) != STELE_DISK_VERSION || stele_le32(in + 16) != place->extent ||
	    stele_le32(in + 20) != place->cycle ||
	    (uint64_t)stele_le32(in + 24) * STELE_PAGE != place->off)
		return false;
	if (h.lsn == 0 || h.durable_lsn >= h.lsn || h.meta_len < STELE_PAGE ||
	    h.meta_len % STELE_PAGE || h.len % STELE_PAGE || h.meta_len > h.len ||
	    h.len > extent_len || place->off > extent_len - h.len ||
	    h.entries > h.meta_len / STELE_ENTRY_HEAD)
		return false;
	*out = h;
	return true;
}

bool stele_batch_head_resembles(const uint8_t in[STELE_BATCH_HEAD], const struct stele_salt *salt,
                                const struct stele_place *place, uint64_t extent_len)
{
	struct stele_place claimed = {place->extent, stele_le32(in + 20), place->off};
	struct stele_batch_head h;
	if (claimed.cycle < place->cycle &&
	    stele_batch_head_decode(in, salt, &claimed, extent_len, &h))
		return false;
	int same = (memcmp(in, batch_magic, 4) == 0) + (stele_le32(in + 16) == place->extent) +
	           (claimed.cycle == place->cycle) +
	           ((uint64_t)stele_le32(in + 24) * STELE_PAGE == place->off);
	return same >= 3;
}

/* Entry header: magic4 kind1 flags1 pool2 index1 cell_log2_1 hot_len2 hot_crc4 birth_lsn8 id32 sub32
 * meta_len4 meta_crc4 data_len4 data_page4 entry_len4 extent4 cycle4 off4(x64) check8 */

void stele_entry_head_encode(const struct stele_entry_head *h, const struct stele_salt *salt,
                             uint8_t out[STELE_ENTRY_HEAD])
{
	memset(out, 0, STELE_ENTRY_HEAD);
	memcpy(out, entry_magic, 4);
	out[4] = h->key.kind;
	stele_put_le16(out + 6, h->key.pool);
	out[8] = h->key.index;
	out[9] = STELE_CELL_LOG2;
	stele_put_le16(out + 10, (uint16_t)h->hot_len);
	stele_put_le32(out + 12, h->hot_crc);
	stele_put_le64(out + 16, h->birth_lsn);
	memcpy(out + 24, h->key.id.b, 32);
	memcpy(out + 56, h->key.sub.b, 32);
	stele_put_le32(out + 88, h->meta_len);
	stele_put_le32(out + 92, h->meta_crc);
	stele_put_le32(out + 96, h->data_len);
	stele_put_le32(out + 100, (uint32_t)(h->data_off / STELE_PAGE));
	stele_put_le32(out + 104, stele_entry_len(h->meta_len));
	stele_put_le32(out + 108, h->place.extent);
	stele_put_le32(out + 112, h->place.cycle);
	stele_put_le32(out + 116, (uint32_t)(h->place.off / STELE_ENTRY_ALIGN));
	put_check(out, 120, salt);
}

static bool kind_ok(uint8_t kind)
{
	return kind >= STELE_ENTRY_SHARD && kind <= STELE_ENTRY_KEEP && kind != STELE_ENTRY_FOOTER;
}

bool stele_entry_head_decode(const uint8_t in[STELE_ENTRY_HEAD], const struct stele_salt *salt,
                             const struct stele_place *place, uint64_t extent_len,
                             struct stele_entry_head *out)
{
	if (memcmp(in, entry_magic, 4) != 0 || !check_ok(in, 120, salt))
		return false;
	struct stele_entry_head h = {
	    .place = *place,
	    .key = {.pool = stele_le16(in + 6), .kind = in[4], .index = in[8]},
	    .birth_lsn = stele_le64(in + 16),
	    .meta_len = stele_le32(in + 88),
	    .meta_crc = stele_le32(in + 92),
	    .hot_len = stele_le16(in + 10),
	    .hot_crc = stele_le32(in + 12),
	    .data_len = stele_le32(in + 96),
	    .data_off = (uint64_t)stele_le32(in + 100) * STELE_PAGE,
	};
	memcpy(h.key.id.b, in + 24, 32);
	memcpy(h.key.sub.b, in + 56, 32);
	if (stele_le32(in + 108) != place->extent || stele_le32(in + 112) != place->cycle ||
	    (uint64_t)stele_le32(in + 116) * STELE_ENTRY_ALIGN != place->off)
		return false;
	if (!kind_ok(h.key.kind) || in[9] != STELE_CELL_LOG2 || h.meta_len > STELE_META_MAX ||
	    h.hot_len > h.meta_len || h.data_len > STELE_SHARD_LEN_MAX ||
	    h.hot_len / 4 < stele_round_up(h.data_len, STELE_CELL_LEN) / STELE_CELL_LEN ||
	    stele_le32(in + 104) != stele_entry_len(h.meta_len) ||
	    place->off + stele_entry_len(h.meta_len) > extent_len ||
	    h.data_off + stele_round_up(h.data_len, STELE_PAGE) > extent_len)
		return false;
	*out = h;
	return true;
}

/* Tombstone's meta: kind1 index1 0[2] only4 victim_lsn8 */

void stele_tomb_meta_encode(const struct stele_tomb_meta *t, uint8_t out[STELE_TOMB_META])
{
	memset(out, 0, STELE_TOMB_META);
	out[0] = t->kind;
	out[1] = t->index;
	stele_put_le32(out + 4, t->only);
	stele_put_le64(out + 8, t->victim_lsn);
}

bool stele_tomb_meta_decode(const uint8_t *in, uint32_t len, struct stele_tomb_meta *out)
{
	if (len != STELE_TOMB_META || !kind_ok(in[0]) || in[0] == STELE_ENTRY_TOMB)
		return false;
	*out = (struct stele_tomb_meta){in[0], in[1], stele_le64(in + 8), stele_le32(in + 4)};
	return true;
}

/* Footer item: pool2 kind1 index1 hot_len2 flags1(1: tombstone) 0[1] id32 sub32 birth_lsn8 off4(x64)
 * meta_len4, then data_page4 data_len4. A tombstone's: only4 in place of meta_len4, then victim_lsn8 */

#define ITEM_TOMB 1u

void stele_footer_item_encode(const struct stele_item_at *it, uint8_t out[STELE_FOOTER_ITEM])
{
	memset(out, 0, STELE_FOOTER_ITEM);
	stele_put_le16(out, it->key.pool);
	out[2] = it->key.kind;
	out[3] = it->key.index;
	stele_put_le16(out + 4, (uint16_t)it->hot_len);
	out[6] = it->tomb ? ITEM_TOMB : 0;
	memcpy(out + 8, it->key.id.b, 32);
	memcpy(out + 40, it->key.sub.b, 32);
	stele_put_le64(out + 72, it->birth_lsn);
	stele_put_le32(out + 80, (uint32_t)(it->off / STELE_ENTRY_ALIGN));
	if (it->tomb) {
		stele_put_le32(out + 84, it->only);
		stele_put_le64(out + 88, it->victim_lsn);
	} else {
		stele_put_le32(out + 84, it->meta_len);
		stele_put_le32(out + 88, (uint32_t)(it->data_off / STELE_PAGE));
		stele_put_le32(out + 92, it->data_len);
	}
}

static bool item_ok(const struct stele_item_at *it, uint64_t extent_len)
{
	return kind_ok(it->key.kind) && it->key.kind != STELE_ENTRY_TOMB &&
	       it->meta_len <= STELE_META_MAX && it->hot_len <= it->meta_len &&
	       it->data_len <= STELE_SHARD_LEN_MAX && it->off >= STELE_PAGE &&
	       it->off + stele_entry_len(it->meta_len) <= extent_len &&
	       it->data_off + stele_round_up(it->data_len, STELE_PAGE) <= extent_len;
}

bool stele_footer_item_decode(const uint8_t in[STELE_FOOTER_ITEM], uint32_t extent,
                              uint64_t extent_len, struct stele_item_at *out)
{
	struct stele_item_at it = {
	    .key = {.pool = stele_le16(in), .kind = in[2], .index = in[3]},
	    .tomb = in[6] & ITEM_TOMB,
	    .birth_lsn = stele_le64(in + 72),
	    .extent = extent,
	    .off = (uint64_t)stele_le32(in + 80) * STELE_ENTRY_ALIGN,
	    .hot_len = stele_le16(in + 4),
	};
	memcpy(it.key.id.b, in + 8, 32);
	memcpy(it.key.sub.b, in + 40, 32);
	if (it.tomb) {
		it.meta_len = STELE_TOMB_META;
		it.only = stele_le32(in + 84);
		it.victim_lsn = stele_le64(in + 88);
	} else {
		it.meta_len = stele_le32(in + 84);
		it.data_off = (uint64_t)stele_le32(in + 88) * STELE_PAGE;
		it.data_len = stele_le32(in + 92);
	}
	if (!item_ok(&it, extent_len))
		return false;
	*out = it;
	return true;
}

/* Footer chunk's head: magic4 version4 extent4 cycle4 page4 chunk4 n4 len4 crc4 0[20] check8 */

void stele_footer_head_encode(const struct stele_footer_head *h, const struct stele_salt *salt,
                              uint8_t out[STELE_FOOTER_HEAD])
{
	memset(out, 0, STELE_FOOTER_HEAD);
	memcpy(out, footer_magic, 4);
	stele_put_le32(out + 4, STELE_DISK_VERSION);
	stele_put_le32(out + 8, h->place.extent);
	stele_put_le32(out + 12, h->place.cycle);
	stele_put_le32(out + 16, (uint32_t)(h->place.off / STELE_PAGE));
	stele_put_le32(out + 20, h->chunk);
	stele_put_le32(out + 24, h->n);
	stele_put_le32(out + 28, h->len);
	stele_put_le32(out + 32, h->crc);
	put_check(out, 56, salt);
}

bool stele_footer_head_decode(const uint8_t in[STELE_FOOTER_HEAD], const struct stele_salt *salt,
                              const struct stele_place *place, uint64_t extent_len,
                              struct stele_footer_head *out)
{
	if (memcmp(in, footer_magic, 4) != 0 || !check_ok(in, 56, salt))
		return false;
	struct stele_footer_head h = {
	    .place = *place,
	    .chunk = stele_le32(in + 20),
	    .n = stele_le32(in + 24),
	    .len = stele_le32(in + 28),
	    .crc = stele_le32(in + 32),
	};
	if (stele_le32(in + 4) != STELE_DISK_VERSION || stele_le32(in + 8) != place->extent ||
	    stele_le32(in + 12) != place->cycle ||
	    (uint64_t)stele_le32(in + 16) * STELE_PAGE != place->off)
		return false;
	if (h.n > STELE_FOOTER_ITEMS || h.len < STELE_PAGE || h.len % STELE_PAGE ||
	    h.len > STELE_FOOTER_CHUNK ||
	    STELE_FOOTER_HEAD + (uint64_t)h.n * STELE_FOOTER_ITEM > h.len ||
	    place->off > extent_len - h.len)
		return false;
	*out = h;
	return true;
}

/* Trailer: magic4 version4 extent4 cycle4 first_lsn8 last_lsn8 end8 footer_off8 chunks4 0[4] items8
 * 0... check8 */

void stele_trailer_encode(const struct stele_trailer *t, const struct stele_salt *salt,
                          uint8_t page[STELE_PAGE])
{
	memset(page, 0, STELE_PAGE);
	memcpy(page, trailer_magic, 4);
	stele_put_le32(page + 4, STELE_DISK_VERSION);
	stele_put_le32(page + 8, t->extent);
	stele_put_le32(page + 12, t->cycle);
	stele_put_le64(page + 16, t->first_lsn);
	stele_put_le64(page + 24, t->last_lsn);
	stele_put_le64(page + 32, t->end);
	stele_put_le64(page + 40, t->footer_off);
	stele_put_le32(page + 48, t->chunks);
	stele_put_le64(page + 56, t->items);
	put_check(page, PAGE_CHECK, salt);
}

bool stele_trailer_decode(const uint8_t page[STELE_PAGE], const struct stele_salt *salt,
                          uint32_t extent, uint32_t cycle, uint64_t extent_len,
                          struct stele_trailer *out)
{
	if (memcmp(page, trailer_magic, 4) != 0 || !check_ok(page, PAGE_CHECK, salt))
		return false;
	struct stele_trailer t = {
	    .extent = stele_le32(page + 8),
	    .cycle = stele_le32(page + 12),
	    .first_lsn = stele_le64(page + 16),
	    .last_lsn = stele_le64(page + 24),
	    .end = stele_le64(page + 32),
	    .footer_off = stele_le64(page + 40),
	    .chunks = stele_le32(page + 48),
	    .items = stele_le64(page + 56),
	};
	if (stele_le32(page + 4) != STELE_DISK_VERSION || t.extent != extent || t.cycle != cycle)
		return false;
	if (t.end > extent_len || t.footer_off > extent_len || t.end > t.footer_off ||
	    t.footer_off % STELE_PAGE || t.items > (uint64_t)t.chunks * STELE_FOOTER_ITEMS ||
	    t.chunks > extent_len / STELE_PAGE)
		return false;
	*out = t;
	return true;
}

uint64_t stele_footer_room(uint64_t n)
{
	uint64_t full = n / STELE_FOOTER_ITEMS, rest = n % STELE_FOOTER_ITEMS;
	uint64_t room = full * STELE_FOOTER_CHUNK + STELE_PAGE;
	if (rest)
		room += stele_round_up(STELE_FOOTER_HEAD + rest * STELE_FOOTER_ITEM, STELE_PAGE);
	return room;
}

/* Index keys: space1 pool2(be) id32 kind1, then SHARD: index1; REF: sub12; RECORD, MARK, REFUSE:
 * sub32; KEEP: index1 sub32 */

size_t stele_index_prefix(enum stele_index_space space, uint16_t pool, const struct stele_hash *id,
                          uint8_t *out)
{
	out[0] = (uint8_t)space;
	out[1] = (uint8_t)(pool >> 8);
	out[2] = (uint8_t)pool;
	memcpy(out + 3, id->b, 32);
	return 35;
}

static size_t sub_len(uint8_t kind)
{
	switch (kind) {
	case STELE_ENTRY_SHARD:
		return 0;
	case STELE_ENTRY_REF:
		return STELE_REF_SUB;
	default:
		return STELE_HASH_LEN;
	}
}

static bool has_index(uint8_t kind)
{
	return kind == STELE_ENTRY_SHARD || kind == STELE_ENTRY_KEEP;
}

size_t stele_index_key(enum stele_index_space space, const struct stele_key *key, uint8_t *out)
{
	size_t n = stele_index_prefix(space, key->pool, &key->id, out);
	out[n++] = key->kind;
	if (has_index(key->kind))
		out[n++] = key->index;
	memcpy(out + n, key->sub.b, sub_len(key->kind));
	return n + sub_len(key->kind);
}

bool stele_index_key_decode(const void *bytes, size_t len, struct stele_key *out)
{
	const uint8_t *b = bytes;
	if (len < 36)
		return false;
	struct stele_key k = {.pool = (uint16_t)(b[1] << 8 | b[2]), .kind = b[35]};
	size_t n = 36 + has_index(k.kind);
	if (!kind_ok(k.kind) || len != n + sub_len(k.kind))
		return false;
	memcpy(k.id.b, b + 3, 32);
	if (has_index(k.kind))
		k.index = b[36];
	memcpy(k.sub.b, b + n, sub_len(k.kind));
	*out = k;
	return true;
}

/* Index value: extent4 off4(x64) data_page4 data_len4 birth_lsn8 meta_len4 hot_len2 flags1 0[1]. A
 * tombstone's has its victim_lsn8 in place of data_page4 data_len4, and only4 in place of meta_len4. */

#define VALUE_BAD    1u
#define VALUE_TOMB   2u
#define VALUE_MOVED  4u
#define VALUE_OTHERS 8u

void stele_index_value_encode(const struct stele_item_at *it, uint8_t out[STELE_INDEX_VALUE])
{
	memset(out, 0, STELE_INDEX_VALUE);
	stele_put_le32(out, it->extent);
	stele_put_le32(out + 4, (uint32_t)(it->off / STELE_ENTRY_ALIGN));
	if (it->tomb) {
		stele_put_le64(out + 8, it->victim_lsn);
	} else {
		stele_put_le32(out + 8, (uint32_t)(it->data_off / STELE_PAGE));
		stele_put_le32(out + 12, it->data_len);
	}
	stele_put_le64(out + 16, it->birth_lsn);
	stele_put_le32(out + 24, it->tomb ? it->only : it->meta_len);
	stele_put_le16(out + 28, (uint16_t)it->hot_len);
	out[30] = (uint8_t)((it->bad ? VALUE_BAD : 0) | (it->tomb ? VALUE_TOMB : 0) |
	                    (it->moved ? VALUE_MOVED : 0) | (it->others ? VALUE_OTHERS : 0));
}

bool stele_index_value_decode(const void *bytes, size_t len, struct stele_item_at *out)
{
	const uint8_t *b = bytes;
	if (len != STELE_INDEX_VALUE)
		return false;
	out->extent = stele_le32(b);
	out->off = (uint64_t)stele_le32(b + 4) * STELE_ENTRY_ALIGN;
	out->birth_lsn = stele_le64(b + 16);
	out->meta_len = stele_le32(b + 24);
	out->hot_len = stele_le16(b + 28);
	out->bad = b[30] & VALUE_BAD;
	out->tomb = b[30] & VALUE_TOMB;
	out->moved = b[30] & VALUE_MOVED;
	out->others = b[30] & VALUE_OTHERS;
	out->victim_lsn = out->data_off = out->data_len = out->only = 0;
	if (out->tomb) {
		out->victim_lsn = stele_le64(b + 8);
		out->only = out->meta_len;
		out->meta_len = STELE_TOMB_META;
	} else {
		out->data_off = (uint64_t)stele_le32(b + 8) * STELE_PAGE;
		out->data_len = stele_le32(b + 12);
	}
	return out->meta_len <= STELE_META_MAX && out->hot_len <= out->meta_len &&
	       out->data_len <= STELE_SHARD_LEN_MAX;
}

/* Feed key: space1 birth_lsn8(be) pool2(be) id32 sub32 */

size_t stele_index_feed_key(uint64_t birth_lsn, const struct stele_key *record, uint8_t *out)
{
	out[0] = STELE_INDEX_FEED;
	stele_put_be64(out + 1, birth_lsn);
	out[9] = (uint8_t)(record->pool >> 8);
	out[10] = (uint8_t)record->pool;
	memcpy(out + 11, record->id.b, 32);
	memcpy(out + 43, record->sub.b, 32);
	return 75;
}

bool stele_index_feed_decode(const void *bytes, size_t len, uint64_t *birth_lsn,
                             struct stele_key *record)
{
	const uint8_t *b = bytes;
	if (len != 75 || b[0] != STELE_INDEX_FEED)
		return false;
	*birth_lsn = stele_be64(b + 1);
	*record =
	    (struct stele_key){.pool = (uint16_t)(b[9] << 8 | b[10]), .kind = STELE_ENTRY_RECORD};
	memcpy(record->id.b, b + 11, 32);
	memcpy(record->sub.b, b + 43, 32);
	return true;
}
