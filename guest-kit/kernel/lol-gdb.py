
# ---- appended by lol-guest kernel build --debug ----
#
# SPDX-License-Identifier: BSD-2-Clause
# Under LoL the kernel runs at other addresses than it is linked at; gdb hears so from the server when it connects (qOffsets).
# lx-symbols loads vmlinux anew and would forget it: its "symbol-file" becomes the command that does not.
def _lol_install():
    import struct

    import gdb

    if getattr(gdb, "lol_execute", None):
        return
    gdb.lol_execute = gdb.execute

    def is_lol():
        try:
            return "Linux-on-Linux" in gdb.lol_execute("monitor info version", to_string=True)
        except gdb.error:
            return False

    def percpu_at_zero(path):
        """Linked at 0, it stays there; since Linux 6.15 it is a part of the image like any other."""
        with open(path, "rb") as file:
            header = file.read(64)
            at, count = struct.unpack_from("<Q", header, 32)[0], struct.unpack_from("<H", header, 56)[0]
            file.seek(at)
            return any(struct.unpack_from("<I4xQQ", file.read(56))[::2] == (1, 0) for i in range(count))

    def execute(command, *args, **kwargs):
        words = command.split()
        if len(words) == 2 and words[0] == "symbol-file" and is_lol():
            command = "add-symbol-file %s -o 0x80000000" % words[1]
            if percpu_at_zero(words[1]):
                command += " -s .data..percpu 0"
        return gdb.lol_execute(command, *args, **kwargs)

    gdb.execute = execute


_lol_install()


# Stacks through the kernel's entries, its interrupt stack, and whatever has no line information: by the kernel's own ORC tables
# (Documentation/arch/x86/orc-unwinder.rst in the kernel). The entry code in assembler has no other.
def _orc_install():
    import struct
    from collections import Counter

    import gdb
    from gdb.FrameDecorator import FrameDecorator
    from gdb.unwinder import Unwinder, register_unwinder

    # How the tables number registers; that has changed, as have the kinds of frames. Nearly all entries are of calls and reckon from
    # rsp, which tells the numberings apart.
    REGISTERS = [
        ["", "prev_sp", "rdx", "rdi", "rbp", "rsp", "r10", "r13", "*rbp", "*rsp"],
        ["", "rax", "rdx", "rsp", "rbp", "rdi", "r10", "r13", "prev_sp", "*rsp", "*rbp"],
    ]
    TYPE_UNDEFINED, TYPE_END, TYPE_CALL, TYPE_REGS, TYPE_PARTIAL = range(5)
    PT_REGS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi".split()
    MASK = (1 << 64) - 1

    class FrameId:
        def __init__(self, sp, pc):
            self.sp = sp
            self.pc = pc

    class Orc(Unwinder):
        def __init__(self):
            super().__init__("lol-orc")
            self.tables = None
            # Frames by (pc, sp): where an interrupted one goes on, which is not behind a call; and on how many stacks those within
            # it are. gdb takes a frame for nonsense that is below its callee: on another stack everything is raised.
            self.exact = {}
            self.stacks = {}
            gdb.events.cont.connect(lambda event: (self.exact.clear(), self.stacks.clear()))

        def word(self, at):
            return struct.unpack("<Q", gdb.selected_inferior().read_memory(at & MASK, 8).tobytes())[0]

        def load(self):
            def address(name):
                return int(gdb.parse_and_eval("(unsigned long)&" + name)) & MASK

            start = address("__start_orc_unwind_ip")
            count = (address("__stop_orc_unwind_ip") - start) // 4
            memory = gdb.selected_inferior()
            ips = struct.unpack("<%di" % count, memory.read_memory(start, 4 * count).tobytes())
            entries = memory.read_memory(address("__start_orc_unwind"), 6 * count).tobytes()
            if not count or not any(entries):
                raise gdb.error("the tables are not there yet")
            often = Counter(byte & 15 for byte in entries[4::6]).most_common(1)[0][0]
            self.registers = next(r for r in REGISTERS if r[often] == "rsp")
            self.old_types = Counter(byte & 7 for byte in entries[5::6]).most_common(1)[0][0] != TYPE_CALL  # before Linux 6.4
            self.tables = (start, [(start + 4 * i + ip) & MASK for i, ip in enumerate(ips)], entries)

        def find(self, pc):
            import bisect

            if self.tables is None:
                self.load()
            _, ips, entries = self.tables
            i = bisect.bisect_right(ips, pc) - 1
            if i < 0 or i + 1 >= len(ips):
                return None
            sp_offset, bp_offset, bits = struct.unpack_from("<hhH", entries, 6 * i)
            kind = bits >> 8 & 7
            if self.old_types:
                kind = TYPE_END if kind & 4 else TYPE_UNDEFINED if not bits & 15 else TYPE_CALL + kind
            names = self.registers + [""] * 16
            return sp_offset, bp_offset, names[bits & 15], names[bits >> 4 & 15], kind

        def __call__(self, frame):
            try:
                return self.unwind(frame)
            except (gdb.error, OverflowError):
                return None

        def unwind(self, frame):
            def value(name):
                return int(frame.read_register(name)) & MASK

            pc, sp = value("rip"), value("rsp")
            try:
                bp = value("rbp")
            except gdb.error:
                bp = 0
            entry = self.find(pc if frame.level() == 0 or (pc, sp) in self.exact else pc - 1)
            if entry is None:
                return None
            sp_offset, bp_offset, sp_reg, bp_reg, kind = entry
            if kind == TYPE_UNDEFINED:
                return None
            stacks = self.stacks.get((pc, sp), 0)
            if not stacks and kind == TYPE_CALL and sp_reg != "*rsp" and gdb.find_pc_line(pc - 1).symtab is not None:
                return None  # gdb knows more
            word_type = gdb.lookup_type("unsigned long")
            info = frame.create_unwind_info(FrameId(gdb.Value(sp + (stacks << 52)).cast(word_type), gdb.Value(pc).cast(word_type)))

            def save(name, number):
                kind = frame.read_register(name).type
                info.add_saved_register(name, gdb.Value(number & MASK).cast(word_type).cast(kind))

            def caller(ip, caller_sp):
                self.stacks[(ip, caller_sp)] = stacks + (caller_sp < sp)

            if kind == TYPE_END:
                save("rip", 0)
                save("rsp", sp)
                save("rbp", bp)
                return info
            if sp_reg in ("rsp", "*rsp", "rbp", "*rbp"):
                cfa = sp if sp_reg.endswith("rsp") else bp
            elif sp_reg in ("", "prev_sp"):
                return None
            else:
                cfa = value(sp_reg)
            if sp_reg == "*rsp":
                cfa = self.word(cfa) + sp_offset
            else:
                cfa += sp_offset
                if sp_reg == "*rbp":
                    cfa = self.word(cfa)
            if kind == TYPE_CALL:
                ip = self.word(cfa - 8)
                caller(ip, cfa)
                save("rip", ip)
                save("rsp", cfa)
                if bp_reg == "prev_sp":
                    bp = self.word(cfa + bp_offset)
                elif bp_reg == "rbp":
                    bp = self.word(bp + bp_offset)
                save("rbp", bp)
                for name in ("rbx", "r12", "r13", "r14", "r15"):  # where they are saved, these tables do not say
                    try:
                        save(name, value(name))
                    except gdb.error:
                        pass
                return info
            if kind == TYPE_REGS:
                for i, name in enumerate(PT_REGS):
                    save(name, self.word(cfa + 8 * i))
                cfa += 128
            else:
                save("rbp", bp)
            ip, code, new_sp = self.word(cfa), self.word(cfa + 8), self.word(cfa + 24)
            self.exact[(ip, new_sp)] = True
            caller(ip, new_sp)
            if code & 3 and "No symbol" in gdb.execute("info symbol %#x" % ip, to_string=True):
                save("rip", 0)  # user code of which nothing is known: its stack would be guesses
            else:
                save("rip", ip)
            save("rsp", new_sp)
            return info

    class Named(FrameDecorator):
        """A call that never returns may be the last instruction of its function: gdb's own decorator looks behind it."""

        def function(self):
            frame = self.inferior_frame()
            return frame.name() if frame.function() is None and frame.name() else super().function()

    class Last:
        """An unwinder cannot say that a frame is the first of all; it gives it a caller at 0, which is not to be shown."""

        def __init__(self):
            self.name = "lol-last"
            self.priority = 100
            self.enabled = True
            gdb.frame_filters[self.name] = self

        def filter(self, frames):
            for frame in frames:
                if frame.inferior_frame().pc() == 0 and frame.inferior_frame().level() > 0:
                    return
                yield Named(frame)

    register_unwinder(None, Orc(), replace=True)
    Last()


_orc_install()
