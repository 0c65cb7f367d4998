/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * corral SECONDS COMMAND [ARG]... - run a test so that nothing of it stays behind.
 *
 * The command gets a session of its own. When it ends, when SECONDS have passed, or when corral is asked to end, all
 * its descendants end too, also those that made sessions of their own: corral is their subreaper, so a process whose
 * parent has died becomes corral's child and can be found.
 *
 * Exit status: the command's (128 + N for signal N); 124 after a timeout; 99 when the command succeeded but left
 * processes behind that had not ended LINGER_MS later; 125 when it could not be started.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER_MS 2000    /* what has been told to end may take so long */
#define TERMINATE_MS 3000 /* from SIGTERM to SIGKILL */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Parent and name of a process; false when it is gone. */
static bool look_at(pid_t pid, pid_t *parent, char name[32])
{
	char path[64], line[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	size_t n = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[n] = 0;
	char *open = strchr(line, '('), *close = strrchr(line, ')');
	int ppid;
	if (!open || !close || sscanf(close + 1, " %*c %d", &ppid) != 1)
		return false;
	*parent = ppid;
	*close = 0;
	snprintf(name, 32, "%s", open + 1);
	return true;
}

/* Kill corral's children, whose children then become corral's; with report, name them on stderr. */
static void kill_children(bool report)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char name[32];
	pid_t parent;

	while (proc && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);
		if (pid <= 0 || !look_at(pid, &parent, name) || parent != getpid())
			continue;
		if (report)
			fprintf(stderr, "corral: left behind: %s (%d)\n", name, (int)pid);
		kill(pid, SIGKILL);
	}
	if (proc)
		closedir(proc);
}

/* Reap whatever has ended; *status is set when it was main_pid. False when there are no children left. */
static bool reap(pid_t main_pid, bool *ended, int *status)
{
	int st;
	pid_t pid;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0)
		if (pid == main_pid) {
			*ended = true;
			*status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
		}
	return pid == 0;
}

/* Wait until main_pid has ended (or, with main_pid 0, all children), a deadline, or a signal that is returned. */
static int wait_for(pid_t main_pid, int64_t deadline, const sigset_t *signals, bool *ended, int *status)
{
	for (;;) {
		bool some = reap(main_pid, ended, status);
		int64_t left = deadline - now_ms();
		if (!some || (main_pid && *ended) || left <= 0)
			return 0;
		struct timespec ts = {left / 1000, left % 1000 * 1000000};
		int signo = sigtimedwait(signals, NULL, &ts);
		if (signo > 0 && signo != SIGCHLD)
			return signo;
	}
}

static pid_t start(char **command, const sigset_t *old_mask)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Whoever started us in the background may have made us ignore signals; a test is to find them as on a terminal. */
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, old_mask, NULL);
	execvp(command[0], command);
	fprintf(stderr, "corral: %s: %s\n", command[0], strerror(errno));
	_exit(125);
}

int main(int argc, char **argv)
{
	sigset_t signals, old_mask;
	bool ended = false;
	int status = 125;

	long seconds = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
	if (seconds <= 0) {
		fprintf(stderr, "usage: corral SECONDS COMMAND [ARG]...\n");
		return 125;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&signals);
	for (const int *s = (const int[]){SIGCHLD, SIGINT, SIGTERM, SIGHUP, 0}; *s; s++)
		sigaddset(&signals, *s);
	sigprocmask(SIG_BLOCK, &signals, &old_mask);

	pid_t pid = start(argv + 2, &old_mask);
	if (pid < 0) {
		fprintf(stderr, "corral: fork: %s\n", strerror(errno));
		return 125;
	}
	int signo = wait_for(pid, now_ms() + seconds * 1000, &signals, &ended, &status);
	bool timed_out = !ended && !signo;
	if (!ended) {
		if (timed_out)
			fprintf(stderr, "corral: not finished after %ld s\n", seconds);
		kill(-pid, SIGTERM);
		wait_for(pid, now_ms() + TERMINATE_MS, &signals, &ended, &status);
	}
	bool in_order = ended && !signo && !timed_out;
	if (in_order)
		wait_for(0, now_ms() + LINGER_MS, &signals, &ended, &status);
	bool left_behind = false;
	for (int tries = 0; reap(pid, &ended, &status) && tries < 200; tries++) {
		left_behind = true;
		kill_children(tries == 0 && in_order);
		wait_for(0, now_ms() + 20, &signals, &ended, &status);
	}
	if (signo)
		return 128 + signo;
	if (timed_out)
		return 124;
	return left_behind && (status == 0 || status == 77) ? 99 : status;
}
