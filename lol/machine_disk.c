/* SPDX-License-Identifier: BSD-2-Clause */
/* --disk: raw files and block devices are opened here, other formats get a server of their own (storage.h). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/blk-image.h"
#include "devices/blk-nbd.h"
#include "devices/virtio-pmem.h"
#include "machine_int.h"

const char *disk_file(const struct lol_disk *disk)
{
	return disk->cow ? disk->cow : disk->path;
}

/* The disk's server and the connection to it. */
static int connect_storage(struct machine *m, struct storage *s, const struct lol_disk *disk, struct blk_nbd **nbd,
			   struct lol_error *err)
{
	char why[DEVICE_ERR] = "";
	int ret = storage_start(s, disk, err);

	if (ret)
		return ret;
	int fd = s->fd;
	s->fd = -1;
	*nbd = blk_nbd_open(m->loop, fd, STORAGE_EXPORT, why);
	return *nbd ? 0 : storage_error(s, disk, why, err);
}

/* ---- persistent memory ---- */

static int open_one(struct machine *m, const struct lol_disk *d, struct lol_error *err)
{
	struct guest_ram *ram = &m->ram;
	struct ram_pmem *p = &ram->pmem[ram->npmem];
	struct blk_image image;
	char why[DEVICE_ERR] = "";
	int ret;

	if (ram->npmem == RAM_PMEM_MAX)
		return lol_error(err, -ENOSPC, "disk %.600s: there are %u with ',pmem' already; this is the limit",
				 d->path, RAM_PMEM_MAX);
	if ((ret = blk_image_open(&image, d->path, d->ro, false, NULL, why)))
		return lol_error(err, ret, "%s", why);
	m->pmem_fd[ram->npmem] = image.fd; /* with its lock */
	uint64_t size = image.sectors << SECTOR_SHIFT;
	if (size % RAM_PMEM_UNIT)
		return lol_error(
			err, -EINVAL,
			"disk %.600s: the size of persistent memory is a multiple of 2 MiB; round up with 'truncate -s %%2M FILE'",
			d->path);
	/* Guest programs run from there. */
	void *test = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, image.fd, 0);
	if (test == MAP_FAILED)
		return lol_error(
			err, -errno,
			"disk %.600s: cannot be mapped executable: %s; is it on a file system mounted noexec? leave ',pmem' out",
			d->path, strerror(errno));
	munmap(test, PAGE_SIZE);
	p->gpa = ram->npmem ? ALIGN_UP(p[-1].gpa + p[-1].size, RAM_PMEM_ALIGN) : ram_pmem_base(ram);
	p->size = size;
	p->ro = d->ro;
	ram->npmem++;
	return 0;
}

int pmem_open(struct machine *m, struct lol_error *err)
{
	int ret = 0;

	for (unsigned i = 0; !ret && i < m->opts->ndisks; i++)
		if (m->opts->disks[i].pmem)
			ret = open_one(m, &m->opts->disks[i], err);
	return ret;
}

bool pmem_map(struct machine *m)
{
	for (unsigned i = 0; i < m->ram.npmem; i++) {
		const struct ram_pmem *p = &m->ram.pmem[i];
		if (mmap(m->ram.base + p->gpa, p->size, PROT_READ | (p->ro ? 0 : PROT_WRITE), MAP_SHARED | MAP_FIXED,
			 m->pmem_fd[i], 0) == MAP_FAILED)
			return false;
	}
	return true;
}

static int create_pmem(struct machine *m, const struct lol_disk *d, unsigned n, struct lol_error *err)
{
	const struct ram_pmem *p = &m->ram.pmem[n];
	struct pmem_config c = {.path = d->path, .fd = m->pmem_fd[n], .gpa = p->gpa, .size = p->size, .ro = p->ro};
	struct virtio_env env = machine_device_env(m);
	char why[DEVICE_ERR] = "";

	return machine_attach(m, virtio_pmem_create(&env, &c, why), why, err);
}

/* ---- all of them ---- */

int disks_create(struct machine *m, struct lol_error *err)
{
	for (unsigned i = 0; i < m->opts->ndisks; i++)
		m->storages[i] = STORAGE_NONE;
	m->ndisks = m->opts->ndisks;
	for (unsigned i = 0, pmems = 0; i < m->ndisks; i++) {
		const struct lol_disk *d = &m->opts->disks[i];
		if (d->pmem) {
			int r = create_pmem(m, d, pmems++, err);
			if (r)
				return r;
			continue;
		}
		struct blk_config c = {.path = disk_file(d),
				       .serial = d->serial,
				       .ro = d->ro,
				       .snapshot = d->snapshot,
				       .kept = &m->session->overlays[i]};
		struct virtio_env env = machine_device_env(m);
		char why[DEVICE_ERR] = "";
		int ret = storage_needed(d) ? connect_storage(m, &m->storages[i], d, &c.nbd, err) : 0;
		if (ret)
			return ret;
		m->disk_nbd[i] = c.nbd;
		m->disks[i] = virtio_blk_create(&env, &c, why);
		if ((ret = machine_attach(m, m->disks[i], why, err)))
			return ret;
	}
	return 0;
}

/* Only raw images can have changed; all of them are looked at before an error is told. */
int disks_resize(struct machine *m, struct lol_error *err)
{
	int ret = 0;

	for (unsigned i = 0; i < m->ndisks; i++) {
		char why[DEVICE_ERR] = "";
		int r = m->disks[i] && !storage_needed(&m->opts->disks[i]) && !m->opts->disks[i].snapshot
				? virtio_blk_resize(m->disks[i], why)
				: 0;
		if (r && !ret)
			ret = lol_error(err, r, "%s", why);
	}
	return ret;
}

int disk_find(const struct machine *m, const char *name)
{
	unsigned blocks = 0;
	int found = -1;

	for (unsigned i = 0; i < m->ndisks; i++) {
		const struct lol_disk *d = &m->opts->disks[i];
		if (!d->pmem && !strncmp(name, "vd", 2) && name[2] == (char)('a' + blocks++) && !name[3])
			return (int)i;
		if (!strcmp(name, disk_file(d)))
			found = found == -1 ? (int)i : -2; /* two with the same name are nobody's */
	}
	return MAX(found, -1);
}

static int resize_served(struct machine *m, unsigned disk, const char *path, uint64_t bytes, struct lol_error *err)
{
	struct storage *s = &m->storages[disk];
	char why[DEVICE_ERR] = "its server is lost";
	struct lol_error reason;
	int ret = storage_greet(s, &reason);

	if (ret)
		return lol_error(err, ret, "disk %.300s: %.300s; its size has not changed", path, reason.text);
	blk_nbd_disconnect(m->disk_nbd[disk]);
	ret = storage_resize(s, bytes, &reason);
	int fd = s->fd, r = fd < 0 ? ret : blk_nbd_reconnect(m->disk_nbd[disk], fd, STORAGE_EXPORT, why);
	s->fd = -1;
	if (r) {
		device_report(REPORT_WARNING, "disk %s: %s; the guest sees I/O errors", path,
			      fd < 0 ? reason.text : why);
		return lol_error(err, r, "disk %.300s: %.300s; the guest sees I/O errors until the VM is started again",
				 path, fd < 0 ? reason.text : why);
	}
	if (ret)
		return lol_error(err, ret, "disk %.300s: %.300s; its size has not changed", path, reason.text);
	ret = virtio_blk_resize(m->disks[disk], why);
	return ret ? lol_error(err, ret, "%s", why) : 0;
}

int disk_resize(struct machine *m, unsigned disk, uint64_t bytes, bool shrink, struct lol_error *err)
{
	const struct lol_disk *d = &m->opts->disks[disk];
	const char *path = disk_file(d);
	char why[DEVICE_ERR] = "";

	if (d->pmem || d->snapshot || d->ro)
		return lol_error(err, -EOPNOTSUPP,
				 "disk %.600s: with ',%s' its size cannot change; start the VM without", path,
				 d->pmem ? "pmem"
				 : d->ro ? "ro"
					 : "snapshot");
	if (!bytes || bytes % SECTOR_SIZE || bytes > INT64_MAX)
		return lol_error(err, -EINVAL, "disk %.600s: %llu bytes are not a size; give a multiple of 512", path,
				 (unsigned long long)bytes);
	if (bytes < disk_bytes(m, disk) && !shrink)
		return lol_error(err, -EINVAL,
				 "disk %.600s: has %llu bytes, what is behind the new end would be lost; add --shrink",
				 path, (unsigned long long)disk_bytes(m, disk));
	if (m->disk_nbd[disk])
		return resize_served(m, disk, path, bytes, err);
	int ret = virtio_blk_set_size(m->disks[disk], bytes, why);
	return ret ? lol_error(err, ret, "%s", why) : 0;
}

uint64_t disk_bytes(const struct machine *m, unsigned disk)
{
	unsigned n = 0;

	if (m->disks[disk])
		return virtio_blk_bytes(m->disks[disk]);
	for (unsigned i = 0; i < disk; i++)
		n += m->opts->disks[i].pmem;
	return m->ram.pmem[n].size;
}

/* What lol-init is told: the driver of persistent memory has no way to hear that it is not to be written. */
void disks_setup(const struct machine *m, FILE *out)
{
	for (unsigned i = 0; i < m->ram.npmem; i++)
		if (m->ram.pmem[i].ro)
			fprintf(out, "readonly /dev/pmem%u\n", i);
}

void disks_forget(struct session *s)
{
	for (unsigned i = 0; i < LOL_DISKS_MAX; i++)
		blk_overlay_forget(&s->overlays[i]);
}

void disks_destroy(struct machine *m)
{
	for (unsigned i = 0; i < m->ndisks; i++)
		storage_stop(&m->storages[i]);
	for (unsigned i = 0; i < RAM_PMEM_MAX; i++)
		if (m->pmem_fd[i] >= 0)
			close(m->pmem_fd[i]);
}
