/* SPDX-License-Identifier: BSD-2-Clause */
/* --disk: raw files and block devices are opened here, other formats get a server of their own (storage.h). */
#include <errno.h>
#include <string.h>

#include "devices/blk-nbd.h"
#include "machine_int.h"

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

int disks_create(struct machine *m, struct lol_error *err)
{
	for (unsigned i = 0; i < m->opts->ndisks; i++)
		m->storages[i] = (struct storage){.pid = -1, .fd = -1, .errors = -1};
	m->ndisks = m->opts->ndisks;
	for (unsigned i = 0; i < m->ndisks; i++) {
		const struct lol_disk *d = &m->opts->disks[i];
		struct blk_config c = {
			.path = d->cow ? d->cow : d->path, .serial = d->serial, .ro = d->ro, .snapshot = d->snapshot};
		struct virtio_env env = machine_device_env(m);
		char why[DEVICE_ERR] = "";
		int ret = storage_needed(d) ? connect_storage(m, &m->storages[i], d, &c.nbd, err) : 0;
		if (ret)
			return ret;
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

void disks_destroy(struct machine *m)
{
	for (unsigned i = 0; i < m->ndisks; i++)
		storage_stop(&m->storages[i]);
}
