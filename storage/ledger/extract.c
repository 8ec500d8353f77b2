/* Puts a block together from its stored parts and holds it against its hash. Fetches nothing. */
#include "storage/ledger/extract.h"

#include <stdlib.h>

#include "storage/ledger/bitcoin_block.h"
#include "storage/ledger/evm_block.h"
#include "storage/ledger/fabric.h"
#include "storage/ledger/fisco.h"
#include "storage/ledger/snappy_frame.h"

bool stele_extract_needs(enum stele_part_kind kind)
{
	return kind == STELE_PART_BLOCK || kind == STELE_PART_HEADER || kind == STELE_PART_BODY;
}

/* A part's plain bytes in memory of their own. */
static enum stele_err plain(const struct stele_extract_opts *opts,
                            const struct stele_stored_part *part, size_t max, uint8_t **out,
                            size_t *out_len)
{
	size_t len = part->part.length;
	if (part->part.encoding == STELE_ENCODING_SNAPPY_FRAMED)
		STELE_TRY(stele_snappy_frame_length(part->bytes, part->part.length, max, &len));
	if (len > max)
		return stele_fail(STELE_ERR_CORRUPT, "a part of %zu bytes, at most %zu", len, max);
	uint8_t *bytes = malloc(len + 1);
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "a part of %zu bytes", len);
	enum stele_err err = STELE_OK;
	const uint8_t *from = part->bytes;
	switch ((enum stele_encoding)part->part.encoding) {
	case STELE_ENCODING_RAW:
	case STELE_ENCODING_GZIP: /* inflated by whoever read it */
		memcpy(bytes, from, len);
		break;
	case STELE_ENCODING_XOR:
		if (!opts->xor_key) {
			err = stele_fail(STELE_ERR_INVALID, "a block in XOR form without its key");
			break;
		}
		for (size_t i = 0; i < len; i++)
			bytes[i] = from[i] ^ opts->xor_key[(part->part.offset + i) & 7];
		break;
	case STELE_ENCODING_SNAPPY_FRAMED:
		err = stele_snappy_frame_inflate(part->bytes, part->part.length, bytes, len);
		break;
	default:
		err =
		    stele_fail(STELE_ERR_INVALID, "a part in encoding %u: newer than this version",
		               part->part.encoding);
	}
	if (err != STELE_OK) {
		free(bytes);
		return err;
	}
	*out = bytes;
	*out_len = len;
	return STELE_OK;
}

static const struct stele_stored_part *find(const struct stele_stored_part *parts, size_t n,
                                            enum stele_part_kind kind)
{
	for (size_t i = 0; i < n; i++) {
		if (parts[i].part.kind == kind)
			return &parts[i];
	}
	return NULL;
}

static enum stele_err wrong_hash(const struct stele_extract_opts *opts,
                                 const struct stele_hash *got)
{
	char want_hex[STELE_HEX_LEN], got_hex[STELE_HEX_LEN];
	enum stele_chain_family family = stele_format_family(opts->format);
	return stele_fail(STELE_ERR_CORRUPT, "the stored block is %s, not %s",
	                  stele_chain_hash_text(family, got, got_hex),
	                  stele_chain_hash_text(family, &opts->hash, want_hex));
}

/* ---- Bitcoin ---- */

static enum stele_err check_bitcoin(const struct stele_extract_opts *opts, const uint8_t *bytes,
                                    size_t len)
{
	struct stele_bitcoin_scratch scratch = {0};
	struct stele_bitcoin_block block;
	if (len < STELE_BITCOIN_HEADER)
		return stele_fail(STELE_ERR_CORRUPT, "the stored block has %zu bytes", len);
	stele_bitcoin_hash(bytes, STELE_BITCOIN_HEADER, &block.hash);
	if (!stele_hash_equal(&block.hash, &opts->hash))
		return wrong_hash(opts, &block.hash);
	enum stele_err err = stele_bitcoin_block_check(&scratch, bytes, len, opts->chain, &block);
	stele_bitcoin_scratch_reset(&scratch);
	if (err == STELE_OK && block.length != len)
		err = stele_fail(STELE_ERR_CORRUPT, "%zu bytes behind the stored block",
		                 len - block.length);
	return err;
}

static enum stele_err extract_bitcoin(const struct stele_extract_opts *opts,
                                      const struct stele_stored_part *parts, size_t nparts,
                                      uint8_t **out, size_t *out_len)
{
	const struct stele_stored_part *part = find(parts, nparts, STELE_PART_BLOCK);
	if (!part)
		return stele_fail(STELE_ERR_CORRUPT, "the index names no part for the block");
	uint8_t *bytes;
	size_t len;
	STELE_TRY(plain(opts, part, STELE_BITCOIN_BLOCK_MAX, &bytes, &len));
	enum stele_err err = check_bitcoin(opts, bytes, len);
	if (err != STELE_OK) {
		free(bytes);
		return err;
	}
	*out = bytes;
	*out_len = len;
	return STELE_OK;
}

/* ---- EVM ---- */

/* A block that is stored as the RLP that is asked for. */
static enum stele_err extract_rlp(const struct stele_extract_opts *opts,
                                  const struct stele_stored_part *part, uint8_t **out,
                                  size_t *out_len)
{
	struct stele_evm_scratch scratch = {0};
	struct stele_evm_header header;
	struct stele_evm_body body;
	struct stele_rlp block;
	uint32_t txs;
	uint8_t *bytes;
	size_t len;
	STELE_TRY(plain(opts, part, STELE_EVM_HEADER_MAX + STELE_EVM_BODY_MAX, &bytes, &len));
	enum stele_err err =
	    stele_rlp_whole(bytes, len, &block)
	        ? stele_evm_split(&block, &header, &body)
	        : stele_fail(STELE_ERR_CORRUPT, "the stored block is not one RLP list");
	if (err == STELE_OK && !stele_hash_equal(&header.hash, &opts->hash))
		err = wrong_hash(opts, &header.hash);
	if (err == STELE_OK)
		err = stele_evm_body_check(&scratch, &header, &body, &txs, NULL);
	stele_evm_scratch_reset(&scratch);
	if (err != STELE_OK) {
		free(bytes);
		return err;
	}
	*out = bytes;
	*out_len = len;
	return STELE_OK;
}

/* [header, items of the body...] from RLP that stands apart. */
static enum stele_err join(const uint8_t *header, size_t header_len, const struct stele_rlp *body,
                           uint8_t **out, size_t *out_len)
{
	uint8_t head[STELE_RLP_HEADER_MAX];
	size_t inside = header_len + body->len;
	size_t head_len = stele_rlp_header(true, inside, head);
	uint8_t *bytes = malloc(head_len + inside);
	if (!bytes)
		return stele_fail(STELE_ERR_NOMEM, "a block of %zu bytes", head_len + inside);
	memcpy(bytes, head, head_len);
	memcpy(bytes + head_len, header, header_len);
	memcpy(bytes + head_len + header_len, body->data, body->len);
	*out = bytes;
	*out_len = head_len + inside;
	return STELE_OK;
}

static enum stele_err check_evm(const struct stele_extract_opts *opts, const uint8_t *header,
                                size_t header_len, const struct stele_rlp *body)
{
	struct stele_evm_header h;
	struct stele_evm_body lists;
	struct stele_evm_scratch scratch = {0};
	uint32_t txs;
	STELE_TRY(stele_evm_header_decode(header, header_len, &h));
	if (!stele_hash_equal(&h.hash, &opts->hash))
		return wrong_hash(opts, &h.hash);
	struct stele_reader r = stele_rlp_items(body);
	STELE_TRY(stele_evm_body_decode(&r, &lists));
	enum stele_err err = stele_evm_body_check(&scratch, &h, &lists, &txs, NULL);
	stele_evm_scratch_reset(&scratch);
	return err;
}

static enum stele_err extract_evm(const struct stele_extract_opts *opts,
                                  const struct stele_stored_part *parts, size_t nparts,
                                  uint8_t **out, size_t *out_len)
{
	const struct stele_stored_part *head = find(parts, nparts, STELE_PART_HEADER);
	const struct stele_stored_part *rest = find(parts, nparts, STELE_PART_BODY);
	const struct stele_stored_part *whole = find(parts, nparts, STELE_PART_BLOCK);
	if (whole)
		return extract_rlp(opts, whole, out, out_len);
	if (!head || !rest)
		return stele_fail(STELE_ERR_CORRUPT, "the index names no header or no body");
	uint8_t *header = NULL, *body = NULL;
	size_t header_len, body_len;
	struct stele_rlp list;
	enum stele_err err = plain(opts, head, STELE_EVM_HEADER_MAX, &header, &header_len);
	if (err == STELE_OK)
		err = plain(opts, rest, STELE_EVM_BODY_MAX, &body, &body_len);
	if (err == STELE_OK && (!stele_rlp_whole(body, body_len, &list) || !list.list))
		err = stele_fail(STELE_ERR_CORRUPT, "body is not one RLP list");
	if (err == STELE_OK)
		err = check_evm(opts, header, header_len, &list);
	if (err == STELE_OK)
		err = join(header, header_len, &list, out, out_len);
	free(header);
	free(body);
	return err;
}

/* ---- Fabric ---- */

static enum stele_err extract_fabric(const struct stele_extract_opts *opts,
                                     const struct stele_stored_part *parts, size_t nparts,
                                     uint8_t **out, size_t *out_len)
{
	const struct stele_stored_part *part = find(parts, nparts, STELE_PART_BLOCK);
	struct stele_fabric_block b;
	uint8_t *bytes;
	size_t len;
	if (!part)
		return stele_fail(STELE_ERR_CORRUPT, "the index names no part for the block");
	STELE_TRY(plain(opts, part, STELE_FABRIC_BLOCK_MAX, &bytes, &len));
	enum stele_err err = stele_fabric_block_check(bytes, len, &b, NULL);
	if (err == STELE_OK && !stele_hash_equal(&b.hash, &opts->hash))
		err = wrong_hash(opts, &b.hash);
	if (err == STELE_OK && b.length != len)
		err = stele_fail(STELE_ERR_CORRUPT, "%zu bytes behind the stored block",
		                 len - b.length);
	if (err == STELE_OK)
		err = stele_fabric_block_proto(bytes, &b, out, out_len);
	free(bytes);
	return err;
}

/* ---- FISCO BCOS ---- */

static enum stele_err extract_fisco(const struct stele_extract_opts *opts,
                                    const struct stele_stored_part *parts, size_t nparts,
                                    uint8_t **out, size_t *out_len)
{
	const struct stele_stored_part *part = find(parts, nparts, STELE_PART_BLOCK);
	struct stele_fisco_scratch scratch = {0};
	struct stele_fisco_block b;
	uint8_t *bytes;
	size_t len;
	if (!part)
		return stele_fail(STELE_ERR_CORRUPT, "the index names no part for the block");
	STELE_TRY(plain(opts, part, STELE_FISCO_BLOCK_MAX, &bytes, &len));
	enum stele_err err = stele_fisco_block_check(&scratch, bytes, len, &b);
	stele_fisco_scratch_reset(&scratch);
	if (err == STELE_OK && !stele_hash_equal(&b.hash, &opts->hash))
		err = wrong_hash(opts, &b.hash);
	if (err != STELE_OK) {
		free(bytes);
		return err;
	}
	*out = bytes;
	*out_len = len;
	return STELE_OK;
}

enum stele_err stele_block_extract(const struct stele_extract_opts *opts,
                                   const struct stele_stored_part *parts, size_t nparts,
                                   uint8_t **out, size_t *out_len)
{
	switch (opts->format) {
	case STELE_FORMAT_BITCOIN_BLK:
	case STELE_FORMAT_BITCOIN_RAW:
		return extract_bitcoin(opts, parts, nparts, out, out_len);
	case STELE_FORMAT_ERA1:
	case STELE_FORMAT_RLP:
	case STELE_FORMAT_RLP_GZIP:
		return extract_evm(opts, parts, nparts, out, out_len);
	case STELE_FORMAT_FABRIC:
		return extract_fabric(opts, parts, nparts, out, out_len);
	case STELE_FORMAT_FISCO:
		return extract_fisco(opts, parts, nparts, out, out_len);
	default:
		return stele_fail(STELE_ERR_INVALID, "blocks of a %s are not read by this version",
		                  stele_format_name(opts->format));
	}
}
