/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-sites: what the afterburner made of a kernel or module, and whether it
 * missed anything.  sites.h has the map.
 *
 *	cc -O2 -D_GNU_SOURCE -Iinclude -o lol-sites sites*.c -lelf -lZydis
 */
#include "sites.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef LOL_DATADIR
#define LOL_DATADIR "/usr/local/share/lol"
#endif

enum { CLEAN = 0, FOUND = 1, FAILED = 125 };

static const char help[] = "Usage: lol-sites [--json] [--exceptions FILE] KERNEL-OR-MODULE\n"
			   "\n"
			   "Disassembles a vmlinux or a .ko, prints its table of sites by kind and section,\n"
			   "and every sensitive instruction, undecodable byte and wrong entry.\n"
			   "\n"
			   "  --json             the report as JSON\n"
			   "  --exceptions FILE  instructions that may go without a site (default: the list\n"
			   "                     that comes with this program; an empty name for none)\n"
			   "  --help             this text\n"
			   "\n"
			   "Exit status: 0 everything has its site or is excepted, 1 something has not,\n"
			   "125 the file cannot be read.\n";

static int fail(const char *file, const char *why)
{
	fprintf(stderr, "lol-sites: %s: %s\n", file, why);
	return FAILED;
}

/* Private, as libelf wants to write to it; NULL with errno. */
static uint8_t *map_file(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	void *p = MAP_FAILED;

	if (fd < 0)
		return NULL;
	errno = 0;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode)) {
		*n = (size_t)st.st_size;
		p = mmap(NULL, *n ? *n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	}
	if (p == MAP_FAILED && !errno)
		errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

/* The list that comes with us: beside the sources of a build tree, in an installed tree wherever it was moved to. */
static bool default_exceptions(char path[PATH_MAX])
{
	static const char *const places[] = {"guest-kit", ".", "../../share/lol/guest-kit"};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	self[n > 0 ? n : 0] = 0;
	for (size_t i = 0; n > 0 && i < sizeof places / sizeof *places; i++) {
		char copy[PATH_MAX];

		memcpy(copy, self, n + 1);
		if (snprintf(path, PATH_MAX, "%s/%s/sites.exceptions", dirname(copy), places[i]) < PATH_MAX &&
		    !access(path, R_OK))
			return true;
	}
	snprintf(path, PATH_MAX, "%s/guest-kit/sites.exceptions", LOL_DATADIR);
	return !access(path, R_OK);
}

/* Number of findings that no exception covers. */
static unsigned apply_exceptions(const struct image *image, struct report *r, struct exceptions *list)
{
	unsigned left = 0;

	for (size_t i = 0; i < r->n_findings; i++) {
		struct finding *x = &r->findings[i];
		const struct symbol *symbol = image_symbol(image, x->at);

		if (x->kind != FINDING_ENTRY && x->at.section)
			x->excepted = exceptions_match(list, symbol ? symbol->name : "",
						       image->sections[x->at.section].name, x->insn);
		left += !x->excepted;
	}
	return left;
}

static int check(const char *file, bool json, struct exceptions *exceptions)
{
	struct report report = {0};
	struct image image;
	size_t n;
	uint8_t *bytes = map_file(file, &n);
	const char *error;
	unsigned left;

	if (!bytes)
		return fail(file, strerror(errno));
	error = image_open(&image, bytes, n);
	if (!error) {
		check_image(&image, &report);
		if (report.out_of_memory)
			error = "out of memory";
	}
	if (error)
		return fail(file, error);
	left = apply_exceptions(&image, &report, exceptions);
	(json ? report_json : report_text)(stdout, file, &image, &report);
	report_free(&report);
	image_close(&image);
	munmap(bytes, n);
	if (fflush(stdout) || ferror(stdout))
		return fail("standard output", strerror(errno));
	return left ? FOUND : CLEAN;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"exceptions", required_argument, NULL, 'e'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *exceptions_file = NULL, *error;
	struct exceptions *exceptions = NULL;
	char path[PATH_MAX];
	bool json = false;
	unsigned line;
	int option, status;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h')
			return fputs(help, stdout) < 0 ? FAILED : 0;
		if (option == '?')
			return FAILED;
		json |= option == 'j';
		exceptions_file = option == 'e' ? optarg : exceptions_file;
	}
	if (optind + 1 != argc) {
		fputs("lol-sites: one file is needed; see lol-sites --help\n", stderr);
		return FAILED;
	}
	if (!exceptions_file && default_exceptions(path))
		exceptions_file = path;
	if (exceptions_file && *exceptions_file) {
		exceptions = exceptions_read(exceptions_file, &line, &error);
		if (!exceptions) {
			fprintf(stderr, "lol-sites: %s:%u: %s\n", exceptions_file, line, error);
			return FAILED;
		}
	}
	insn_init();
	status = check(argv[optind], json, exceptions);
	exceptions_free(exceptions);
	return status;
}
