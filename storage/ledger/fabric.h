/*
 * Hyperledger Fabric's blocks as its peers keep them: not protobuf, but uvarint number, DataHash,
 * PreviousHash, envelopes, metadata, each byte string behind its uvarint length (ledgers.md 2).
 *
 * DataHash hashes the envelopes' bare concatenation, so two lists of envelopes can share it. Only
 * lists whose every envelope has one spelling (a payload, then perhaps a signature, nothing else,
 * minimal lengths) are accepted; of those only one has these bytes. Metadata is bound by nothing.
 *
 * Source: fabric, common/ledger/blkstorage/block_serialization.go; protoutil/blockutils.go;
 * fabric-protos. Pure. Thread: any.
 */
#ifndef STORAGE_LEDGER_FABRIC_H
#define STORAGE_LEDGER_FABRIC_H

#include "storage/ledger/chain.h"

#define STELE_FABRIC_BLOCK_MAX                                                                     \
	(64u << 20) /* bytes; an orderer's AbsoluteMaxBytes is 10 MiB unless set */
#define STELE_FABRIC_TXS_MAX     (1u << 17)
#define STELE_FABRIC_CHANNEL_MAX 250u /* with NUL */

struct stele_fabric_block {
	uint64_t number;
	struct stele_hash hash;   /* of its header */
	struct stele_hash parent; /* PreviousHash; zeros for block 0, which has none */
	struct stele_hash data_hash;
	bool has_parent;
	uint32_t tx_count;
	size_t length;                    /* bytes that the block takes */
	size_t envelopes_at, metadata_at; /* offsets of the two counts */
	char channel[STELE_FABRIC_CHANNEL_MAX];
};

/* The block at the start of bytes: the caller decides whether more may follow. ids: its
 * transactions' ids (zeros where one has none that is 64 hex digits), STELE_FABRIC_TXS_MAX of
 * them; NULL: not wanted. CORRUPT names what failed. */
STELE_MUST_USE enum stele_err stele_fabric_block_check(const uint8_t *bytes, size_t len,
                                                       struct stele_fabric_block *out,
                                                       struct stele_hash *ids);

/* A checked block as protobuf common.Block: *out is the caller's, to be freed with free().
 * NOMEM. */
STELE_MUST_USE enum stele_err stele_fabric_block_proto(const uint8_t *bytes,
                                                       const struct stele_fabric_block *block,
                                                       uint8_t **out, size_t *out_len);

/* An unsigned varint in its one shortest form (protobuf's, little end first). False: r->bad. */
bool stele_uvarint_read(struct stele_reader *r, uint64_t *out);
size_t stele_uvarint_write(uint64_t v, uint8_t out[10]);

#endif
