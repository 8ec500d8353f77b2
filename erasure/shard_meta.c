/* The order of rows in a shard's meta, and the checks without which none of it means anything. */
#include "erasure/shard_meta.h"

#include <stdlib.h>

size_t stele_shard_meta_len(const struct stele_descriptor *d)
{
	return stele_descriptor_len(d) +
	       (size_t)stele_descriptor_roots(d) * stele_descriptor_cells(d) * STELE_HASH_LEN;
}

static uint32_t own_row(const struct stele_descriptor *d, uint32_t index)
{
	return stele_descriptor_roots(d) == 1 ? 0 : index;
}

void stele_shard_meta_write(struct stele_writer *w, const struct stele_descriptor *d,
                            uint32_t index, struct stele_hash *const *row)
{
	uint8_t bytes[STELE_DESCRIPTOR_MAX];
	size_t row_len = (size_t)stele_descriptor_cells(d) * STELE_HASH_LEN;
	uint32_t own = own_row(d, index);
	stele_write_bytes(w, bytes, stele_descriptor_encode(d, bytes));
	stele_write_bytes(w, row[own], row_len);
	for (uint32_t i = 0; i < stele_descriptor_roots(d); i++)
		if (i != own)
			stele_write_bytes(w, row[i], row_len);
}

enum stele_err stele_shard_meta_read(const void *bytes, size_t len, const struct stele_hash *block,
                                     uint32_t index, struct stele_descriptor *d,
                                     struct stele_hash **rows)
{
	struct stele_hash id;
	size_t used;
	STELE_TRY(stele_descriptor_decode_prefix(bytes, len, d, &used));
	stele_descriptor_id(d, &id);
	if (!stele_hash_equal(&id, block) || index >= d->n || len != stele_shard_meta_len(d))
		return stele_fail(STELE_ERR_CORRUPT, "a shard's meta is not its block's");
	size_t row_len = (size_t)stele_descriptor_cells(d) * STELE_HASH_LEN;
	uint32_t cells = stele_descriptor_cells(d), own = own_row(d, index);
	const uint8_t *at = (const uint8_t *)bytes + used;
	struct stele_hash *out = malloc(len - used);
	if (!out)
		return stele_fail(STELE_ERR_NOMEM, "rows: out of memory");
	memcpy(out + (size_t)own * cells, at, row_len);
	for (uint32_t i = 0; i < stele_descriptor_roots(d); i++)
		if (i != own)
			memcpy(out + (size_t)i * cells, at += row_len, row_len);
	enum stele_err err = stele_block_verify_rows(d, out);
	if (err != STELE_OK)
		free(out);
	else
		*rows = out;
	return err;
}

const struct stele_hash *stele_shard_meta_row(const struct stele_descriptor *d,
                                              const struct stele_hash *rows, uint32_t shard)
{
	return rows + (size_t)own_row(d, shard) * stele_descriptor_cells(d);
}
