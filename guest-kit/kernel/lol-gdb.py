
# ---- appended by lol-guest kernel build --debug ----
#
# SPDX-License-Identifier: BSD-2-Clause
# Under LoL the kernel runs at other addresses than it is linked at; gdb hears so from the server when it connects (qOffsets).
# lx-symbols loads vmlinux anew and would forget it: its "symbol-file" becomes the command that does not.
def _lol_install():
    import gdb

    if getattr(gdb, "lol_execute", None):
        return
    gdb.lol_execute = gdb.execute

    def is_lol():
        try:
            return "Linux-on-Linux" in gdb.lol_execute("monitor info version", to_string=True)
        except gdb.error:
            return False

    def execute(command, *args, **kwargs):
        words = command.split()
        if len(words) == 2 and words[0] == "symbol-file" and is_lol():
            command = "add-symbol-file %s -o 0x80000000 -s .data..percpu 0" % words[1]
        return gdb.lol_execute(command, *args, **kwargs)

    gdb.execute = execute


_lol_install()
