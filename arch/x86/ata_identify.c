/* Pure. */
#include "arch/x86/ata_identify.h"
#include "vmm/base/string.h"

#define WORD_MODEL          27u
#define MODEL_WORDS         20u
#define WORD_MULTIPLE       47u
#define WORD_CAPABILITIES   49u
#define WORD_SECTORS28      60u
#define WORD_COMMANDS       83u
#define WORD_SECTORS48      100u
#define CAPABILITY_LBA      (1u << 9)
#define CAPABILITY_DMA      (1u << 8)
#define COMMANDS_VALID_MASK 0xc000u
#define COMMANDS_VALID      0x4000u
#define COMMANDS_LBA48      (1u << 10)
#define LBA28_SECTORS_MAX   (1ull << 28)
#define LBA48_SECTORS_MAX   (1ull << 48)

/* Two characters a word, high byte first, padded with blanks. */
static void decode_model(const uint16_t *words, char *out)
{
	size_t end = 0;

	for (size_t i = 0; i < MODEL_WORDS * 2; i++) {
		uint16_t word = words[WORD_MODEL + i / 2];
		char c = (char)(i & 1 ? word & 0xff : word >> 8);

		out[i] = c >= ' ' && c < 0x7f ? c : ' ';
		if (out[i] != ' ')
			end = i + 1;
	}
	out[end] = 0;
}

void ata_identify_decode(const uint16_t words[ATA_IDENTIFY_WORDS], struct ata_geometry *out)
{
	uint64_t sectors = words[WORD_SECTORS28] | (uint64_t)words[WORD_SECTORS28 + 1] << 16;

	*out = (struct ata_geometry){ .block_sectors = words[WORD_MULTIPLE] & 0xff };
	decode_model(words, out->model);
	if (!(words[WORD_CAPABILITIES] & CAPABILITY_LBA))
		return;
	out->sector_count = MIN(sectors, LBA28_SECTORS_MAX);
	out->dma = words[WORD_CAPABILITIES] & CAPABILITY_DMA;
	if ((words[WORD_COMMANDS] & COMMANDS_VALID_MASK) != COMMANDS_VALID ||
		!(words[WORD_COMMANDS] & COMMANDS_LBA48))
		return;
	sectors = 0;
	for (uint32_t i = 0; i < 4; i++)
		sectors |= (uint64_t)words[WORD_SECTORS48 + i] << (16 * i);
	if (sectors) {
		out->lba48 = true;
		out->sector_count = MIN(sectors, LBA48_SECTORS_MAX);
	}
}

static void append(char *out, const char *word)
{
	size_t n = strlen(out);

	if (n && n + 2 < ATA_ERROR_TEXT_BYTES) {
		out[n++] = ',';
		out[n++] = ' ';
		out[n] = 0;
	}
	(void)str_copy(out + n, ATA_ERROR_TEXT_BYTES - n, word);
}

void ata_error_text(uint8_t status, uint8_t error, char out[ATA_ERROR_TEXT_BYTES])
{
	static const struct {
		uint8_t bit;
		const char *word;
	} errors[] = {
		{ 0x80, "bad CRC" }, { 0x40, "uncorrectable data" }, { 0x20, "medium changed" },
		{ 0x10, "no such sector" }, { 0x04, "aborted" },
	};

	out[0] = 0;
	if (status & 0x80)
		append(out, "busy for too long");
	else if (status & 0x20)
		append(out, "device fault");
	if (!(status & 0x80) && status & 0x01)
		for (size_t i = 0; i < ARRAY_COUNT(errors); i++)
			if (error & errors[i].bit)
				append(out, errors[i].word);
	if (!out[0])
		append(out, status & 0x08 ? "data left over" : "no data offered");
}
