/* Reads the files that make up an Aerostat from the volume that the loader was started from. */
#include "boot/efi/loader.h"

#define FOLDER     "\\aerostat\\"
#define PATH_CHARS (sizeof(FOLDER) + HANDOFF_NAME_BYTES)
#define FILE_MAX   GIB(1)

void file_open_volume(struct loader *l)
{
	EFI_LOADED_IMAGE *loaded;
	EFI_FILE_IO_INTERFACE *volume;

	if (EFI_ERROR(BS->HandleProtocol(l->image, &LoadedImageProtocol, (void **)&loaded)))
		out_fatal("the firmware does not say where BOOTX64.EFI was loaded from");
	if (EFI_ERROR(BS->HandleProtocol(loaded->DeviceHandle, &FileSystemProtocol,
		    (void **)&volume)))
		out_fatal("BOOTX64.EFI was not loaded from a file system: start it from a FAT "
			  "volume that holds " FOLDER "aerostat.elf and aerostat.dtb");
	if (EFI_ERROR(volume->OpenVolume(volume, &l->root)))
		out_fatal("the boot volume cannot be opened: is its FAT file system damaged?");
}

static void wide_path(CHAR16 path[PATH_CHARS], const char *name)
{
	UINTN n = 0;

	for (const char *p = FOLDER; *p; p++)
		path[n++] = (CHAR16)*p;
	while (*name && n < PATH_CHARS - 1)
		path[n++] = (CHAR16)*name++;
	path[n] = 0;
}

/* Length of a plain, non-empty file. */
static uint64_t plain_length(EFI_FILE_HANDLE f, const char *name)
{
	EFI_FILE_INFO *info = LibFileInfo(f);

	if (!info)
		out_fatal(FOLDER "%a: the firmware cannot tell its length", name);
	uint64_t bytes = info->FileSize;
	bool folder = info->Attribute & EFI_FILE_DIRECTORY;

	FreePool(info);
	if (folder)
		out_fatal(FOLDER "%a is a folder: a file is needed there", name);
	if (bytes == 0)
		out_fatal(FOLDER "%a is empty: copy it to the boot volume again", name);
	if (bytes > FILE_MAX)
		out_fatal(FOLDER "%a is larger than 1 GiB: this cannot be the right file", name);
	return bytes;
}

void *file_read(struct loader *l, const char *name, enum handoff_mem_type type,
	const char *why, const char *node, uint64_t *bytes)
{
	CHAR16 path[PATH_CHARS];
	EFI_FILE_HANDLE f;

	wide_path(path, name);
	EFI_STATUS s = l->root->Open(l->root, &f, path, EFI_FILE_MODE_READ, 0);

	if (s == EFI_NOT_FOUND)
		out_fatal(FOLDER "%a is missing on the boot volume: %a%a", name, why, node);
	if (EFI_ERROR(s))
		out_fatal(FOLDER "%a cannot be opened (%r): is the boot volume damaged?", name, s);
	*bytes = plain_length(f, name);
	uint8_t *data = place_pages(l, *bytes, type, name);

	for (uint64_t done = 0; done < *bytes;) {
		UINTN n = *bytes - done;

		s = f->Read(f, &n, data + done);
		if (EFI_ERROR(s) || n == 0)
			out_fatal(FOLDER "%a cannot be read (%r): is the boot volume damaged?", name, s);
		done += n;
	}
	f->Close(f);
	return data;
}
