# SPDX-License-Identifier: BSD-2-Clause
"""The worlds that bench/run compares, the rows that it measures, and how a session of a world is started.

A session is one start of a world: it runs bench/session with a plan, and its console is our input. Every world gets the same
programs: a copy of one root file system as its disk, or natively the same files unpacked.
"""

import fcntl
import os
import shutil
import subprocess

MEM_MIB = 1024

# name: title, what one operation is, aim as a multiple of native time (issue of speed), expected native ns
MICRO = {
    "getppid": ("getppid", 2.0, 0.14e3),
    "clock_gettime": ("clock_gettime", 1.1, 23),
    "stat-proc": ("stat of a /proc file", 1.5, 1.7e3),
    "open-close": ("open + close", 1.5, 2.2e3),
    "signal": ("signal to itself, caught", 3.0, 2.2e3),
    "pipe": ("pipe round trip, two processes", 2.0, 4.2e3),
    "fork": ("fork + exit + wait", 3.0, 78e3),
    "exec": ("vfork + exec + wait (static)", 2.5, 357e3),
    "thread": ("thread create + join", 2.5, 18e3),
    "anon": ("anonymous page touched, large folios", 1.0, 300),
    "anon-4k": ("anonymous page touched, 4 KiB only", None, 1.6e3),
    "file": ("cached file page mapped and read", 2.0, 180),
    "memcpy": ("1 MiB memcpy", 1.01, 20e3),
    "integer": ("integer loop", 1.01, 3e3),
    "avx512": ("AVX-512 loop", 1.01, 1.5e3),
}

# name: title, aim, expected native seconds of the whole row with its preparation
MACRO = {
    "lua": ("compile lua, one job", 1.25, 5.5),
    "redis": ("redis-benchmark SET, 10 clients", 2.0, 1.2),
    "sqlite": ("sqlite", 1.25, 1.0),
    "git": ("git: import, log, repack, fsck", 1.25, 1.5),
    "find": ("find", 1.25, 0.7),
    "tar": ("tar: pack and unpack", 1.25, 1.0),
    "perl": ("perl", 1.25, 1.0),
    "hackbench": ("hackbench, 40 processes", 1.25, 0.5),
    "pipes": ("shell pipelines", 1.25, 1.0),
    "fio-seq-write": ("fio: sequential write", 1.25, 1.2),
    "fio-seq-write-again": ("fio: sequential write, memory used before", 1.25, 1.5),
    "fio-seq-write-fsync": ("fio: sequential write, fsync at the end", 1.25, 1.2),
    "fio-seq-read": ("fio: sequential read", 1.25, 1.2),
    "fio-seq-read-again": ("fio: sequential read, memory used before", 1.25, 1.5),
    "fio-rand-write": ("fio: 4 KiB random write", 1.25, 0.8),
    "fio-rand-write-fsync": ("fio: 4 KiB random write, fsync each", 1.25, 0.8),
    "fio-rand-read": ("fio: 4 KiB random read", 1.25, 1.0),
}

LONG = {
    "kernel": ("build of a tinyconfig kernel", 1.25, 150),
}

LOADS = {**MACRO, **LONG}

# What the geometric mean is of: a row that repeats another one under other conditions counts once.
MEAN = [row for row in LOADS if not row.endswith("-again")]

# name: title, how much longer than native a row takes at most (for estimates and limits)
WORLDS = {
    "native": ("native", 1),
    "uml": ("UML, seccomp", 6),
    "uml-ptrace": ("UML, ptrace", 12),
    "qemu": ("QEMU TCG", 15),
    "lol": ("LoL", 2),
}
SLOW = ("uml-ptrace", "qemu")

# UML's block device answers a flush without a word to the host (bench/README.md has the count): no peer where writes have to last.
FLUSHES = ("fio-seq-write-fsync", "fio-rand-write-fsync")
NO_FLUSH = ("uml", "uml-ptrace")


class Missing(Exception):
    """A world cannot be had here: one line says what and what to do."""


class Place:
    """Where things are, and as whom guests run."""

    def __init__(self, options):
        self.bench = os.path.dirname(os.path.realpath(__file__))
        self.top = os.path.dirname(self.bench)
        uid = os.geteuid()
        self.prefix = []
        if uid == 0:
            uid = int(os.environ.get("SUDO_UID") or 0) or 65534
            gid = int(os.environ.get("SUDO_GID") or 0) or 65534
            self.state = f"/var/tmp/lol-bench-{uid}"
            self.prefix = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all", "--"]
        else:
            cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
            self.state = os.path.join(cache, "lol", "bench")
        self.state = os.environ.get("LOL_BENCH_STATE", self.state)
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(self.state, uid, gid)
        if os.stat(self.state).st_uid != uid:
            raise SystemExit(f"bench: {self.state}: belongs to somebody else; remove it or set LOL_BENCH_STATE")
        self.uid = uid
        # Disks are in use by one at a time. The lock ends with the process.
        self.lock = os.open(self.state, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Missing(f"{self.state}: another run measures; wait for its end, or set LOL_BENCH_STATE") from None
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": self.state,
            "LC_ALL": "C",
            "TMPDIR": self.memory_directory(),
        }
        for name in os.environ:
            if name.lower().endswith("_proxy") or name == "LOL_DEBIAN_MIRROR":
                self.environment[name] = os.environ[name]
        self.lol_run = options.lol_run or self.find_lol_run()
        self.kernel = options.kernel or os.environ.get("LOL_KERNEL") or self.find_kernel()
        self.cpus = options.cpus

    def memory_directory(self):
        """UML keeps guest RAM in a file of TMPDIR, which it says should be a tmpfs, and maps it executable."""
        shm = f"/dev/shm/lol-bench-{self.uid}"
        self.run_as("mkdir", "-p", "-m", "700", shm)
        try:
            noexec = os.statvfs(shm).f_flag & os.ST_NOEXEC
            mine = os.stat(shm).st_uid == self.uid
        except OSError:
            return self.state
        return shm if mine and not noexec else self.state

    def run_as(self, *words):
        return subprocess.run(self.command(*words), check=False, stderr=subprocess.DEVNULL, cwd="/")

    def find_lol_run(self):
        for name in (os.environ.get("LOL_RUN"), os.path.join(self.top, "build", "lol-run"), shutil.which("lol-run"),
                     f"/var/tmp/lol-{self.uid}/inst/bin/lol-run"):
            if name and os.access(name, os.X_OK):
                return name
        return None

    def find_kernel(self):
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        for home in (data, f"/var/tmp/lol-{self.uid}/home/.local/share"):
            name = os.path.join(home, "lol/kernels/default/vmlinux")
            if os.path.exists(name):
                return name
        return None

    def path(self, *names):
        return os.path.join(self.state, *names)

    def command(self, *words):
        """WORDS as the user of the guests."""
        return self.prefix + list(words)

    def run(self, *words, **more):
        return subprocess.run(self.command(*words), env=self.environment, cwd=self.state, check=True, **more)

    def prepare(self, part):
        """bench/prepare makes what is not there yet."""
        try:
            self.run(os.path.join(self.bench, "prepare"), self.state, part)
        except subprocess.CalledProcessError as error:
            raise Missing(f"bench/prepare {part} failed; the line above says why") from error


def program(name, package):
    if not shutil.which(name):
        raise Missing(f"missing: {name}; install with: apt-get install {package}")


def check(place, world):
    """Raises Missing unless WORLD can be started here; makes what it needs."""
    place.prepare("micro")
    program("taskset", "util-linux")
    place.prepare("image")
    if world == "native":
        program("unshare", "util-linux")
        try:
            place.run("unshare", "-Urm", "true", stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError as error:
            raise Missing("native: this host gives ordinary users no user namespaces; leave it out with --worlds") from error
        place.prepare("tree")
    elif world in ("uml", "uml-ptrace"):
        place.prepare("uml")
    elif world == "qemu":
        program("qemu-system-x86_64", "qemu-system-x86")
        need_kernel(place)
    elif world == "lol":
        if not place.lol_run:
            raise Missing("lol-run: not found; build LoL (./autogen.sh; mkdir build; cd build; ../configure; make) or give --lol-run")
        need_kernel(place)


def host_primitives(place, *words):
    """What bench/host-primitives.c says of the two CPUs."""
    place.prepare("primitives")
    cpus = ["--cpus", ",".join(map(str, place.cpus[:2]))] if len(place.cpus) > 1 else []
    return place.run(place.path("host-primitives"), *cpus, *words, capture_output=True, text=True).stdout


def primitives(place):
    """The table, which is measured once in a run."""
    return host_primitives(place)


def distance(place):
    """Nanoseconds of a hand-over and back between the two CPUs at the moment; None where there are no two."""
    return float(host_primitives(place, "--distance", "3")) if len(set(place.cpus[:2])) > 1 else None


def need_kernel(place):
    if not place.kernel or not os.path.exists(place.kernel):
        raise Missing("no guest kernel; make one with: lol-guest kernel build, or give --kernel VMLINUX")


def version(place, world):
    """What the header says about a world."""
    def first_line(*words):
        try:
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")[0]
        except (OSError, subprocess.CalledProcessError):
            return "?"

    if world == "qemu":
        return first_line("qemu-system-x86_64", "--version")
    if world.startswith("uml"):
        with open(place.path("uml", "version"), encoding="ascii") as file:
            return "Debian's user-mode-linux " + file.read().strip()
    if world == "lol":
        git = ("git", "-c", f"safe.directory={place.top}", "-C", place.top)
        commit = first_line(*git, "describe", "--always", "--exclude=*")
        if first_line(*git, "status", "--porcelain", "--", ".", ":!bench/results", ":!README.md", ":!docs/performance.md"):  # what a run writes
            commit += "-dirty"
        return f"{first_line(place.lol_run, '--version')}, commit {commit}"
    return ""


def disk(place, world):
    """The world's own copy of the root file system, kept between sessions as long as the original is the same."""
    copy, mark = place.path(f"root-{world}.img"), place.path(f"root-{world}.id")
    with open(place.path("root.id"), encoding="ascii") as file:
        wanted = file.read()
    try:
        with open(mark, encoding="ascii") as file:
            if file.read() == wanted and os.path.exists(copy):
                return copy
    except OSError:
        pass
    place.run("sh", "-c", f"rm -f {mark}; cp --sparse=always --reflink=auto root.img {copy} && sync -f {copy} && cp root.id {mark}")
    return copy


def forget_disk(place, world):
    """After a session that ended badly its disk is not to be trusted."""
    place.run("rm", "-f", f"root-{world}.id", f"root-{world}.img")


def pack(place, world, plan):
    """The second disk: a tar of what the session needs. Natively a directory."""
    directory = place.path(f"session-{world}")
    place.run("rm", "-rf", directory)
    place.run("mkdir", directory)
    place.run("cp", os.path.join(place.bench, "session"), place.path("micro"), directory)
    place.run("sh", "-c", 'cat >"$1"', "-", os.path.join(directory, "plan"), input="".join(plan).encode())
    if world != "native":
        place.run("sh", "-c", f"tar -C {directory} -cf {directory}.tar session micro plan && truncate -s %1M {directory}.tar")
    return directory


def command(place, world, plan, stats):
    """The words that start a session, its console on standard output."""
    near = place.cpus
    one = ["taskset", "-c", str(near[-1])]
    both = ["taskset", "-c", ",".join(map(str, near))]
    append = "quiet loglevel=1 init=/bench-init"
    directory = pack(place, world, plan)
    if world == "native":
        inside = (
            "mount --rbind /dev tree/dev && mount --rbind /sys tree/sys && mount -t proc proc tree/proc && mount -t tmpfs run tree/run && mkdir tree/run/bench && "
            f"cp {directory}/* tree/run/bench/ && "
            "exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot tree bash /run/bench/session /run/bench"
        )
        words = one + ["unshare", "-Urmpfi", "-n", "--kill-child", "sh", "-c", "ip link set lo up; " + inside]
    elif world in ("uml", "uml-ptrace"):
        words = one + [
            place.path("uml", "linux"), f"mem={MEM_MIB}M", f"ubd0={disk(place, world)}", f"ubd1r={directory}.tar", "root=/dev/ubda", "rw",
            "seccomp=" + ("on" if world == "uml" else "off"), "con=null", "con0=null,fd:1", *append.split(),
        ]
    elif world == "qemu":
        drives = []
        for i, (file, mode) in enumerate(((disk(place, world), "off"), (directory + ".tar", "on"))):
            drives += ["-drive", f"if=none,id=d{i},file={file},format=raw,cache=writeback,read-only={mode}",
                       "-device", f"virtio-blk-device,drive=d{i}"]
        words = both + [
            "qemu-system-x86_64", "-M", "microvm,acpi=off,rtc=on,auto-kernel-cmdline=on", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(MEM_MIB),
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", place.kernel,
            "-append", f"console=ttyS0 root=/dev/vda rw panic=-1 reboot=t {append}", *drives,
        ]
    else:
        words = both + [
            place.lol_run, "-q", "-m", f"{MEM_MIB}M", "-d", disk(place, world), "-d", f"{directory}.tar,ro", f"--stats={stats}",
            "-a", f"console=ttyS0 root=/dev/vda rw {append}", place.kernel,
        ]
    return place.command(*words)
