/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where things are: the user's files (XDG base directories) and LoL's own programs. The environment is read at each
 * call. All return a malloc'ed path, or NULL when there is no home directory (or no memory).
 */
#ifndef LOL_PATHS_H
#define LOL_PATHS_H

char *paths_config(const char *rel); /* $XDG_CONFIG_HOME/rel, else ~/.config/rel */
char *paths_data(const char *rel);   /* $XDG_DATA_HOME/rel, else ~/.local/share/rel */
char *paths_home(const char *rel);   /* ~/rel */

/*
 * A program that only LoL itself starts (lol-k, lol-u): beside lol-run in a build tree, in ../libexec/lol of an
 * installed one wherever it was moved to, else where configure said.
 */
char *paths_helper(const char *name);

#endif
