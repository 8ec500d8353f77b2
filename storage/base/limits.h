/*
 * Every bound of the system, in one place, related to each other by static assertions.
 * Values marked "format" are part of what lies on disk or goes over the wire: they may only grow
 * with a new format version.
 */
#ifndef STELE_BASE_LIMITS_H
#define STELE_BASE_LIMITS_H

#include <stdint.h>

#define STELE_HASH_LEN 32u

/* Data model (DESIGN 3) */
#define STELE_CELL_LOG2      16u                                /* format: the only value so far */
#define STELE_CELL_LEN       (1u << STELE_CELL_LOG2)            /* 64 KiB: a Merkle leaf */
#define STELE_BLOCK_LEN_MAX  (16u << 20)                        /* bytes of an object in a block */
#define STELE_SHARD_LEN_MAX  (16u << 20)                        /* S; equal to a block for rep-n */
#define STELE_SHARD_ALIGN    64u                                /* S is a multiple of this */
#define STELE_SHARD_CELLS_MAX (STELE_SHARD_LEN_MAX / STELE_CELL_LEN)
#define STELE_CODE_K_MAX     32u
#define STELE_CODE_M_MAX     8u
#define STELE_CODE_N_MAX     40u
#define STELE_INLINE_MAX     65536u                             /* objects up to this lie in the record */
#define STELE_PIECES_MAX     1024u                              /* of one layout */
#define STELE_OBJECT_LEN_MAX ((uint64_t)STELE_PIECES_MAX * STELE_BLOCK_LEN_MAX)

/* Disk (DESIGN 5) */
#define STELE_PAGE           4096u                              /* O_DIRECT unit, batch alignment */
#define STELE_ENTRY_ALIGN    64u
#define STELE_META_MAX       (128u << 10)                       /* an entry's meta; footers apart */
#define STELE_EXTENT_LEN_DEV (64u << 20)
#define STELE_EXTENT_LEN     (1u << 30)
#define STELE_EXTENT_LEN_MIN (4u << 20)                         /* smallest, for tests */

/* Wire */
#define STELE_FRAME_HEAD_MAX (256u << 10)
#define STELE_FRAME_BODY_MAX (1u << 20)
#define STELE_DETAIL_WIRE_MAX 480u

/* Texts */
#define STELE_DEPOSIT_MAX    4096u                              /* bytes of a deposit's text */
#define STELE_MARK_MAX       8192u                              /* bytes of a mark's text */
#define STELE_NAME_MAX       64u                                /* pools, clients, nodes; with NUL */
#define STELE_PATH_MAX       4096u
#define STELE_MAP_MAX        (4u << 20)                         /* a cluster file */

/* Cluster */
#define STELE_POOLS_MAX      64u
#define STELE_NODES_MAX      1024u
#define STELE_DISKS_MAX      16384u
#define STELE_CLIENTS_MAX    1024u
#define STELE_PGS_MAX        65536u                             /* of one pool */
#define STELE_WINDOW_MAX     (STELE_CODE_N_MAX + STELE_CODE_M_MAX + 2u)

_Static_assert(STELE_CODE_K_MAX + STELE_CODE_M_MAX <= STELE_CODE_N_MAX, "n holds k and m");
_Static_assert(STELE_SHARD_LEN_MAX % STELE_CELL_LEN == 0, "whole cells");
_Static_assert(STELE_SHARD_LEN_MAX >= STELE_BLOCK_LEN_MAX, "rep-n keeps the block as its shard");
_Static_assert(STELE_INLINE_MAX + STELE_DEPOSIT_MAX + 64 + 40 * STELE_PIECES_MAX + 64 <=
		   STELE_META_MAX,
	       "a record fits an entry's meta");
_Static_assert(STELE_META_MAX <= STELE_FRAME_HEAD_MAX, "meta travels in a frame's head");
_Static_assert(STELE_CELL_LEN <= STELE_FRAME_BODY_MAX, "a cell fits a frame");

#endif
