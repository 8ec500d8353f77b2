/* CRC-32C through ISA-L. Its one other user is erasure/gf256.c. */
#include "storage/base/crc.h"

#include <isa-l/crc.h>

uint32_t stele_crc32c(const void *data, size_t len, uint32_t crc)
{
	const size_t chunk_max = (size_t)1 << 30; /* ISA-L's length is an int */
	const unsigned char *p = data;
	unsigned state = ~crc; /* ISA-L leaves the inversions to its caller */
	while (len) {
		size_t take = len < chunk_max ? len : chunk_max;
		state = crc32_iscsi((unsigned char *)p, (int)take, state);
		p += take;
		len -= take;
	}
	return ~state;
}
