// SPDX-License-Identifier: BSD-2-Clause
/*
 * lol-init, PID 1 of the guest: mounts, looks for the host on the ports, runs what it asks for, says how it ended, powers
 * off. Without such a host it gives a shell on the console. The protocol is in proto.c, the kernel's options in mounts.c.
 */
#include "lol-init.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static void power(enum shutdown how)
{
	mounts_end();
	reboot(how == SHUTDOWN_REBOOT ? (int)RB_AUTOBOOT
	       : how == SHUTDOWN_HALT ? (int)RB_HALT_SYSTEM
				      : (int)RB_POWER_OFF);
	for (;;) /* no power switch */
		pause();
}

/* Descriptors 0 to 2 on the console: the kernel could not open one when the initrd has its own, empty /dev. */
static void open_stdio(void)
{
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
	if (fd > 2)
		close(fd);
}

static void machine_settings(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct utsname u;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0) {
		ioctl(fd, SIOCSIFFLAGS, &lo);
		close(fd);
	}
	if (uname(&u) == 0 && strcmp(u.nodename, "(none)") == 0)
		sethostname("lol", 3);
}

static void run_for_host(int port[PORTS], struct job *job, const struct share *shares)
{
	struct ctl ctl = {.fd = port[PORT_CTL]};
	struct stat st;
	int err, status;

	err = mounts_root(shares);
	if (err) {
		ctl_send(&ctl, "error", mounts_error());
		power(SHUTDOWN_OFF);
	}
	mounts_late();
	net_names();
	mounts_shares(shares);
	if (ctl_receive_job(&ctl, job))
		power(SHUTDOWN_OFF);
	if (stat(job->cwd, &st) || !S_ISDIR(st.st_mode)) {
		ctl_send(&ctl, "error", "the guest has no such directory to start in");
		power(SHUTDOWN_OFF);
	}
	err = spawn(job);
	if (err) {
		ctl_send(&ctl, "error", strerror(-err));
		power(SHUTDOWN_OFF);
	}
	status = relay_run(job, &ctl, port);
	mounts_end();
	/* Closing sends a control message, which the host answers in order: it has seen all output by then. */
	close_fd(&port[PORT_STDIN]);
	close_fd(&port[PORT_STDOUT]);
	close_fd(&port[PORT_STDERR]);
	ctl_send(&ctl, "exit", number((unsigned long)status));
	power(shutdown_wanted == SHUTDOWN_NONE ? SHUTDOWN_OFF : shutdown_wanted);
}

static void run_console_shell(struct job *job, const struct share *shares)
{
	if (mounts_root(shares)) {
		say(STDERR_FILENO, mounts_error(), NULL);
		power(SHUTDOWN_OFF);
	}
	mounts_late();
	net_names();
	mounts_shares(shares);
	if (spawn_console_shell(job) == 0)
		relay_run(job, NULL, NULL);
	power(shutdown_wanted == SHUTDOWN_NONE ? SHUTDOWN_OFF : shutdown_wanted);
}

int main(void)
{
	int port[PORTS];
	struct job job;

	if (getpid() != 1) {
		say(STDERR_FILENO, "I am the first program of a guest (rdinit=/lol-init), not for use elsewhere", NULL);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	if (mounts_early()) {
		say(STDERR_FILENO, mounts_error(), NULL);
		power(SHUTDOWN_OFF);
	}
	if (fcntl(STDERR_FILENO, F_GETFD) < 0)
		open_stdio();
	umask(022);
	machine_settings();
	job_default(&job);
	struct share *shares = setup_read(&job);
	if (ports_open(port) == 0)
		run_for_host(port, &job, shares);
	run_console_shell(&job, shares);
	return 0;
}
