/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections of virtio-vsock, between its two files: virtio-vsock.c speaks with the guest's driver in packets, vsock-conn.c
 * moves bytes from and to unix sockets and knows in what state a connection is. All of it in the loop thread.
 *
 * What is to be said to the guest is state, not a queue: a set of bits for each connection (due). So a guest that supplies no
 * buffers costs no memory, and a guest that floods us with requests is answered as fast as it takes the answers.
 */
#ifndef LOL_DEVICES_VSOCK_CONN_H
#define LOL_DEVICES_VSOCK_CONN_H

#include "virtio.h"

#include <linux/virtio_vsock.h>
#include <sys/queue.h>
#include <sys/un.h>

#define VSOCK_HOST_CID 2u
#define VSOCK_CONNS_MAX 1000u
#define VSOCK_BUFFER (128u << 10) /* bytes from the guest that a connection keeps for its socket: our buf_alloc */
#define VSOCK_GREETING_MAX 32u    /* bytes of "CONNECT P\n" */

/* To be said to the guest, in this order. */
enum vsock_due {
	VSOCK_DUE_REQUEST = 1,
	VSOCK_DUE_RESPONSE = 2,
	VSOCK_DUE_CREDIT = 4, /* our counters have changed */
	VSOCK_DUE_ASK_CREDIT = 8,
	VSOCK_DUE_SHUTDOWN = 16,
	VSOCK_DUE_RESET = 32, /* then the connection is forgotten */
};

enum vsock_state {
	VSOCK_GREETING, /* a client of the host has not said yet what it wants; it has no ports */
	VSOCK_ASKED,    /* the guest is asked to take it */
	VSOCK_OPEN,
};

struct vsock_conn {
	LIST_ENTRY(vsock_conn) all;
	TAILQ_ENTRY(vsock_conn) waiting; /* while queued: something is due, or the socket's bytes wait for buffers */
	struct vsock *vsock;
	int fd; /* -1: the host's side is closed */
	enum vsock_state state;
	char greeting[VSOCK_GREETING_MAX + 1]; /* as far as it has come */
	unsigned greeting_len;
	bool queued;
	bool readable;    /* the socket has bytes, as far as we know */
	bool asked;       /* for credit, and none has come since */
	bool guest_done;  /* the guest will not send any more */
	bool guest_deaf;  /* nor receive */
	bool write_ended; /* the socket has been told of guest_done */
	uint32_t guest_port, host_port;
	unsigned due;
	uint32_t host_shut; /* VIRTIO_VSOCK_SHUTDOWN_*: what the host's side will not do any more */
	/* Credit (5.10.6.3). The counters wrap. */
	uint32_t sent, guest_alloc, guest_forwarded; /* towards the guest */
	uint32_t forwarded, told_forwarded;          /* towards the socket */
	uint8_t *kept; /* from the guest, for the socket: kept_len bytes from kept_at on */
	size_t kept_at, kept_len;
};

struct vsock {
	struct virtio_dev *dev;
	struct loop *loop;
	struct virtio_vsock_config config;
	int listener;
	dev_t file_dev; /* the socket file that we have made */
	ino_t file_ino;
	struct sockaddr_un address; /* PATH */
	LIST_HEAD(, vsock_conn) conns;
	TAILQ_HEAD(, vsock_conn) queue;
	unsigned nconns;
	uint32_t next_port; /* for connections from the host */
	/* Answers to packets of no connection. */
	struct vsock_stray {
		uint32_t guest_port, host_port;
		uint16_t type;
	} strays[64];
	unsigned nstrays;
	struct iovec iov[256];
};

/* ---- vsock-conn.c ---- */

struct vsock_conn *vsock_find(struct vsock *v, uint32_t guest_port, uint32_t host_port);
/* The guest connects. NULL: nobody is there. */
struct vsock_conn *vsock_connect_host(struct vsock *v, uint32_t guest_port, uint32_t host_port);
void vsock_accepted(struct vsock_conn *c); /* the guest takes it */
/* Bytes of the guest, at most what the credit allows; false: more than that, or no memory. */
bool vsock_to_host(struct vsock_conn *c, struct iovec *iov, unsigned count, size_t len);
void vsock_guest_shut(struct vsock_conn *c, uint32_t flags);
/* Bytes of the socket into iov: their number; 0: none now; -1: none ever again. */
ssize_t vsock_from_host(struct vsock_conn *c, struct iovec *iov, unsigned count, size_t room);
uint32_t vsock_credit(const struct vsock_conn *c); /* bytes that the guest has room for */
void vsock_watch(struct vsock_conn *c);
void vsock_free(struct vsock_conn *c);
void vsock_client(void *arg, uint32_t events); /* somebody connects to PATH; arg: struct vsock */

/* ---- virtio-vsock.c ---- */

void vsock_say(struct vsock_conn *c, unsigned due); /* as soon as the guest has buffers */
void vsock_serve(struct vsock *v);                  /* send what is due, and what sockets have */

#endif
