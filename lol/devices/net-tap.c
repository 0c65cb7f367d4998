/* SPDX-License-Identifier: BSD-2-Clause */
#include "net-tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN "/dev/net/tun"
#define HDR sizeof(struct virtio_net_hdr_v1)
#define BIT(n) (UINT64_C(1) << (n))

struct tap {
	struct net_backend b;
	struct loop *loop;
	int fd;
	bool full;      /* the guest has no buffer for the frame in hand */
	bool send_wait; /* a frame of the guest waits for room */
	size_t len;     /* of the frame in hand with its header; 0: none */
	uint8_t frame[HDR + NET_FRAME_MAX];
};

static void watch(struct tap *t)
{
	loop_mod_fd(t->loop, t->fd, (t->full ? 0 : EPOLLIN) | (t->send_wait ? EPOLLOUT : 0));
}

/* Give the frame in hand to the guest; false when it has no room. */
static bool hand_over(struct tap *t)
{
	struct virtio_net_hdr_v1 hdr;

	memcpy(&hdr, t->frame, sizeof(hdr));
	if (!virtio_net_receive(t->b.dev, &hdr, t->frame + HDR, t->len - HDR))
		return false;
	t->len = 0;
	return true;
}

static void receive(struct tap *t)
{
	bool full = false;

	for (unsigned i = 0; i < NET_TURN_FRAMES && !full; i++) {
		if (!t->len) {
			ssize_t n = read(t->fd, t->frame, sizeof(t->frame));
			if (n <= 0)
				break;
			if ((size_t)n < HDR + NET_FRAME_MIN)
				continue;
			t->len = (size_t)n;
		}
		full = !hand_over(t);
	}
	if (full != t->full) {
		t->full = full;
		watch(t);
	}
	virtio_net_received(t->b.dev);
}

static void tap_event(void *arg, uint32_t events)
{
	struct tap *t = arg;

	if (events & EPOLLOUT && t->send_wait) {
		t->send_wait = false;
		watch(t);
		virtio_net_resume(t->b.dev);
	}
	/* An interface that was deleted reports errors without end. */
	if (events & (EPOLLERR | EPOLLHUP) && read(t->fd, t->frame, 1) < 0 && errno != EAGAIN && errno != EINTR) {
		device_report(REPORT_WARNING, "tap: %s: the interface is gone; the guest has no link any more",
			      strerror(errno));
		loop_del_fd(t->loop, t->fd);
		virtio_net_set_link(t->b.dev, false);
		return;
	}
	if (events & EPOLLIN)
		receive(t);
}

static bool tap_send(struct net_backend *b, const struct virtio_net_hdr_v1 *hdr, struct iovec *iov, unsigned count,
		     size_t len)
{
	struct tap *t = (struct tap *)b;
	struct iovec all[VIRTQ_SIZE_MAX + 1];
	(void)len;

	if (t->send_wait)
		return false;
	all[0] = (struct iovec){(void *)(uintptr_t)hdr, HDR};
	memcpy(all + 1, iov, count * sizeof(*iov));
	if (writev(t->fd, all, (int)count + 1) < 0 && (errno == EAGAIN || errno == EINTR)) {
		t->send_wait = true;
		watch(t);
		return false;
	}
	return true; /* EIO: the interface is not up; EINVAL: nonsense of the guest */
}

static void tap_rx_ready(struct net_backend *b)
{
	receive((struct tap *)b);
}

static void tap_agreed(struct net_backend *b, uint64_t features)
{
	struct tap *t = (struct tap *)b;
	unsigned offload = 0;

	if (features & BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		offload |= TUN_F_CSUM;
		offload |= features & BIT(VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0;
		offload |= features & BIT(VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0;
		if (offload & (TUN_F_TSO4 | TUN_F_TSO6) && features & BIT(VIRTIO_NET_F_GUEST_ECN))
			offload |= TUN_F_TSO_ECN;
	}
	ioctl(t->fd, TUNSETOFFLOAD, offload);
}

static void tap_destroy(struct net_backend *b)
{
	struct tap *t = (struct tap *)b;

	loop_del_fd(t->loop, t->fd);
	close(t->fd);
	free(t);
}

static const struct net_backend_ops tap_ops = {
	.send = tap_send, .rx_ready = tap_rx_ready, .agreed = tap_agreed, .destroy = tap_destroy};

struct net_backend *net_tap_on_fd(struct loop *loop, int fd, char err[DEVICE_ERR])
{
	struct tap *t = calloc(1, sizeof(*t));
	int r = t ? loop_add_fd(loop, fd, 0, tap_event, t) : -ENOMEM; /* not read before the guest has buffers */

	if (r) {
		device_error(err, "tap: %s; close some files or programs", strerror(-r));
		close(fd);
		free(t);
		return NULL;
	}
	t->loop = loop;
	t->fd = fd;
	t->full = true;
	t->b = (struct net_backend){.ops = &tap_ops,
				    .features = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
						BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
						BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
						BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN)};
	return &t->b;
}

int net_tap_take(int fd, const char *ifname)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = HDR, little_endian = 1;

	strncpy(ifr.ifr_name, ifname, sizeof(ifr.ifr_name) - 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
		if (errno != EINVAL || ioctl(fd, TUNSETIFF, &ifr) < 0)
			return -errno;
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETVNETLE, &little_endian) < 0 ||
	    ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return -errno;
	return 0;
}

static void say_why(int error, const char *ifname, char err[DEVICE_ERR])
{
	unsigned uid = (unsigned)geteuid();

	switch (error) {
	case ENODEV:
		device_error(
			err,
			"tap interface %s: there is none; an administrator makes it: ip tuntap add mode tap user %u "
			"name %s",
			ifname, uid, ifname);
		break;
	case EPERM:
	case EACCES:
		device_error(err,
			     "tap interface %s: it is not user %u's; an administrator gives it to you: ip tuntap add "
			     "mode tap user %u name %s",
			     ifname, uid, uid, ifname);
		break;
	case EBUSY:
		device_error(err, "tap interface %s: in use by another program; end that or take another interface",
			     ifname);
		break;
	case EINVAL:
		device_error(err, "tap interface %s: no tap interface but something else; name one of 'ip tuntap list'",
			     ifname);
		break;
	default:
		device_error(err, "tap interface %s: %s; look at it with 'ip -d link show %s'", ifname, strerror(error),
			     ifname);
	}
}

struct net_backend *net_tap_open(struct loop *loop, const char *ifname, char err[DEVICE_ERR])
{
	int fd;

	if (!if_nametoindex(ifname)) { /* who may would make it otherwise, and take it away at the end */
		say_why(ENODEV, ifname, err);
		return NULL;
	}
	fd = open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		device_error(err, "tap interface %s: " TUN ": %s; an administrator lets users open it: chmod 666 " TUN,
			     ifname, strerror(errno));
		return NULL;
	}
	int r = net_tap_take(fd, ifname);
	if (r) {
		close(fd);
		say_why(-r, ifname, err);
		return NULL;
	}
	return net_tap_on_fd(loop, fd, err);
}
