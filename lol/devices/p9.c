/* SPDX-License-Identifier: BSD-2-Clause */
#include "p9.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Layouts, a letter a field: 1 2 4 8 integers of so many bytes; n a name, one component of a path; s any text; g a group;
 * c the number of bytes wanted; d a number and so many bytes of data; w a number and so many names. A layout that ends
 * leaves nothing behind it.
 */
struct message {
	uint8_t type;
	bool writes;
	const char *layout;
};

enum {
	TLOPEN = 12,
	TMKNOD = 18,
	RGETATTR = 25,
	TSETATTR = 26,
	TXATTRCREATE = 32,
	TATTACH = 104,
};

static const struct message messages[] = {
	{8, false, "4"},                /* statfs: fid */
	{TLOPEN, false, "44"},          /* fid flags */
	{14, true, "4n44g"},            /* lcreate: fid name flags mode gid */
	{16, true, "4nsg"},             /* symlink: dir name target gid */
	{TMKNOD, true, "4n444g"},       /* dir name mode major minor gid */
	{20, true, "44n"},              /* rename: fid dir name */
	{22, false, "4"},               /* readlink: fid */
	{24, false, "48"},              /* getattr: fid mask */
	{TSETATTR, true, "4444488888"}, /* fid valid mode uid gid size atime(s,ns) mtime(s,ns) */
	{30, false, "44s"},             /* xattrwalk: fid newfid name */
	{TXATTRCREATE, true, "4s84"},   /* fid name size flags */
	{40, false, "48c"},             /* readdir: fid offset count */
	{50, false, "44"},              /* fsync: fid datasync */
	{52, false, "414884s"},         /* lock: fid type flags start length proc client */
	{54, false, "41884s"},          /* getlock: fid type start length proc client */
	{70, true, "44n"},              /* link: dir fid name */
	{72, true, "4n4g"},             /* mkdir: dir name mode gid */
	{74, true, "4n4n"},             /* renameat: dir name newdir newname */
	{76, true, "4n4"},              /* unlinkat: dir name flags */
	{P9_TVERSION, false, "4s"},     /* msize version */
	{TATTACH, false, "44ss4"},      /* fid afid uname aname uid */
	{P9_TFLUSH, false, "2"},        /* tag */
	{110, false, "44w"},            /* walk: fid newfid names */
	{116, false, "48c"},            /* read: fid offset count */
	{118, true, "48d"},             /* write: fid offset data */
	{120, false, "4"},              /* clunk: fid */
	{122, true, "4"},               /* remove: fid */
};

#define XATTR_BYTES_MAX 65536u /* Linux's own limit */
#define SETATTR_UID 2u
#define SETATTR_GID 4u

static uint32_t get2(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get4(const uint8_t *p)
{
	return get2(p) | get2(p + 2) << 16;
}

static void put4(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> (8 * i));
}

void p9_set_tag(uint8_t *msg, uint16_t tag)
{
	msg[5] = (uint8_t)tag;
	msg[6] = (uint8_t)(tag >> 8);
}

uint16_t p9_flush_tag(const uint8_t *msg)
{
	return (uint16_t)get2(msg + P9_HEADER);
}

void p9_set_flush_tag(uint8_t *msg, uint16_t tag)
{
	msg[P9_HEADER] = (uint8_t)tag;
	msg[P9_HEADER + 1] = (uint8_t)(tag >> 8);
}

void p9_error(uint8_t *msg, uint16_t tag, int error)
{
	put4(msg, P9_ERROR_SIZE);
	msg[4] = P9_RLERROR;
	p9_set_tag(msg, tag);
	put4(msg + P9_HEADER, (uint32_t)error);
}

static const struct message *find(uint8_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(messages); i++)
		if (messages[i].type == type)
			return &messages[i];
	return NULL;
}

/* One component: the guest's kernel resolves paths, the server must never have to. */
static bool is_name(const uint8_t *name, uint32_t len)
{
	if (!len || len > 255 || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return name[0] != '.' || (len > 1 && (len > 2 || name[1] != '.'));
}

struct reader {
	uint8_t *at;
	uint32_t left;
};

static uint8_t *take(struct reader *r, uint32_t n)
{
	uint8_t *p = r->at;
	if (r->left < n)
		return NULL;
	r->at += n;
	r->left -= n;
	return p;
}

/* A text behind its length; NULL where it does not fit or has a NUL. */
static uint8_t *take_text(struct reader *r, uint32_t *len)
{
	uint8_t *p = take(r, 2);
	if (!p)
		return NULL;
	*len = get2(p);
	p = take(r, *len);
	return p && !memchr(p, 0, *len) ? p : NULL;
}

static int check_names(struct reader *r)
{
	uint8_t *p = take(r, 2);
	uint32_t len;
	for (uint32_t n = p ? get2(p) : UINT32_MAX; n; n--) {
		if (n > 16 || !(p = take_text(r, &len))) /* at most 16 a walk: the protocol's MAXWELEM */
			return EINVAL;
		if (!is_name(p, len))
			return ENOENT;
	}
	return 0;
}

static int check_field(struct reader *r, char field, uint32_t gid)
{
	uint8_t *p;
	uint32_t len;
	switch (field) {
	case 'n':
		if (!(p = take_text(r, &len)))
			return EINVAL;
		return is_name(p, len) ? 0 : len > 255 ? ENAMETOOLONG : EINVAL;
	case 's':
		return take_text(r, &len) ? 0 : EINVAL;
	case 'g':
		if (!(p = take(r, 4)))
			return EINVAL;
		put4(p, gid);
		return 0;
	case 'c':
		return (p = take(r, 4)) && get4(p) <= P9_MSIZE_MAX ? 0 : EINVAL;
	case 'd':
		return (p = take(r, 4)) && take(r, get4(p)) ? 0 : EINVAL;
	case 'w':
		return check_names(r);
	default:
		return take(r, (uint32_t)(field - '0')) ? 0 : EINVAL;
	}
}

static int check_setattr(const struct p9_policy *policy, uint8_t *body)
{
	uint32_t valid = get4(body + 4);
	if ((valid & SETATTR_UID && get4(body + 12)) || (valid & SETATTR_GID && get4(body + 16)))
		return EPERM;
	put4(body + 12, policy->uid);
	put4(body + 16, policy->gid);
	return 0;
}

/* Whoever the guest says it is and whatever it wants: it is the one user, and gets the root of the share. */
static int rewrite_attach(const struct p9_policy *policy, uint8_t *msg, uint32_t *len, uint32_t cap)
{
	const char *root = *policy->root ? policy->root : "/";
	uint32_t rlen = (uint32_t)strlen(root), size = P9_HEADER + 8 + 2 + 2 + rlen + 4;
	uint8_t *text = msg + P9_HEADER + 8 + 4;
	if (size > cap)
		return ENAMETOOLONG;
	put4(text - 4, rlen << 16); /* an empty uname, the length of aname */
	memcpy(text, root, rlen);
	put4(text + rlen, policy->uid);
	put4(msg, size);
	*len = size;
	return 0;
}

static int special_checks(const struct p9_policy *policy, const struct message *m, uint8_t *msg, uint32_t *len,
			  uint32_t cap)
{
	uint8_t *body = msg + P9_HEADER;
	switch (m->type) {
	case TLOPEN: {
		/* Access mode, O_CREAT, O_TRUNC; the numbers are those of x86. */
		uint32_t flags = get4(body + 4);
		return policy->ro && (flags & 3 || flags & (0100 | 01000)) ? EROFS : 0;
	}
	case TMKNOD: {
		mode_t mode = get4(body + 4 + 2 + get2(body + 4));
		return S_ISCHR(mode) || S_ISBLK(mode) ? EPERM : 0;
	}
	case TSETATTR:
		return check_setattr(policy, body);
	case TXATTRCREATE: {
		uint8_t *size = body + 4 + 2 + get2(body + 4);
		return get4(size) > XATTR_BYTES_MAX || get4(size + 4) ? E2BIG : 0;
	}
	case P9_TVERSION:
		if (get4(body) > P9_MSIZE_MAX)
			put4(body, P9_MSIZE_MAX);
		return 0;
	case TATTACH:
		return rewrite_attach(policy, msg, len, cap);
	default:
		return 0;
	}
}

int p9_request(const struct p9_policy *policy, uint8_t *msg, uint32_t *len, uint32_t cap)
{
	const struct message *m = find(msg[4]);
	struct reader r = {msg + P9_HEADER, *len - P9_HEADER};
	if (!m)
		return EOPNOTSUPP;
	if (m->writes && policy->ro)
		return EROFS;
	for (const char *field = m->layout; *field; field++) {
		int error = check_field(&r, *field, policy->gid);
		if (error)
			return error;
	}
	return r.left ? EINVAL : special_checks(policy, m, msg, len, cap);
}

bool p9_reply(uint8_t *msg, uint32_t len)
{
	if (len < P9_HEADER || p9_size(msg) != len || !(msg[4] & 1))
		return false;
	if (msg[4] != RGETATTR)
		return true;
	/* valid[8] qid[13] mode[4] uid[4] gid[4] ... */
	uint8_t *owner = msg + P9_HEADER + 8 + 13 + 4;
	if (len < P9_HEADER + 153)
		return false;
	put4(owner, 0);
	put4(owner + 4, 0);
	return true;
}
