/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dumps of a VM: asked for by `lolctl dump`, or because the guest kernel has panicked (--dump-on-panic, --panic=hold).
 * The guest comes to rest, a thread of its own writes the file (lol/dump.h), the guest goes on. One dump at a time.
 *
 * The thread reads guest RAM and copies of everything else; it ends with a word in an eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dump.h"
#include "gdb/server.h"
#include "machine_int.h"
#include "thread.h"

struct dump_job {
	struct machine *m;
	dump_done_fn done;
	void *arg;
	char *path;
	int fd, event;
	bool created, started;
	_Atomic bool cancel;
	pthread_t thread;
	struct dump_source src;
	struct vcpu_state *vcpus;
	int result;
	struct lol_error err;
};

static void *writer(void *arg)
{
	struct dump_job *job = arg;
	uint64_t one = 1;

	job->result = dump_write(job->fd, &job->src, &job->err);
	while (write(job->event, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return NULL;
}

/* What K has published, where it is true. */
static void copy_vcpus(struct dump_job *job)
{
	struct machine *m = job->m;
	bool at_rest = park_at_rest(m);

	for (unsigned i = 0; at_rest && i < m->ctl_cpus; i++)
		if (atomic_load(&m->ctl->park[i].started))
			memcpy(&job->vcpus[i], &m->ctl->park[i].state, sizeof(job->vcpus[i]));
}

static void set_source(struct dump_job *job, bool raw)
{
	struct machine *m = job->m;
	const struct kboot *b = &m->boot;

	job->src = (struct dump_source){.ram = m->ram,
					.raw = raw,
					.image = b->text_start,
					.image_end = b->image_end,
					.top_pgt = b->init_top_pgt,
					.vmcoreinfo_data = b->vmcoreinfo_data,
					.vmcoreinfo_size = b->vmcoreinfo_size,
					.nvcpus = m->ctl_cpus,
					.vcpus = job->vcpus,
					.cancel = &job->cancel};
}

/* A regular file of the user's; guest memory is nobody else's business. */
static int open_file(struct dump_job *job, struct lol_error *err)
{
	struct stat st;

	job->created = access(job->path, F_OK) < 0;
	job->fd = open(job->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	if (job->fd < 0)
		return lol_error(err, -errno, "dump %s: %s; name a file that user %u can write", job->path,
				 strerror(errno), (unsigned)geteuid());
	if (fstat(job->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return lol_error(err, -EINVAL, "dump %s: not a regular file; name a new one", job->path);
	if (ftruncate(job->fd, 0) < 0)
		return lol_error(err, -errno, "dump %s: %s; name a new file", job->path, strerror(errno));
	return 0;
}

static void free_job(struct dump_job *job, bool keep_file)
{
	if (job->fd >= 0)
		close(job->fd);
	if (job->event >= 0)
		close(job->event);
	if (!keep_file && job->created && job->fd >= 0)
		unlink(job->path);
	free(job->path);
	free(job->vcpus);
	free(job);
}

static struct dump_job *new_job(struct machine *m, const char *path, bool raw, struct lol_error *err)
{
	struct dump_job *job = calloc(1, sizeof(*job));

	if (job) {
		job->m = m;
		job->fd = -1;
		job->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		job->path = strdup(path);
		job->vcpus = calloc(m->ctl_cpus, sizeof(*job->vcpus));
	}
	if (!job || !job->path || !job->vcpus || job->event < 0) {
		lol_error(err, -ENOMEM, "dump: out of memory or files; end other programs");
	} else if (!open_file(job, err)) {
		set_source(job, raw);
		return job;
	}
	if (job)
		free_job(job, false);
	return NULL;
}

/* The thread has ended, or there was none. */
static void finish(struct dump_job *job, int error)
{
	struct machine *m = job->m;

	if (job->started) {
		pthread_join(job->thread, NULL);
		loop_del_fd(m->loop, job->event);
		error = job->result;
	}
	m->dump = NULL;
	park_release(m, PARK_DUMP);
	if (job->done)
		job->done(job->arg, error ? job->err.text : NULL);
	free_job(job, !error);
}

static void on_written(void *arg, uint32_t events)
{
	struct dump_job *job = arg;
	uint64_t n;

	(void)events;
	if (read(job->event, &n, sizeof(n)) == sizeof(n))
		finish(job, 0);
}

/* At rest, or it will never be: then memory alone is better than nothing. */
static void on_rest(void *arg, int error)
{
	struct dump_job *job = arg;
	int ret;

	(void)error;
	copy_vcpus(job);
	ret = loop_add_fd(job->m->loop, job->event, EPOLLIN, on_written, job);
	if (!ret) {
		ret = -thread_start(&job->thread, writer, job);
		job->started = !ret;
		if (ret)
			loop_del_fd(job->m->loop, job->event);
	}
	if (ret) {
		lol_error(&job->err, ret, "dump: %s; end other programs", strerror(-ret));
		finish(job, ret);
	}
}

int dump_begin(struct machine *m, const char *path, bool raw, dump_done_fn done, void *arg, struct lol_error *err)
{
	struct dump_job *job;

	if (m->dump)
		return lol_error(err, -EBUSY, "dump: one is being written; wait for it");
	job = new_job(m, path, raw, err);
	if (!job)
		return -EIO;
	job->done = done;
	job->arg = arg;
	m->dump = job;
	park_hold(m, PARK_DUMP);
	if (park_when_at_rest(m, on_rest, job))
		on_rest(job, -EAGAIN);
	return 0;
}

void dump_forget(struct machine *m, void *arg)
{
	if (m->dump && m->dump->arg == arg)
		m->dump->done = NULL;
}

void dump_end(struct machine *m)
{
	struct dump_job *job = m->dump;

	if (!job)
		return;
	atomic_store(&job->cancel, true);
	park_forget(m, job);
	lol_error(&job->err, -ECANCELED, "dump: the VM has ended");
	finish(job, -ECANCELED);
}

int dump_now(struct machine *m, const char *path, struct lol_error *err)
{
	struct dump_job *job = new_job(m, path, false, err);
	int ret;

	if (!job)
		return -EIO;
	copy_vcpus(job);
	ret = dump_write(job->fd, &job->src, err);
	free_job(job, !ret);
	return ret;
}

/* ---- panic ---- */

static void after_panic(struct machine *m)
{
	if (!m->opts->panic_hold) {
		loop_stop(m->loop, RUN_RESET);
		return;
	}
	lol_fail(0, "guest kernel: panicked, and is held; 'lolctl stop --force %s' ends it", m->session->name);
	gdb_panicked(m);
}

static void on_panic_dumped(void *arg, const char *error)
{
	struct machine *m = arg;

	if (error)
		lol_fail(0, "%s", error);
	else if (m->opts->verbosity >= 0)
		lol_fail(0, "guest kernel: dumped to %s", m->opts->dump_on_panic);
	after_panic(m);
}

static void on_panic_rest(void *arg, int error)
{
	struct machine *m = arg;
	struct lol_error err;

	(void)error;
	if (!m->opts->dump_on_panic) {
		after_panic(m);
	} else if (dump_begin(m, m->opts->dump_on_panic, false, on_panic_dumped, m, &err)) {
		lol_fail(0, "%s", err.text);
		after_panic(m);
	}
}

bool machine_panic(struct machine *m)
{
	m->panicked = true;
	m->panicked_cpu = m->asking;
	if (m->parking.holders & PARK_PANIC)
		return true;
	if (!m->opts->panic_hold && !m->opts->dump_on_panic)
		return false;
	park_hold(m, PARK_PANIC);
	if (park_when_at_rest(m, on_panic_rest, m))
		on_panic_rest(m, -EAGAIN);
	return true;
}
