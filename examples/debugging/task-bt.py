# SPDX-License-Identifier: BSD-2-Clause
# gdb: source examples/debugging/task-bt.py
#
#   task-bt PID         the stack of a task that does not run, by its saved stack pointer
#   task-bt --blocked   of every task that waits and cannot be interrupted (state D)
#
# The registers of the vCPU are set to where the task will go on, and back again; the guest notices nothing. Needs a vmlinux with
# debug information.
import gdb


def tasks():
    task_type = gdb.lookup_type("struct task_struct").pointer()
    first = gdb.parse_and_eval("&init_task")
    offset = int(gdb.parse_and_eval("(unsigned long)&((struct task_struct *)0)->tasks"))
    leader = first
    while True:
        group = int(gdb.parse_and_eval("(unsigned long)&((struct task_struct *)0)->thread_node"))
        head = leader["signal"]["thread_head"].address
        node = head["next"]
        while node != head:
            yield gdb.Value(int(node) - group).cast(task_type)
            node = node["next"]
        leader = gdb.Value(int(leader["tasks"]["next"]) - offset).cast(task_type)
        if leader == first:
            return


def state(task):
    return int(task["__state"])


def backtrace(task):
    """The frame that switch_to leaves on a sleeping task's stack: r15 r14 r13 r12 rbx rbp, and where it goes on."""
    sp = int(task["thread"]["sp"])
    names = ["r15", "r14", "r13", "r12", "rbx", "rbp", "rip"]
    words = gdb.selected_inferior().read_memory(sp, 8 * len(names)).tobytes()
    saved = {name: int(gdb.parse_and_eval("(unsigned long)$" + name)) for name in names + ["rsp"]}
    try:
        for i, name in enumerate(names):
            gdb.execute("set $%s = %#x" % (name, int.from_bytes(words[8 * i : 8 * i + 8], "little")))
        gdb.execute("set $rsp = %#x" % (sp + 8 * len(names)))
        return gdb.execute("bt", to_string=True)
    finally:
        for name, value in saved.items():
            gdb.execute("set $%s = %#x" % (name, value))


class TaskBacktrace(gdb.Command):
    """task-bt PID | --blocked: the stack of a task that does not run."""

    def __init__(self):
        super().__init__("task-bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        blocked = argument == "--blocked"
        for task in tasks():
            # TASK_UNINTERRUPTIBLE; idle workers have TASK_NOLOAD, 0x400, beside it
            if (state(task) & 0x402) == 2 if blocked else (int(task["pid"]) == int(argument)):
                print('%d "%s" state %#x' % (int(task["pid"]), task["comm"].string(), state(task)))
                print(backtrace(task))


TaskBacktrace()
