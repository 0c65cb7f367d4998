/* SPDX-License-Identifier: BSD-2-Clause */
/* lol-run: give root away, understand the options, hand them to the machine. */
#include "config.h"
#include "drop_root.h"
#include "error.h"
#include "machine.h"
#include "options.h"

/* What was only to be printed must have reached its reader. */
static int printed(void)
{
	return fflush(stdout) || ferror(stdout)
		       ? lol_fail(LOL_EXIT_USAGE, "standard output: cannot be written; is it full or closed?")
		       : LOL_EXIT_OK;
}

static int run(struct lol_options *opts, int argc, char **argv, struct lol_error *err)
{
	if (drop_root(err) || options_parse(opts, argc, argv, err))
		return lol_fail(LOL_EXIT_USAGE, "%s", err->text);
	if (opts->action == LOL_HELP) {
		options_print_help(stdout);
		return printed();
	}
	if (opts->action == LOL_VERSION) {
		printf("lol-run (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
		return printed();
	}
	if (options_read_user_config(opts, err) || options_finish(opts, err) || options_check_files(opts, err))
		return lol_fail(LOL_EXIT_USAGE, "%s", err->text);
	if (opts->action == LOL_DRY_RUN) {
		options_print_command(stdout, opts);
		return printed();
	}
	return machine_run(opts);
}

int main(int argc, char **argv)
{
	struct lol_options opts = {0};
	struct lol_error err;
	int status = run(&opts, argc, argv, &err);

	options_free(&opts);
	return status;
}
