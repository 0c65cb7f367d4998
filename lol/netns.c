/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The keeper of a VM's network namespace. It is forked into the namespace and answers one request after the other there:
 * an interface's name and address come, its descriptor goes back. The monitor itself stays in the host's network, where its
 * other cards, and gdb, have to be.
 */
#include "netns.h"

#include "child.h"
#include "fdpass.h"
#include "devices/net-tap.h"
#include "types.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TUN "/dev/net/tun"

struct request {
	char ifname[IFNAMSIZ];
	struct netns_shape shape;
};

enum step { NAMESPACE, OPEN, TAKE, SHAPE };

struct answer {
	enum step step; /* that failed */
	int error;
};

/* ---- the keeper ---- */

static struct ifreq named(const char *ifname)
{
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, ifname, strnlen(ifname, sizeof(ifr.ifr_name) - 1));
	return ifr;
}

static bool bring_up(int sock, const char *ifname)
{
	struct ifreq ifr = named(ifname);

	if (ioctl(sock, SIOCGIFFLAGS, &ifr) < 0)
		return false;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(sock, SIOCSIFFLAGS, &ifr) == 0;
}

static bool set_address(int sock, unsigned long what, const char *ifname, struct in_addr address)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
	struct ifreq ifr = named(ifname);

	memcpy(&ifr.ifr_addr, &in, sizeof(in));
	return ioctl(sock, what, &ifr) == 0;
}

static bool set_shape(int sock, const char *ifname, const struct netns_shape *shape)
{
	struct in_addr mask = {htonl((uint32_t)(UINT64_MAX << (32 - shape->prefix)))};
	struct ifreq ifr = named(ifname);

	ifr.ifr_mtu = (int)shape->mtu;
	return (!shape->mtu || !ioctl(sock, SIOCSIFMTU, &ifr)) &&
	       (!shape->address.s_addr || (set_address(sock, SIOCSIFADDR, ifname, shape->address) &&
					   set_address(sock, SIOCSIFNETMASK, ifname, mask))) &&
	       bring_up(sock, ifname);
}

static struct answer make_tap(int sock, const struct request *r, int *fd)
{
	bool there = if_nametoindex(r->ifname) != 0;

	*fd = open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0)
		return (struct answer){OPEN, errno};
	int ret = net_tap_take(*fd, r->ifname);
	if (ret)
		return (struct answer){TAKE, -ret};
	/* What the user has set there outlives a restart of the guest. */
	if (there)
		return (struct answer){.error = 0};
	if (ioctl(*fd, TUNSETPERSIST, 1) < 0)
		return (struct answer){TAKE, errno};
	return set_shape(sock, r->ifname, &r->shape) ? (struct answer){.error = 0} : (struct answer){SHAPE, errno};
}

static void __attribute__((noreturn)) keeper(int requests, uid_t uid, gid_t gid)
{
	struct request r;

	child_begin();
	prctl(PR_SET_NAME, "lol-netns");
	if (dup2(requests, 3) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(1);
	close(0);
	close(1);
	close(2);
	int sock = child_map_ids(0, 0, uid, gid) ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	bool ready = sock >= 0 && bring_up(sock, "lo");
	int why = errno;

	while (recv(3, &r, sizeof(r), 0) == sizeof(r)) {
		int fd = -1;
		struct answer a = ready ? make_tap(sock, &r, &fd) : (struct answer){NAMESPACE, why};
		if (fd_send(3, &a, sizeof(a), a.error ? -1 : fd) < 0)
			_exit(1);
		if (fd >= 0)
			close(fd);
	}
	_exit(0);
}

/* ---- the monitor's side ---- */

static int start(struct netns *n)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	int pid = (int)syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		keeper(pair[1], uid, gid);
	int ret = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (ret) {
		close(pair[0]);
		return ret;
	}
	*n = (struct netns){.pid = pid, .fd = pair[0]};
	return 0;
}

static struct answer ask(const struct netns *n, const struct request *r, int *fd)
{
	struct answer a;

	if (send(n->fd, r, sizeof(*r), MSG_NOSIGNAL) < 0)
		return (struct answer){NAMESPACE, errno};
	ssize_t got = fd_receive(n->fd, &a, sizeof(a), 0, fd);
	if (got != sizeof(a))
		return (struct answer){NAMESPACE, got < 0 ? errno : ECHILD};
	if (!a.error && *fd < 0)
		return (struct answer){OPEN, EMFILE};
	return a;
}

int netns_tap(struct netns *n, const char *ifname, const struct netns_shape *shape, int *fd, char err[DEVICE_ERR])
{
	struct request r = {.shape = *shape};
	struct answer a = {NAMESPACE, n->pid ? 0 : -start(n)};

	memcpy(r.ifname, ifname, strnlen(ifname, sizeof(r.ifname) - 1));
	if (!a.error)
		a = ask(n, &r, fd);
	if (!a.error)
		return 0;
	switch (a.step) {
	case NAMESPACE:
		device_error(
			err,
			"tap,netns=new: no namespace for you here: %s; let an administrator permit user namespaces, "
			"or make the interface, and leave netns= out",
			strerror(a.error));
		break;
	case OPEN:
		device_error(err, "tap,netns=new: " TUN ": %s; an administrator lets users open it: chmod 666 " TUN,
			     strerror(a.error));
		break;
	case TAKE:
		device_error(err, "tap,netns=new: interface %s: %s; choose another name, such as ifname=tap0", ifname,
			     strerror(a.error));
		break;
	case SHAPE:
		device_error(err, "tap,netns=new: interface %s: %s; choose another address, such as addr=10.0.0.1/24",
			     ifname, strerror(a.error));
		break;
	}
	return -a.error;
}

void netns_stop(struct netns *n)
{
	if (!n->pid)
		return;
	close(n->fd);
	kill(n->pid, SIGKILL);
	while (waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
		;
	*n = (struct netns){0};
}
