/* The sponge around nettle's Keccak-f[1600]: absorbing and padding. The permutation is nettle's. */
#include "storage/ledger/keccak.h"

void stele_keccak_init(struct stele_keccak *k)
{
	memset(k, 0, sizeof(*k));
}

static void absorb(struct stele_keccak *k, const uint8_t *block)
{
	for (size_t i = 0; i < STELE_KECCAK_RATE / 8; i++)
		k->state.a[i] ^= stele_le64(block + 8 * i);
	sha3_permute(&k->state);
}

void stele_keccak_update(struct stele_keccak *k, const void *data, size_t len)
{
	const uint8_t *p = data;
	if (len == 0)
		return;
	if (k->have) {
		size_t take = STELE_KECCAK_RATE - k->have;
		if (take > len)
			take = len;
		memcpy(k->block + k->have, p, take);
		k->have += take;
		p += take;
		len -= take;
		if (k->have < STELE_KECCAK_RATE)
			return;
		absorb(k, k->block);
		k->have = 0;
	}
	for (; len >= STELE_KECCAK_RATE; p += STELE_KECCAK_RATE, len -= STELE_KECCAK_RATE)
		absorb(k, p);
	if (len)
		memcpy(k->block, p, len);
	k->have = len;
}

void stele_keccak_final(struct stele_keccak *k, struct stele_hash *out)
{
	memset(k->block + k->have, 0, STELE_KECCAK_RATE - k->have);
	k->block[k->have] = 0x01;
	k->block[STELE_KECCAK_RATE - 1] |= 0x80;
	absorb(k, k->block);
	for (size_t i = 0; i < STELE_HASH_LEN / 8; i++)
		stele_put_le64(out->b + 8 * i, k->state.a[i]);
}

void stele_keccak256(const void *data, size_t len, struct stele_hash *out)
{
	struct stele_keccak k;
	stele_keccak_init(&k);
	stele_keccak_update(&k, data, len);
	stele_keccak_final(&k, out);
}
