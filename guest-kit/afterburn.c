/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lol-afterburn stands in for the assembler: "gcc -B DIR -c x.c", where
 * DIR/as is a link to it, gives x.o with its virtualization-sensitive
 * instructions padded and listed in section .ivmm.sites.  See afterburn.h.
 *
 *	cc -O2 -D_GNU_SOURCE -Iinclude -o lol-afterburn afterburn*.c
 *
 * This file is the part that looks at arguments and environment.  Anything
 * out of the ordinary is left to the real assembler, with its messages.
 */
#include "afterburn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILED 125

static const char help[] = "Usage: lol-afterburn [assembler options] [-o OBJECT] [FILE...]\n"
			   "\n"
			   "Assembles like the real assembler, which gets all options, and pads and\n"
			   "annotates the instructions that a virtual machine monitor must intercept.\n"
			   "Make a link to it with the name \"as\" in DIR and compile with gcc -B DIR.\n"
			   "\n"
			   "  --help          this text\n"
			   "  --version-lol   version of the site table's ABI\n"
			   "  --version       version of the real assembler\n"
			   "\n"
			   "Environment:\n"
			   "  LOL_AS=PROGRAM             the real assembler (default: \"as\" in PATH)\n"
			   "  LOL_AFTERBURN_PLAIN=1      pass the text through unchanged\n"
			   "  LOL_AFTERBURN_LOG=FILE     append a line per object: sites by kind\n"
			   "\n"
			   "Passed through unchanged, by the name of OBJECT: /dev/null and .tmp_*/ (probes),\n"
			   "arch/x86/boot/ except startup/, arch/x86/realmode/rm/, arch/x86/purgatory/,\n"
			   "drivers/firmware/efi/libstub/, tools/ and scripts/ (at the start only), and\n"
			   "arch/x86/entry/vdso/ except vma.o, extable.o, vdso32-setup.o and vdso-image-*.\n"
			   "\n"
			   "Exit status: that of the real assembler; 125 if it could not be run.\n";

struct options {
	const char *output;
	const char *response; /* "@file" */
	bool probe;           /* --version and the like: nothing is assembled */
	bool from_stdin;
	int n_files;
	int first_file; /* index in argv */
	char *is_file;  /* per argument */
};

static int fail(const char *what, int error)
{
	fprintf(stderr, "lol-afterburn: %s: %s\n", what, strerror(error));
	return FAILED;
}

/* Options of gas whose argument is the next word. */
static bool takes_word(const char *arg)
{
	static const char *const options[] = {
		"-o",
		"-I",
		"--defsym",
		"-defsym",
		"--MD",
		"-MD",
		"--debug-prefix-map",
		"-debug-prefix-map",
		"--hash-size",
		"--listing-lhs-width",
		"--listing-lhs-width2",
		"--listing-rhs-width",
		"--listing-cont-lines",
		"--gsframe-cfi",
		"--elf-stt-common",
		"-t",
	};

	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (!strcmp(arg, options[i]))
			return true;
	return false;
}

static bool is_probe(const char *arg)
{
	static const char *const probes[] = {"--version", "-version",      "--help",
					     "-help",     "--target-help", "--dump-config"};

	for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
		if (!strcmp(arg, probes[i]))
			return true;
	return false;
}

static void parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (arg[0] != '-' || !arg[1] || !strcmp(arg, "--")) {
			o->is_file[i] = 1;
			o->from_stdin |= arg[0] == '-';
			o->first_file = o->n_files++ ? o->first_file : i;
			o->response = arg[0] == '@' ? arg : o->response;
		} else if (is_probe(arg)) {
			o->probe = true;
		} else if (takes_word(arg)) {
			i++;
			if (!strcmp(arg, "-o") && i < argc)
				o->output = argv[i];
		} else if (!strncmp(arg, "-o", 2)) {
			o->output = arg + 2;
		}
	}
	o->from_stdin |= !o->n_files;
}

static const char *find(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	for (const char *p = path; (p = strstr(p, folder)); p++)
		if (p == path || p[-1] == '/')
			return p + n;
	return NULL;
}

/* Objects that do not run as part of the kernel in 64-bit mode; the help text has the list for users. */
static bool is_excluded(const char *output)
{
	static const char *const folders[] = {"arch/x86/realmode/rm/", "arch/x86/purgatory/",
					      "drivers/firmware/efi/libstub/"};
	static const char *const vdso_kernel[] = {"vma.", "extable.", "vdso32-setup.", "vdso-image-"};
	const char *rest;

	while (!strncmp(output, "./", 2))
		output += 2;
	if (!strcmp(output, "/dev/null") || !strncmp(output, "tools/", 6) || !strncmp(output, "scripts/", 8))
		return true;
	if ((rest = strstr(output, ".tmp_")) && (rest == output || rest[-1] == '/') && strchr(rest, '/'))
		return true;
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
		if (find(output, folders[i]))
			return true;
	/* startup/ is kernel code, but for two objects that go into the boot wrapper (Linux 6.16 and later) */
	if ((rest = find(output, "arch/x86/boot/")))
		return strncmp(rest, "startup/", 8) || !strncmp(rest + 8, "la57toggle.", 11) ||
		       !strncmp(rest + 8, "efi-mixed.", 10);
	if (!(rest = find(output, "arch/x86/entry/vdso/")))
		return false;
	for (size_t i = 0; i < sizeof vdso_kernel / sizeof *vdso_kernel; i++)
		if (!strncmp(rest, vdso_kernel[i], strlen(vdso_kernel[i])))
			return false;
	return true;
}

static bool is_self(const char *path)
{
	struct stat self, candidate;

	return !stat("/proc/self/exe", &self) && !stat(path, &candidate) && candidate.st_ino == self.st_ino &&
	       candidate.st_dev == self.st_dev;
}

/* The assembler that we stand for: never ourselves, under whatever name or link. NULL if there is none. */
static const char *real_assembler(char found[PATH_MAX])
{
	const char *name = getenv("LOL_AS"), *dir = getenv("PATH"), *end;

	name = name && *name ? name : "as";
	if (strchr(name, '/'))
		return is_self(name) ? NULL : name;
	for (dir = dir ? dir : "/usr/bin:/bin"; dir; dir = *end ? end + 1 : NULL) {
		struct stat st;

		end = strchrnul(dir, ':');
		if (snprintf(found, PATH_MAX, "%.*s/%s", (int)(end - dir), end == dir ? "." : dir, name) >= PATH_MAX)
			continue;
		if (!stat(found, &st) && S_ISREG(st.st_mode) && !access(found, X_OK) && !is_self(found))
			return found;
	}
	return NULL;
}

/* Append all of fd. 0 or negative errno. */
static int read_all(int fd, struct ab_buf *text)
{
	struct stat st;
	ssize_t n;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (size_t)st.st_size > text->cap - text->n) {
		char *p = realloc(text->p, text->n + st.st_size + 1);

		if (!p)
			return -ENOMEM;
		text->p = p;
		text->cap = text->n + st.st_size + 1;
	}
	do {
		if (text->cap - text->n < 1) {
			size_t cap = text->cap ? text->cap * 2 : 1 << 18;
			char *p = realloc(text->p, cap);

			if (!p)
				return -ENOMEM;
			text->p = p;
			text->cap = cap;
		}
		n = read(fd, text->p + text->n, text->cap - text->n);
		if (n > 0)
			text->n += n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

static int read_inputs(char **argv, int argc, const struct options *o, struct ab_buf *text)
{
	int error = 0;

	if (!o->n_files)
		return read_all(STDIN_FILENO, text);
	for (int i = 1; i < argc && !error; i++) {
		int fd;

		if (!o->is_file[i])
			continue;
		fd = argv[i][0] == '-' ? STDIN_FILENO : open(argv[i], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		error = read_all(fd, text);
		if (fd != STDIN_FILENO)
			close(fd);
	}
	return error;
}

static int run(const char *as, char **argv)
{
	execv(as, argv);
	return fail(as, errno);
}

/* Run the assembler with text as its standard input; its exit status. */
static int run_with_text(const char *as, char **argv, const struct ab_buf *text)
{
	int fds[2], status;
	size_t done = 0;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC))
		return fail("pipe", errno);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20); /* only a matter of speed */
	child = fork();
	if (child < 0)
		return fail("fork", errno);
	if (!child) {
		if (dup2(fds[0], STDIN_FILENO) < 0)
			_exit(fail("dup2", errno));
		_exit(run(as, argv));
	}
	close(fds[0]);
	signal(SIGPIPE, SIG_IGN); /* an assembler that gave up says why itself */
	while (done < text->n) {
		ssize_t n = write(fds[1], text->p + done, text->n - done);

		if (n < 0 && errno != EINTR)
			break;
		done += n > 0 ? n : 0;
	}
	close(fds[1]);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail("waitpid", errno);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* One line per object, in one write: objects are built in parallel. */
static void log_counts(const char *output, const struct ab_unit *stats)
{
	const char *name = getenv("LOL_AFTERBURN_LOG");
	const unsigned *c = stats->count;
	char *line;
	int fd, n;

	if (!name || !*name || (fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666)) < 0)
		return;
	n = asprintf(&line, "%s flags %u priv %u silent %u state %u uaccess %u mmio %u call %u unresolved %u\n", output,
		     c[IVMM_FLAGS], c[IVMM_PRIV], c[IVMM_SILENT], c[IVMM_STATE], c[IVMM_UACCESS], c[IVMM_MMIO],
		     c[IVMM_CALL], stats->unresolved);
	if (n > 0) {
		if (write(fd, line, n) != n)
			fprintf(stderr, "lol-afterburn: %s: %s\n", name, strerror(errno));
		free(line);
	}
	close(fd);
}

static int assemble(const char *as, int argc, char **argv, const struct options *o)
{
	const char *output = o->output ? o->output : "a.out";
	struct ab_buf text = {0}, rewritten = {0};
	struct ab_unit stats = {0};
	unsigned n_sites = 0;
	int error = read_inputs(argv, argc, o, &text), n = 0, status;

	if (error && !o->from_stdin)
		return run(as, argv); /* a missing file is for the assembler to complain about */
	if (!error)
		error = ab_rewrite((struct ab_str){text.p, text.n},
				   o->n_files && argv[o->first_file][0] != '-' ? argv[o->first_file]
									       : "{standard input}",
				   &rewritten, &stats, &n_sites);
	if (error)
		return fail(output, -error);
	log_counts(output, &stats);
	if (!n_sites && !o->from_stdin)
		return run(as, argv);

	char **args = calloc(argc + 2, sizeof *args);
	if (!args)
		return fail(output, ENOMEM);
	for (int i = 0; i < argc; i++)
		if (!o->is_file[i])
			args[n++] = argv[i];
	args[n++] = (char[]){"-"};
	status = run_with_text(as, args, n_sites ? &rewritten : &text);
	free(args);
	free(rewritten.p);
	free(text.p);
	return status;
}

/* A file of options may name input and output; passing it on unread could leave sites unseen. */
static int refuse(const char *response)
{
	fprintf(stderr, "lol-afterburn: %s: cannot read options from a file; put them on the command line\n", response);
	return FAILED;
}

int main(int argc, char **argv)
{
	const char *plain = getenv("LOL_AFTERBURN_PLAIN"), *as, *name = argc ? strrchr(argv[0], '/') : "";
	struct options o = {0};
	int status;
	char found[PATH_MAX];

	if (argc > 1 && !strcmp(argv[1], "--version-lol"))
		return printf("lol-afterburn, site table ABI %d\n", IVMM_ABI_VERSION) < 0;
	/* under the name "as" this is the assembler's own option */
	if (argc > 1 && !strcmp(argv[1], "--help") && strcmp(name ? name + 1 : argv[0], "as"))
		return fputs(help, stdout) < 0;
	as = real_assembler(found);
	if (!as)
		return fail("no assembler other than this: install binutils or set LOL_AS", ENOENT);
	o.is_file = calloc(argc + 1, 1);
	if (!o.is_file)
		return fail("options", ENOMEM);
	parse(argc, argv, &o);
	if ((plain && *plain && strcmp(plain, "0")) || o.probe || is_excluded(o.output ? o.output : "a.out"))
		status = run(as, argv);
	else if (o.response)
		status = refuse(o.response);
	else
		status = assemble(as, argc, argv, &o);
	free(o.is_file);
	return status;
}
