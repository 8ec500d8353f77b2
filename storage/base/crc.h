/* CRC-32C (Castagnoli; RFC 3720 B.4), through ISA-L: 30 GB/s a core. For cheap scrubbing only:
 * integrity against anyone who means harm is SHA-256's. */
#ifndef STELE_BASE_CRC_H
#define STELE_BASE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* crc of a followed by b = stele_crc32c(b, len, stele_crc32c(a, len, 0)). */
uint32_t stele_crc32c(const void *data, size_t len, uint32_t crc);

#endif
