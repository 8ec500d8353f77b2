/*
 * Framed snappy (google/snappy, framing_format.txt, 2014): what e2store files hold. Strict: the
 * stream identifier first, every chunk's masked CRC-32C checked, nothing behind the last chunk.
 * Thread: any.
 */
#ifndef STORAGE_LEDGER_SNAPPY_FRAME_H
#define STORAGE_LEDGER_SNAPPY_FRAME_H

#include "storage/base/bytes.h"

/* Bytes that a framed stream inflates to, by its chunks' own words (each is held to them when it is
 * inflated). CORRUPT: not framed snappy, or more than max. */
STELE_MUST_USE enum stele_err stele_snappy_frame_length(const void *bytes, size_t len, size_t max,
                                                        size_t *out);
/* Inflates into out, which holds exactly the length said by stele_snappy_frame_length. CORRUPT
 * names the chunk. */
STELE_MUST_USE enum stele_err stele_snappy_frame_inflate(const void *bytes, size_t len,
                                                         uint8_t *out, size_t out_len);
/* Makes a framed stream; *out is the caller's, to be freed with free(). NOMEM. */
STELE_MUST_USE enum stele_err stele_snappy_frame_deflate(const void *bytes, size_t len,
                                                         uint8_t **out, size_t *out_len);

#endif
