/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values with an inner structure. A specification is a list separated by commas, as in "root.img,ro,serial=S1"; a comma
 * that belongs to a name is written twice. The texts in *err are "WHY; HINT": the caller puts the option in front.
 */
#include "options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

int parse_size(const char *text, uint64_t plain_unit, uint64_t *bytes, struct lol_error *err)
{
	static const char letters[] = "KMGT";
	const char *p = text;
	uint64_t number = 0, unit = plain_unit;

	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			return lol_error(err, -ERANGE, "no machine has that much; give a size such as 512M or 2G");
	const char *letter = *p ? strchr(letters, toupper((unsigned char)*p)) : NULL;
	if (letter)
		unit = 1ull << (10 * (letter - letters + 1));
	if (p == text || (letter ? p[1] : p[0]))
		return lol_error(err, -EINVAL, "not a size; give a whole number and K, M, G or T, such as 512M or 2G");
	if (__builtin_mul_overflow(number, unit, bytes))
		return lol_error(err, -ERANGE, "no machine has that much; give a size such as 512M or 2G");
	return 0;
}

int parse_number(const char *text, unsigned min, unsigned max, unsigned *number, struct lol_error *err)
{
	uint64_t value = 0;
	const char *p = text;

	for (; isdigit((unsigned char)*p) && value <= UINT32_MAX; p++)
		value = value * 10 + (uint64_t)(*p - '0');
	if (p == text || *p || value < min || value > max)
		return lol_error(err, -EINVAL, "not a whole number from %u to %u; give one, such as %u", min, max,
				 MAX(min, 1u));
	*number = (unsigned)value;
	return 0;
}

int parse_bool(const char *text, bool *value, struct lol_error *err)
{
	static const char *const words[][2] = {{"no", "yes"}, {"off", "on"}, {"false", "true"}};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		for (int v = 0; v < 2; v++)
			if (!strcasecmp(text, words[i][v])) {
				*value = v;
				return 0;
			}
	return lol_error(err, -EINVAL, "neither yes nor no; write one of them");
}

static int no_memory(struct lol_error *err)
{
	return lol_error(err, -ENOMEM, "out of memory; end other programs");
}

/* Ends the item at *cursor at its comma, makes ",," one comma, and steps *cursor to the next item or to NULL. */
static char *next_item(char **cursor)
{
	char *item = *cursor, *to = item, *from = item;

	for (; *from; *to++ = *from++)
		if (from[0] == ',') {
			if (from[1] != ',')
				break;
			from++;
		}
	*cursor = *from ? from + 1 : NULL;
	*to = 0;
	return item;
}

/* The value of "KEY=VALUE" when item has that key, else NULL. */
static const char *value_of(const char *item, const char *key)
{
	size_t len = strlen(key);

	return !strncmp(item, key, len) && item[len] == '=' ? item + len + 1 : NULL;
}

/* Put a copy of value, which may not be empty, into *field, in the place of an earlier one. */
static int set_string(char **field, const char *value, const char *what, struct lol_error *err)
{
	if (!*value)
		return lol_error(err, -EINVAL, "the %s is empty; give one or leave it out", what);
	char *copy = strdup(value);
	if (!copy)
		return no_memory(err);
	free(*field);
	*field = copy;
	return 0;
}

static int set_socket_path(char **field, const char *value, struct lol_error *err)
{
	if (strlen(value) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return lol_error(err, -ENAMETOOLONG, "a socket's path has at most %zu bytes; choose a shorter one",
				 sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	return set_string(field, value, "socket's path", err);
}

static int unknown_item(const char *item, const char *possible, struct lol_error *err)
{
	return lol_error(err, -EINVAL, "'%.80s' is unknown here; %s", item, possible);
}

/* What can be given several times. */
struct list {
	const char *what;
	unsigned max;
	size_t size;                                                 /* bytes of an item */
	int (*parse)(void *item, char *spec, struct lol_error *err); /* takes spec apart */
	void (*free)(void *item);
};

static int add_to_list(const struct list *list, void *items, unsigned *count, const char *value, struct lol_error *err)
{
	if (*count == list->max)
		return lol_error(err, -E2BIG, "there are %u %s already; this is the limit", list->max, list->what);
	char *spec = strdup(value);
	if (!spec)
		return no_memory(err);
	void *item = (char *)items + *count * list->size;
	int ret = list->parse(item, spec, err);
	free(spec);
	if (ret) {
		list->free(item);
		memset(item, 0, list->size);
		return ret;
	}
	++*count;
	return 0;
}

/* ---- --disk FILE[,ro][,snapshot][,pmem][,cow=FILE][,format=raw|qcow2][,serial=S] ---- */

static int disk_item(struct lol_disk *disk, const char *item, struct lol_error *err)
{
	const char *value;

	if (!strcmp(item, "ro")) {
		disk->ro = true;
	} else if (!strcmp(item, "snapshot")) {
		disk->snapshot = true;
	} else if (!strcmp(item, "pmem")) {
		disk->pmem = true;
	} else if ((value = value_of(item, "cow"))) {
		return set_string(&disk->cow, value, "cow file", err);
	} else if ((value = value_of(item, "serial"))) {
		if (strlen(value) > LOL_SERIAL_MAX)
			return lol_error(err, -EINVAL, "a serial number has at most %d bytes; shorten it",
					 LOL_SERIAL_MAX);
		return set_string(&disk->serial, value, "serial number", err);
	} else if ((value = value_of(item, "format"))) {
		if (strcmp(value, "raw") && strcmp(value, "qcow2"))
			return lol_error(err, -EINVAL, "format '%.80s' is unknown; write format=raw or format=qcow2",
					 value);
		disk->format = strcmp(value, "raw") ? DISK_QCOW2 : DISK_RAW;
	} else {
		return unknown_item(
			item, "a disk is FILE[,ro][,snapshot][,pmem][,cow=FILE][,format=raw|qcow2][,serial=S]", err);
	}
	return 0;
}

static int parse_disk(void *item, char *spec, struct lol_error *err)
{
	struct lol_disk *disk = item;
	int ret = set_string(&disk->path, next_item(&spec), "file name", err);

	while (!ret && spec)
		ret = disk_item(disk, next_item(&spec), err);
	if (!ret && disk->cow && (disk->snapshot || disk->ro))
		ret = lol_error(err, -EINVAL, "cow= keeps writes and %s does not; choose one of them",
				disk->ro ? "ro" : "snapshot");
	if (!ret && disk->pmem && (disk->cow || disk->snapshot || disk->format != DISK_RAW))
		ret = lol_error(err, -EINVAL,
				"pmem is the file itself: it goes with ro, not with %s; leave one of them out",
				disk->cow        ? "cow="
				: disk->snapshot ? "snapshot"
						 : "format=qcow2");
	return ret;
}

static void free_disk(void *item)
{
	struct lol_disk *disk = item;

	free(disk->path);
	free(disk->cow);
	free(disk->serial);
}

static const struct list disk_list = {"disks", LOL_DISKS_MAX, sizeof(struct lol_disk), parse_disk, free_disk};

int set_disk(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return add_to_list(&disk_list, opts->disks, &opts->ndisks, value, err);
}

/* ---- --net user[,hostfwd=tcp|udp:[ADDR]:HPORT-:GPORT]... | tap[,ifname=IF][,netns=new[,addr=ADDR/BITS]] | stream,path=SOCK | none, [,mac=MAC]... ---- */

static int parse_mac(const char *text, uint8_t mac[6], struct lol_error *err)
{
	static const char wrong[] =
		"not a card's address; write six bytes, the first one even, such as 52:54:00:12:34:56";

	if (strlen(text) != 17)
		return lol_error(err, -EINVAL, "'%.80s' is %s", text, wrong);
	for (int i = 0; i < 6; i++) {
		const char *p = text + 3 * i;
		if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) || (i < 5 && p[2] != ':'))
			return lol_error(err, -EINVAL, "'%.80s' is %s", text, wrong);
		mac[i] = (uint8_t)strtoul((char[]){p[0], p[1], 0}, NULL, 16);
	}
	if (mac[0] & 1 || !memcmp(mac, (uint8_t[6]){0}, 6))
		return lol_error(err, -EINVAL, "'%.80s' is %s", text, wrong);
	return 0;
}

/* tcp:[ADDR]:HPORT-:GPORT or udp:...; text is taken apart. */
static int parse_hostfwd(struct lol_hostfwd *fwd, char *text, struct lol_error *err)
{
	static const char wrong[] = "write hostfwd=tcp:[ADDR]:HPORT-:GPORT, such as hostfwd=tcp:127.0.0.1:8080-:80";
	struct lol_error ignored;
	unsigned host_port, guest_port;
	uint8_t addr[4];

	fwd->udp = !strncmp(text, "udp:", 4);
	char *host_addr = !fwd->udp && strncmp(text, "tcp:", 4) ? NULL : text + 4;
	char *colon = host_addr ? strchr(host_addr, ':') : NULL;
	char *guest = colon ? strstr(colon, "-:") : NULL;
	if (!guest)
		return lol_error(err, -EINVAL, "'hostfwd=%.80s' is no forwarding; %s", text, wrong);
	*colon = *guest = 0;
	if (*host_addr && inet_pton(AF_INET, host_addr, addr) != 1)
		return lol_error(err, -EINVAL, "'%.80s' is not an IPv4 address; %s", host_addr, wrong);
	if (parse_number(colon + 1, 1, 65535, &host_port, &ignored) ||
	    parse_number(guest + 2, 1, 65535, &guest_port, &ignored))
		return lol_error(err, -EINVAL, "a port is a number from 1 to 65535; %s", wrong);
	fwd->host_port = (uint16_t)host_port;
	fwd->guest_port = (uint16_t)guest_port;
	return *host_addr ? set_string(&fwd->host_addr, host_addr, "address", err) : 0;
}

/* ADDR/BITS: the host's end of a tap interface. */
static int parse_tap_address(struct lol_net *net, char *text, struct lol_error *err)
{
	struct lol_error ignored;
	char *slash = strchr(text, '/');

	if (slash)
		*slash = 0;
	if (!slash || inet_pton(AF_INET, text, &net->addr) != 1 || !net->addr.s_addr ||
	    parse_number(slash + 1, 1, 32, &net->addr_prefix, &ignored))
		return lol_error(
			err, -EINVAL,
			"'addr=%.80s' is no address with its network's bits; write one, such as addr=10.0.0.1/24",
			text);
	return 0;
}

const char *const net_kind_names[] = {
	[NET_USER] = "user", [NET_TAP] = "tap", [NET_STREAM] = "stream", [NET_NONE] = "none"};

static const char *const net_forms[] = {
	[NET_USER] = "a user card takes hostfwd=tcp:[ADDR]:HPORT-:GPORT, mac=MAC, mtu=N and queues=N",
	[NET_TAP] = "a tap card takes ifname=IF, netns=new, addr=ADDR/BITS, mac=MAC, mtu=N and queues=N",
	[NET_STREAM] = "a stream card takes path=SOCK, mac=MAC, mtu=N and queues=N",
	[NET_NONE] = "none takes mac=MAC",
};

static int net_item(struct lol_net *net, char *item, struct lol_error *err)
{
	const char *value;

	if ((value = value_of(item, "mac"))) {
		net->has_mac = true;
		return parse_mac(value, net->mac, err);
	}
	if ((value = value_of(item, "mtu")))
		return parse_number(value, LOL_MTU_MIN, LOL_MTU_MAX, &net->mtu, err);
	if ((value = value_of(item, "queues")))
		return parse_number(value, 1, LOL_QUEUES_MAX, &net->queues, err);
	if (net->kind == NET_USER && (value = value_of(item, "hostfwd"))) {
		if (net->nhostfwds == LOL_HOSTFWDS_MAX)
			return lol_error(err, -E2BIG, "there are %d forwardings already; this is the limit",
					 LOL_HOSTFWDS_MAX);
		return parse_hostfwd(&net->hostfwds[net->nhostfwds++], item + (value - item), err);
	}
	if (net->kind == NET_TAP && (value = value_of(item, "ifname"))) {
		if (strlen(value) > LOL_IFNAME_MAX || strpbrk(value, "/ %:"))
			return lol_error(err, -EINVAL, "'%.80s' is not an interface; 'ip tuntap' lists them", value);
		return set_string(&net->ifname, value, "interface name", err);
	}
	if (net->kind == NET_TAP && (value = value_of(item, "netns"))) {
		net->own_netns = true;
		if (strcmp(value, "new"))
			return lol_error(err, -EINVAL,
					 "there is only netns=new; start lol-run in a namespace that exists");
		return 0;
	}
	if (net->kind == NET_TAP && (value = value_of(item, "addr")))
		return parse_tap_address(net, item + (value - item), err);
	if (net->kind == NET_STREAM && (value = value_of(item, "path")))
		return set_socket_path(&net->path, value, err);
	return unknown_item(item, net_forms[net->kind], err);
}

static int parse_net(void *item, char *spec, struct lol_error *err)
{
	struct lol_net *net = item;
	const char *kind = next_item(&spec);
	size_t k = 0;

	while (k < ARRAY_LEN(net_kind_names) && strcmp(kind, net_kind_names[k]))
		k++;
	if (k == ARRAY_LEN(net_kind_names))
		return unknown_item(kind, "a card is user, tap,ifname=IF, tap,netns=new, stream,path=SOCK or none",
				    err);
	net->kind = (enum net_kind)k;
	int ret = 0;
	while (!ret && spec)
		ret = net_item(net, next_item(&spec), err);
	if (!ret && net->kind == NET_TAP && !net->ifname)
		ret = net->own_netns
			      ? set_string(&net->ifname, "tap0", "interface name", err)
			      : lol_error(err, -EINVAL, "no interface is named; write tap,ifname=IF or tap,netns=new");
	if (!ret && net->addr.s_addr && !net->own_netns)
		ret = lol_error(err, -EINVAL,
				"addr= is for an interface that is made; write netns=new with it, or leave it out");
	if (!ret && net->kind == NET_STREAM && !net->path)
		ret = lol_error(err, -EINVAL, "no socket is named; write stream,path=SOCK");
	return ret;
}

static void free_net(void *item)
{
	struct lol_net *net = item;

	for (unsigned i = 0; i < net->nhostfwds; i++)
		free(net->hostfwds[i].host_addr);
	free(net->ifname);
	free(net->path);
}

static const struct list net_list = {"network cards", LOL_NETS_MAX, sizeof(struct lol_net), parse_net, free_net};

int set_net(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return add_to_list(&net_list, opts->nets, &opts->nnets, value, err);
}

/* ---- --share DIR[,tag=TAG][,ro] ---- */

static int parse_share(void *item, char *spec, struct lol_error *err)
{
	struct lol_share *share = item;
	int ret = set_string(&share->dir, next_item(&spec), "directory", err);

	while (!ret && spec) {
		const char *word = next_item(&spec), *tag = value_of(word, "tag");
		if (!strcmp(word, "ro"))
			share->ro = true;
		else if (tag && strlen(tag) <= LOL_TAG_MAX)
			ret = set_string(&share->tag, tag, "tag", err);
		else if (tag)
			ret = lol_error(err, -EINVAL, "a tag has at most %d bytes; shorten it", LOL_TAG_MAX);
		else
			ret = unknown_item(word, "a share is DIR[,tag=TAG][,ro]", err);
	}
	return ret;
}

static void free_share(void *item)
{
	struct lol_share *share = item;

	free(share->dir);
	free(share->tag);
}

static const struct list share_list = {"shares", LOL_SHARES_MAX, sizeof(struct lol_share), parse_share, free_share};

int set_share(struct lol_options *opts, const char *value, struct lol_error *err)
{
	return add_to_list(&share_list, opts->shares, &opts->nshares, value, err);
}

/* ---- --console stdio|pty|file=PATH|unix=PATH|null ---- */

const char *const console_kind_names[] = {[CONSOLE_STDIO] = "stdio",
					  [CONSOLE_PTY] = "pty",
					  [CONSOLE_FILE] = "file",
					  [CONSOLE_UNIX] = "unix",
					  [CONSOLE_NULL] = "null"};

int set_console(struct lol_options *opts, const char *value, struct lol_error *err)
{
	struct lol_console console = {0};
	const char *path;
	int ret = 0;

	if ((path = value_of(value, "file"))) {
		console.kind = CONSOLE_FILE;
		ret = set_string(&console.path, path, "file name", err);
	} else if ((path = value_of(value, "unix"))) {
		console.kind = CONSOLE_UNIX;
		ret = set_socket_path(&console.path, path, err);
	} else {
		size_t k = 0;
		while (k < ARRAY_LEN(console_kind_names) && strcmp(value, console_kind_names[k]))
			k++;
		if (k == ARRAY_LEN(console_kind_names) || k == CONSOLE_FILE || k == CONSOLE_UNIX)
			ret = unknown_item(value, "a console is stdio, pty, file=PATH, unix=PATH or null", err);
		console.kind = (enum console_kind)k;
	}
	if (ret)
		return ret;
	free(opts->console.path);
	opts->console = console;
	return 0;
}

/* ---- --vsock PATH[,cid=N] ---- */

int set_vsock(struct lol_options *opts, const char *value, struct lol_error *err)
{
	struct lol_vsock vsock = {.cid = LOL_VSOCK_CID_MIN};
	char *spec = strdup(value), *rest = spec;
	int ret;

	if (!spec)
		return no_memory(err);
	const char *path = next_item(&rest);
	if (strlen(path) > LOL_VSOCK_PATH_MAX)
		ret = lol_error(err, -ENAMETOOLONG, "the socket's path may have %d bytes here; choose a shorter one",
				LOL_VSOCK_PATH_MAX);
	else
		ret = set_string(&vsock.path, path, "socket's path", err);
	while (!ret && rest) {
		const char *item = next_item(&rest), *cid = value_of(item, "cid");
		ret = cid ? parse_number(cid, LOL_VSOCK_CID_MIN, UINT32_MAX - 1, &vsock.cid, err)
			  : unknown_item(item, "a vsock is PATH[,cid=N]", err);
	}
	free(spec);
	if (ret) {
		free(vsock.path);
		return ret;
	}
	free(opts->vsock.path);
	opts->vsock = vsock;
	return 0;
}

/* ---- --gdb[=PORT|unix:PATH] ---- */

int set_gdb(struct lol_options *opts, const char *value, struct lol_error *err)
{
	struct lol_error ignored;
	unsigned port = LOL_GDB_PORT;
	char *path = NULL;
	bool on = true;

	if (!strncmp(value, "unix:", 5)) {
		int ret = set_socket_path(&path, value + 5, err);
		if (ret)
			return ret;
	} else if (parse_number(value, 1, 65535, &port, &ignored) && parse_bool(value, &on, &ignored)) {
		return lol_error(err, -EINVAL, "neither a port nor a socket; give a port from 1 to 65535 or unix:PATH");
	}
	free(opts->gdb.path);
	opts->gdb.path = path;
	opts->gdb.port = (uint16_t)port;
	opts->gdb.kind = path ? GDB_UNIX : on ? GDB_TCP : GDB_OFF;
	return 0;
}

void free_specs(struct lol_options *opts)
{
	for (unsigned i = 0; i < opts->ndisks; i++)
		free_disk(&opts->disks[i]);
	for (unsigned i = 0; i < opts->nnets; i++)
		free_net(&opts->nets[i]);
	for (unsigned i = 0; i < opts->nshares; i++)
		free_share(&opts->shares[i]);
	free(opts->console.path);
	free(opts->gdb.path);
	free(opts->vsock.path);
	opts->console.path = opts->gdb.path = opts->vsock.path = NULL;
}
