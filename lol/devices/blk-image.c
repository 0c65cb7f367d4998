/* SPDX-License-Identifier: BSD-2-Clause */
#include "blk-image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(const char *path, bool ro, char err[DEVICE_ERR])
{
	/* Non-blocking only so that a FIFO cannot hold us up: io_uring would answer EAGAIN instead of waiting for the disk. */
	int fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0) {
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
		return fd;
	}
	int r = -errno;
	if (r == -EISDIR)
		device_error(err, "disk %s: is a directory; give an image file or a block device", path);
	else if ((r == -EACCES || r == -EROFS || r == -EPERM) && !ro && access(path, R_OK) == 0)
		device_error(err, "disk %s: not writable; add ',ro' or ',snapshot', or get write permission", path);
	else if (r == -ENOENT)
		device_error(err,
			     "disk %s: no such file; make one with 'truncate -s 2G FILE' or 'lol-guest image build'",
			     path);
	else
		device_error(err, "disk %s: cannot open: %s", path, strerror(-r));
	return r;
}

/* QEMU's bytes: who reads, writes or resizes holds the first, who forbids others to do that the second (block/file-posix.c). */
enum { QEMU_READS = 100, QEMU_WRITES = 101, QEMU_RESIZES = 103, QEMU_NO_WRITER = 201, QEMU_NO_RESIZER = 203 };

static int lock_byte(int fd, int byte)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	return fcntl(fd, F_OFD_SETLK, &lock);
}

/* As lock_byte(): -1 with EAGAIN where somebody else has it. */
static int test_byte(int fd, int byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	if (fcntl(fd, F_OFD_GETLK, &lock))
		return -1;
	errno = EAGAIN;
	return lock.l_type == F_UNLCK ? 0 : -1;
}

static int lock_all(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	return fcntl(fd, F_OFD_SETLK, &lock);
}

/*
 * Open file description locks, which go when the last copy of the descriptor is closed: a writer has the whole file and excludes
 * everybody else; readers have what QEMU's readers have, so that one image can be a disk here and a backing file there.
 */
static int lock_file(int fd, bool shared, const char *path, char err[DEVICE_ERR])
{
	if (shared ? !lock_byte(fd, QEMU_READS) && !lock_byte(fd, QEMU_NO_WRITER) && !lock_byte(fd, QEMU_NO_RESIZER) &&
			     !test_byte(fd, QEMU_WRITES) && !test_byte(fd, QEMU_RESIZES)
		   : !lock_all(fd))
		return 0;
	if (errno != EAGAIN && errno != EACCES) {
		device_report(REPORT_VERBOSE,
			      "disk %s: its file system has no locks (%s): a second writer goes unnoticed", path,
			      strerror(errno));
		return 0;
	}
	device_error(
		err,
		shared ? "disk %s: another process has it open for writing; stop that VM, or use a copy of the file"
		       : "disk %s: in use by another process; stop that VM, or add ',ro' or ',snapshot' to both",
		path);
	return -EBUSY;
}

static int measure(struct blk_image *image, const char *path, char err[DEVICE_ERR])
{
	struct stat st;
	uint64_t bytes = 0;
	int block = SECTOR_SIZE;
	if (fstat(image->fd, &st)) {
		int r = -errno;
		device_error(err, "disk %s: %s", path, strerror(-r));
		return r;
	}
	if (S_ISREG(st.st_mode)) {
		bytes = (uint64_t)st.st_size;
	} else if (S_ISBLK(st.st_mode)) {
		if (ioctl(image->fd, BLKGETSIZE64, &bytes) || ioctl(image->fd, BLKSSZGET, &block)) {
			int r = -errno;
			device_error(err, "disk %s: cannot get the size of the device: %s", path, strerror(-r));
			return r;
		}
	} else {
		device_error(err, "disk %s: %s; give an image file or a block device", path,
			     S_ISDIR(st.st_mode) ? "is a directory" : "is neither a file nor a block device");
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	if (!bytes) {
		device_error(err, "disk %s: is empty; give it a size with 'truncate -s 2G FILE'", path);
		return -EINVAL;
	}
	if (bytes % SECTOR_SIZE) {
		device_error(err,
			     "disk %s: %llu bytes are not a multiple of 512; round up with 'truncate -s %%512 FILE'",
			     path, (unsigned long long)bytes);
		return -EINVAL;
	}
	image->sectors = bytes >> SECTOR_SHIFT;
	image->block_size = (uint32_t)block;
	return 0;
}

void blk_overlay_forget(struct blk_overlay *kept)
{
	if (!kept->there)
		return;
	close(kept->fd);
	if (kept->lock_fd >= 0)
		close(kept->lock_fd);
	free(kept->overlaid);
	*kept = (struct blk_overlay){0};
}

static void keep_overlay(struct blk_image *image)
{
	*image->kept = (struct blk_overlay){true, image->overlay_fd, image->fd, image->overlaid, image->sectors};
	image->fd = image->overlay_fd = -1;
	image->overlaid = NULL;
}

/* An overlay of an image that has another size now says nothing about it. */
static bool take_overlay(struct blk_image *image)
{
	struct blk_overlay *k = image->kept;
	if (!k || !k->there)
		return false;
	if (k->sectors != image->sectors) {
		blk_overlay_forget(k);
		return false;
	}
	image->overlay_fd = k->fd;
	image->overlaid = k->overlaid;
	if (k->lock_fd >= 0)
		close(k->lock_fd);
	*k = (struct blk_overlay){0};
	return true;
}

static int open_overlay(struct blk_image *image, struct blk_overlay *kept, char err[DEVICE_ERR])
{
	image->kept = kept;
	if (take_overlay(image))
		return 0;
	const char *dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/var/tmp"; /* it may become large: not /tmp, which is often memory */
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd < 0) {
		char name[4096];
		snprintf(name, sizeof(name), "%s/lol-overlay-XXXXXX", dir);
		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			unlink(name);
	}
	if (fd < 0) {
		int r = -errno;
		device_error(err, "no temporary file for ',snapshot' in %s: %s; set TMPDIR to a directory with room",
			     dir, strerror(-r));
		return r;
	}
	image->overlay_fd = fd;
	image->overlaid = calloc((image->sectors + 63) / 64, sizeof(uint64_t));
	if (ftruncate(fd, (off_t)(image->sectors << SECTOR_SHIFT)) || !image->overlaid) {
		int r = image->overlaid ? -errno : -ENOMEM;
		device_error(err, "no temporary file for ',snapshot' in %s: %s", dir, strerror(-r));
		return r;
	}
	return 0;
}

int blk_image_open(struct blk_image *image, const char *path, bool ro, bool snapshot, struct blk_overlay *kept,
		   char err[DEVICE_ERR])
{
	*image = (struct blk_image){.fd = -1, .overlay_fd = -1, .ro = ro};
	bool host_ro = ro || snapshot;
	image->fd = open_file(path, host_ro, err);
	int r = image->fd < 0 ? image->fd : measure(image, path, err);
	if (!r)
		r = lock_file(image->fd, host_ro, path, err);
	if (!r && snapshot && !ro)
		r = open_overlay(image, kept, err);
	if (r)
		blk_image_close(image);
	return r;
}

int blk_image_attach(struct blk_image *image, struct blk_nbd *nbd, const char *path, bool ro, bool snapshot,
		     struct blk_overlay *kept, char err[DEVICE_ERR])
{
	*image = (struct blk_image){.fd = BLK_FD_NBD, .overlay_fd = -1, .nbd = nbd, .ro = ro};
	image->sectors = blk_nbd_size(nbd) >> SECTOR_SHIFT;
	image->block_size = SECTOR_SIZE;
	int r = 0;
	if (!image->sectors) {
		device_error(err, "disk %s: is empty; give it a size with 'qemu-img resize'", path);
		r = -EINVAL;
	}
	if (!r && snapshot && !ro)
		r = open_overlay(image, kept, err);
	if (r)
		blk_image_close(image);
	return r;
}

int blk_image_set_size(struct blk_image *image, const char *path, uint64_t bytes, char err[DEVICE_ERR])
{
	struct stat st;
	if (fstat(image->fd, &st) == 0 && !S_ISREG(st.st_mode)) {
		device_error(
			err,
			"disk %s: is a device; change its size by what has made it, then 'lolctl disks NAME' tells the guest",
			path);
		return -EINVAL;
	}
	if (ftruncate(image->fd, (off_t)bytes)) {
		int r = -errno;
		device_error(err, "disk %s: cannot have %llu bytes: %s; is there room for it?", path,
			     (unsigned long long)bytes, strerror(-r));
		return r;
	}
	return 0;
}

int blk_image_remeasure(struct blk_image *image, const char *path, char err[DEVICE_ERR])
{
	uint64_t before = image->sectors;
	if (image->overlaid) {
		device_error(err, "disk %s: with ',snapshot' its size cannot change; start the VM without", path);
		return -EOPNOTSUPP;
	}
	int r = 0;
	if (image->nbd)
		image->sectors = blk_nbd_size(image->nbd) >> SECTOR_SHIFT;
	else
		r = measure(image, path, err);
	return r ? r : image->sectors != before;
}

void blk_image_close(struct blk_image *image)
{
	blk_nbd_close(image->nbd);
	if (image->kept && image->overlaid)
		keep_overlay(image);
	if (image->fd >= 0)
		close(image->fd);
	if (image->overlay_fd >= 0)
		close(image->overlay_fd);
	free(image->overlaid);
	*image = (struct blk_image){.fd = -1, .overlay_fd = -1};
}

static bool overlaid(const struct blk_image *image, uint64_t sector)
{
	return image->overlaid[sector / 64] >> (sector % 64) & 1;
}

uint64_t blk_image_locate(const struct blk_image *image, uint64_t sector, uint64_t count, int *fd)
{
	*fd = image->fd;
	if (!image->overlaid)
		return count;
	bool in = overlaid(image, sector);
	uint64_t same = in ? UINT64_MAX : 0, n = 1;
	if (in)
		*fd = image->overlay_fd;
	while (n < count) {
		uint64_t at = sector + n;
		if (at % 64 == 0 && count - n >= 64 && image->overlaid[at / 64] == same)
			n += 64;
		else if (overlaid(image, at) == in)
			n++;
		else
			break;
	}
	return n;
}

int blk_image_write_fd(const struct blk_image *image)
{
	return image->overlaid ? image->overlay_fd : image->fd;
}

void blk_image_written(struct blk_image *image, uint64_t sector, uint64_t count)
{
	if (!image->overlaid)
		return;
	while (count) {
		if (sector % 64 == 0 && count >= 64) {
			image->overlaid[sector / 64] = UINT64_MAX;
			sector += 64;
			count -= 64;
		} else {
			image->overlaid[sector / 64] |= UINT64_C(1) << (sector % 64);
			sector++;
			count--;
		}
	}
}
