// SPDX-License-Identifier: BSD-2-Clause
/*
 * The command's process: a session and process group of its own, descriptors 0 to 2 on pipes, on a pty, or on the console.
 * The ports themselves are not given to it: each can be open only once (so /dev/stdout would not open), takes 32 KiB a
 * write, and blocks for ever instead of SIGPIPE when the host has closed its end.
 */
#include "lol-init.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void child_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* As a shell says it: not found is 127, found but not startable 126. */
static void __attribute__((noreturn)) exec_job(struct job *job)
{
	if (chdir(job->cwd)) {
		say(STDERR_FILENO, job->cwd, ": ", strerror(errno), NULL);
		_exit(126);
	}
	clearenv();
	for (size_t i = 0; job->envp[i]; i++)
		putenv(job->envp[i]);
	execvp(job->argv[0], job->argv);

	int err = errno;
	const char *why = strerror(err);
	if (err == ENOENT && !strchr(job->argv[0], '/'))
		why = "command not found";
	else if (err == ENOENT && access(job->argv[0], F_OK) == 0)
		why = "its interpreter is missing";
	say(STDERR_FILENO, job->argv[0], ": ", why, NULL);
	_exit(err == ENOENT ? 127 : 126);
}

/* The child's side of descriptor n, duplicated above 2 so that the dup2 calls cannot tread on each other. */
static int lift(int fd)
{
	return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 10);
}

static void __attribute__((noreturn)) child(struct job *job, int slave, int theirs[3])
{
	int fd[3];

	setsid();
	for (int i = 0; i < 3; i++)
		fd[i] = lift(theirs[i] >= 0 ? theirs[i] : slave);
	if (slave >= 0)
		ioctl(slave, TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		dup2(fd[i], i);
	child_signals();
	exec_job(job);
}

/* A pipe for descriptor n; our end is non-blocking. */
static int make_pipe(int n, int *ours, int *theirs)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	*ours = n == 0 ? fd[1] : fd[0];
	*theirs = n == 0 ? fd[0] : fd[1];
	fcntl(*ours, F_SETFL, O_NONBLOCK);
	return 0;
}

int spawn(struct job *job)
{
	struct winsize ws = {.ws_row = job->rows, .ws_col = job->cols};
	int *ours[3] = {&job->to_in, &job->from_out, &job->from_err}, theirs[3] = {-1, -1, -1};
	int slave = -1, err = 0;

	job->tty = job->tty && !(job->pipe[1] && job->pipe[2]); /* a pty that nobody reads would fill up */
	if (job->tty) {
		if (openpty(&job->master, &slave, NULL, NULL, &ws))
			return -errno;
		fcntl(job->master, F_SETFD, FD_CLOEXEC);
		fcntl(job->master, F_SETFL, O_NONBLOCK);
		fcntl(slave, F_SETFD, FD_CLOEXEC);
	}
	for (int i = 0; i < 3 && !err; i++)
		if (!job->tty || job->pipe[i])
			err = make_pipe(i, ours[i], &theirs[i]);
	if (!err) {
		job->pid = fork();
		if (job->pid == 0)
			child(job, slave, theirs);
		err = job->pid < 0 ? -errno : 0;
	}
	for (int i = 0; i < 3; i++)
		close_fd(&theirs[i]);
	close_fd(&slave);
	return err;
}

/* The terminal behind /dev/console, which itself cannot be a controlling terminal. */
static int open_console(void)
{
	char text[256], path[300] = "/dev/";
	int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	const char *last = strrchr(text, ' ');
	strcat(path, last ? last + 1 : text);
	fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	return fd >= 0 ? fd : open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
}

int spawn_console_shell(struct job *job)
{
	static char *shell[] = {"/bin/sh", NULL};
	int tty = open_console();

	if (tty < 0)
		return -errno;
	for (size_t i = 0; job->envp[i]; i++)
		if (strncmp(job->envp[i], "SHELL=", 6) == 0 && access(job->envp[i] + 6, X_OK) == 0)
			shell[0] = job->envp[i] + 6;
	job->argv = shell;
	if (access(job->cwd, X_OK) != 0 || strcmp(job->cwd, "/") == 0)
		job->cwd = access("/root", X_OK) == 0 ? "/root" : "/";
	if (job->rows)
		ioctl(tty, TIOCSWINSZ, &(struct winsize){.ws_row = job->rows, .ws_col = job->cols});
	job->pid = fork();
	if (job->pid == 0)
		child(job, tty, (int[3]){-1, -1, -1});
	close(tty);
	return job->pid < 0 ? -errno : 0;
}
