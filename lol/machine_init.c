/* SPDX-License-Identifier: BSD-2-Clause */
/* The initrd, and lol-init beside it where COMMAND is to be run or a host directory is the root. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine_int.h"
#include "paths.h"

/*
 * Nothing on the host changes it, so far as the guest knows: everything that was read stays cached, although diod gives no
 * versions of files (ignoreqv). Extended attributes would cost a question to the server for each file that overlayfs looks up.
 */
#define ROOT_FLAGS "trans=virtio,version=9p2000.L,msize=65536,cache=loose,ignoreqv,access=any,noxattr"

int init_map_file(const char *path, struct loader_blob *blob, struct lol_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
	struct stat st;

	if (fd < 0)
		return lol_error(err, -errno, "%s: %s; check the path and its permissions", path, strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		close(fd);
		return lol_error(err, -EINVAL,
				 "%s: is %s; an initrd is a cpio archive (lol-guest initrd build makes one)", path,
				 S_ISREG(st.st_mode) ? "empty" : "not a regular file");
	}
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	int e = errno;
	close(fd);
	if (p == MAP_FAILED)
		return lol_error(err, -e, "%s: %s", path, strerror(e));
	*blob = (struct loader_blob){p, (size_t)st.st_size};
	return 0;
}

int init_archive(struct machine *m, struct lol_error *err)
{
	struct loader_blob prog;
	char *path = paths_helper("lol-init");
	int ret;

	if (!path)
		return lol_error(err, -ENOENT, "lol-init: not found; install LoL again");
	ret = init_map_file(path, &prog, err);
	free(path);
	if (ret)
		return ret;
	cpio_begin(&m->init);
	cpio_add_dir(&m->init, "dev", 0755);
	cpio_add_node(&m->init, "dev/console", S_IFCHR | 0600, 5, 1);
	cpio_add_file(&m->init, "lol-init", 0755, prog.data, prog.size);
	if (m->setup_len)
		cpio_add_file(&m->init, "lol-setup", 0600, m->setup, m->setup_len);
	ret = cpio_end(&m->init);
	munmap((void *)prog.data, prog.size);
	return ret ? lol_error(err, ret, "initrd: %s", strerror(-ret)) : 0;
}

/* The value of KEY= in a command line, as a pointer into it with its length; NULL: absent. */
static const char *value_of(const char *cmdline, const char *key, int *len)
{
	size_t k = strlen(key);

	for (const char *p = cmdline; p && *p; p = strchr(p, ' ')) {
		p += strspn(p, " ");
		if (!strncmp(p, key, k)) {
			*len = (int)strcspn(p + k, " ");
			return p + k;
		}
	}
	return NULL;
}

int init_command_line(struct machine *m, char *out, size_t size)
{
	const char *append = m->opts->append ? m->opts->append : "", *root;
	int len, n = 0;

	if (!m->opts->command && !m->opts->rootfs)
		return 0;
	n = snprintf(out, size, " rdinit=/lol-init");
	if (n >= (int)size || value_of(append, "lol.root=", &len))
		return n;
	root = value_of(append, "root=", &len);
	if (m->opts->rootfs)
		n += snprintf(out + n, size - (size_t)n,
			      " lol.root=" SHARE_ROOT_TAG " lol.rootfstype=9p lol.overlay lol.rootflags=" ROOT_FLAGS);
	else if (root)
		n += snprintf(out + n, size - (size_t)n, " lol.root=%.*s", len, root);
	else if (m->opts->ndisks && !m->opts->initrd)
		n += snprintf(out + n, size - (size_t)n, " lol.root=%s",
			      m->opts->disks[0].pmem ? "/dev/pmem0" : "/dev/vda");
	return n;
}
