/* SPDX-License-Identifier: BSD-2-Clause */
/* The network cards of a VM: which back-end, which address; and what the guest kernel is told about them. Its vsock. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/net-stream.h"
#include "devices/net-tap.h"
#include "devices/net-user.h"
#include "devices/virtio-net.h"
#include "devices/virtio-vsock.h"
#include "machine_int.h"

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

/*
 * A card's own address: the same at each start of a named VM, and another one for each VM and card. A VM without a name has
 * that of its process: the number, and when it was started, for other hosts have the same numbers.
 */
static void default_mac(const struct machine *m, unsigned card, uint8_t mac[6])
{
	char host[256] = "";
	struct stat self;
	uint64_t h = 0xcbf29ce484222325ull;

	gethostname(host, sizeof(host) - 1);
	h = hash(h, host, strlen(host));
	if (m->opts->name) {
		uid_t uid = getuid(); /* a name is one user's */
		h = hash(hash(h, m->opts->name, strlen(m->opts->name)), &uid, sizeof(uid));
	} else {
		pid_t pid = getpid();
		h = hash(h, &pid, sizeof(pid));
		if (!stat("/proc/self", &self))
			h = hash(h, &self.st_ctim, sizeof(self.st_ctim));
	}
	h = hash(h, &card, sizeof(card));
	h ^= h >> 32;
	memcpy(mac, (uint8_t[]){0x52, 0x54}, 2); /* locally administered, one card's */
	memcpy(mac + 2, &h, 4);
}

/* A tap interface in the VM's own namespace, which lives as long as the session. */
static struct net_backend *open_own_tap(struct machine *m, const struct lol_net *net, char why[DEVICE_ERR])
{
	struct netns *netns = &m->session->netns;
	struct netns_shape shape = {net->addr, net->addr_prefix, net->mtu};
	bool first = !netns->pid;
	int fd;

	if (netns_tap(netns, net->ifname, &shape, &fd, why))
		return NULL;
	if (first && m->opts->verbosity > 0)
		fprintf(stderr,
			"lol-run: network namespace: nsenter --preserve-credentials -t %d -U -n COMMAND runs a program there\n",
			netns->pid);
	return net_tap_on_fd(m->loop, fd, why);
}

static struct net_backend *open_backend(struct machine *m, const struct lol_net *net, char why[DEVICE_ERR])
{
	struct net_forward forwards[LOL_HOSTFWDS_MAX];

	if (net->own_netns)
		return open_own_tap(m, net, why);
	if (net->kind == NET_TAP)
		return net_tap_open(m->loop, net->ifname, why);
	if (net->kind == NET_STREAM)
		return net_stream_open(m->loop, net->path, why);
	for (unsigned i = 0; i < net->nhostfwds; i++) {
		const struct lol_hostfwd *f = &net->hostfwds[i];
		forwards[i] = (struct net_forward){f->udp, f->host_addr, f->host_port, f->guest_port};
	}
	return net_user_open(m->loop, (uint16_t)net->mtu, forwards, net->nhostfwds, why);
}

static int vsock_create(struct machine *m, struct lol_error *err)
{
	struct virtio_env env = machine_device_env(m);
	char why[DEVICE_ERR] = "";

	if (!m->opts->vsock.path)
		return 0;
	return machine_attach(m, virtio_vsock_create(&env, m->opts->vsock.path, m->opts->vsock.cid, why), why, err);
}

int net_create(struct machine *m, struct lol_error *err)
{
	for (unsigned i = 0; i < m->opts->nnets; i++) {
		const struct lol_net *net = &m->opts->nets[i];
		struct net_config c = {.mtu = (uint16_t)net->mtu,
				       .pairs = MIN(net->queues ? net->queues : m->opts->cpus, NET_PAIRS_MAX)};
		struct virtio_env env = machine_device_env(m);
		char why[DEVICE_ERR] = "";

		if (net->kind == NET_NONE)
			continue;
		c.backend = open_backend(m, net, why);
		if (!c.backend)
			return lol_error(err, -EINVAL, "%s", why);
		if (net->has_mac)
			memcpy(c.mac, net->mac, sizeof(c.mac));
		else
			default_mac(m, i, c.mac);
		int ret = machine_attach(m, virtio_net_create(&env, &c, why), why, err);
		if (ret)
			return ret;
	}
	return vsock_create(m, err);
}

/* COMMAND finds the network up: the kernel itself asks for an address, lol-init makes its name server known. */
int net_command_line(struct machine *m, char *out, size_t size)
{
	const char *append = m->opts->append ? m->opts->append : "";
	unsigned card = 0;

	if (!m->opts->command || !strncmp(append, "ip=", 3) || strstr(append, " ip="))
		return 0;
	for (unsigned i = 0; i < m->opts->nnets; i++) {
		if (m->opts->nets[i].kind == NET_USER)
			return snprintf(out, size, " ip=:::::eth%u:dhcp", card);
		card += m->opts->nets[i].kind != NET_NONE;
	}
	return 0;
}
