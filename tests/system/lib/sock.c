/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small socket tool for guests and for the host's side of a test (static, so that it runs in any initrd):
 *
 *   sock udp-echo PORT            give each datagram back, until killed
 *   sock udp-ask IPV4 PORT TEXT   send it as a datagram, again each second, and print the first answer
 *   sock dns PORT IPV4            answer every question for a name with this address, until killed
 *   sock connect ADDRESS          stdin to the socket, the socket to stdout, until both have ended
 *   sock listen ADDRESS [COUNT]   "listening" to stderr, then the same with the first connection; with COUNT: echo for so many,
 *                                 all at once
 *
 * ADDRESS: vsock:CID:PORT, unix:PATH
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "sock: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_socket(const char *text, struct sockaddr_storage *address, socklen_t *len)
{
	int fd;

	memset(address, 0, sizeof(*address));
	if (!strncmp(text, "unix:", 5)) {
		struct sockaddr_un *un = (struct sockaddr_un *)address;
		un->sun_family = AF_UNIX;
		strncpy(un->sun_path, text + 5, sizeof(un->sun_path) - 1);
		*len = sizeof(*un);
	} else {
		struct sockaddr_vm *vm = (struct sockaddr_vm *)address;
		vm->svm_family = AF_VSOCK;
		if (sscanf(text, "vsock:%u:%u", &vm->svm_cid, &vm->svm_port) != 2) {
			errno = EINVAL;
			die(text);
		}
		*len = sizeof(*vm);
	}
	fd = socket(address->ss_family, SOCK_STREAM, 0);
	if (fd < 0)
		die("socket");
	return fd;
}

static void put(int fd, const char *bytes, ssize_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, bytes, (size_t)n);
		if (w < 0)
			die("write");
		bytes += w;
		n -= w;
	}
}

/* stdin goes out only as the socket takes it: both sides may send more than the buffers between them hold. */
static void relay(int fd)
{
	static char in[65536], out[65536];
	size_t at = 0, len = 0;
	bool ended = false, other_ended = false;

	signal(SIGPIPE, SIG_IGN);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (!other_ended || !ended || len) {
		struct pollfd p[2] = {{.fd = len || ended ? -1 : 0, .events = POLLIN},
				      {.fd = fd, .events = (other_ended ? 0 : POLLIN) | (len ? POLLOUT : 0)}};
		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[0].revents) {
			ssize_t n = read(0, out, sizeof(out));
			at = 0;
			len = n > 0 ? (size_t)n : 0;
			ended = n <= 0;
			if (ended)
				shutdown(fd, SHUT_WR);
		}
		if (len && p[1].revents & (POLLOUT | POLLHUP | POLLERR)) {
			ssize_t n = write(fd, out + at, len);
			if (n < 0 && errno == EPIPE)
				return;
			if (n < 0 && errno != EAGAIN)
				die("write");
			at += n > 0 ? (size_t)n : 0;
			len -= n > 0 ? (size_t)n : 0;
		}
		if (p[1].revents & (POLLIN | POLLHUP | POLLERR)) {
			ssize_t n = read(fd, in, sizeof(in));
			if (n < 0 && errno != EAGAIN)
				die("read");
			other_ended |= !n;
			if (n > 0)
				put(1, in, n);
		}
	}
}

static void echo(int fd)
{
	static char bytes[65536];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		put(fd, bytes, n);
}

static void udp_echo(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}, from;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char bytes[65536];

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)))
		die("bind");
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len);
		if (n < 0)
			die("recvfrom");
		sendto(fd, bytes, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void udp_ask(const char *host, int port, const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char bytes[65536];

	if (fd < 0 || inet_pton(AF_INET, host, &a.sin_addr) != 1 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		die(host);
	for (int i = 0; i < 10; i++) {
		if (send(fd, text, strlen(text), 0) < 0)
			die("send");
		if (poll(&p, 1, 1000) > 0) {
			ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
			if (n < 0)
				die("recv");
			printf("%.*s\n", (int)n, bytes);
			exit(0);
		}
	}
	exit(1);
}

/* RFC 1035, 4.1: the question comes back with one answer behind it, or with none when it is not for an address (type A). */
static void dns(int port, const char *address)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}, from;
	unsigned char bytes[2048],
		answer[16] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4}; /* the name at 12, A, IN, 1 s */
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || inet_pton(AF_INET, address, answer + 12) != 1)
		die("bind");
	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, bytes, 1024, 0, (struct sockaddr *)&from, &len), end = 12;
		while (end < n && bytes[end])
			end += bytes[end] + 1;
		if (end + 5 > n)
			continue;
		bool is_a = bytes[end + 2] == 1;
		bytes[2] = 0x81;
		bytes[3] = 0x80;
		memset(bytes + 6, 0, 6);
		bytes[7] = is_a;
		memcpy(bytes + end + 5, answer, sizeof(answer));
		sendto(fd, bytes, (size_t)end + 5 + (is_a ? sizeof(answer) : 0), 0, (struct sockaddr *)&from, len);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage address;
	socklen_t len;

	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "udp-echo"))
		udp_echo(atoi(argv[2]));
	if (!strcmp(argv[1], "udp-ask") && argc > 4)
		udp_ask(argv[2], atoi(argv[3]), argv[4]);
	if (!strcmp(argv[1], "dns") && argc > 3)
		dns(atoi(argv[2]), argv[3]);
	int fd = open_socket(argv[2], &address, &len);
	if (!strcmp(argv[1], "connect")) {
		if (connect(fd, (struct sockaddr *)&address, len))
			die("connect");
		relay(fd);
		return 0;
	}
	if (bind(fd, (struct sockaddr *)&address, len) || listen(fd, 64))
		die("listen");
	fprintf(stderr, "listening\n");
	int count = argc > 3 ? atoi(argv[3]) : 0;
	for (int i = 0; i < count || !i; i++) {
		int c = accept(fd, NULL, NULL);
		if (c < 0)
			die("accept");
		if (!count) {
			relay(c);
			return 0;
		}
		if (!fork()) {
			close(fd);
			echo(c);
			_exit(0);
		}
		close(c);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}
