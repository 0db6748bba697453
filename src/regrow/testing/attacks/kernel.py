"""The surfaces of the kernel: calls and files by which boxes of others were left."""

from __future__ import annotations

from regrow.testing.attacks.base import Attack, Control


def _call(
    name: str,
    tries: str,
    code: str,
    *,
    control: Control = "plain",
    root: bool = False,
    optional: bool = False,
    why: str = "",
    dies: bool = False,
) -> Attack:
    return Attack(name, tries, code, control=control, root=root, optional=optional, why=why, dies=dies)


_NEW_USER, _NEW_MOUNT = 0x10000000, 0x20000

ATTACKS = (
    _call("a user namespace", "makes one by unshare", f"call('unshare', {_NEW_USER})\ngot()", optional=True),
    _call(
        "a user namespace by clone",
        "makes one by clone",
        f"child = call((56, 220), {_NEW_USER} | 17, 0, 0, 0, 0)\nif child == 0:\n    os._exit(0)\n"
        f"os.waitpid(child, 0)\ngot(child)",
        optional=True,
    ),
    _call(
        "a user namespace by clone3",
        "makes one by clone3, whose flags no filter can read",
        f"flags = struct.pack('=QQQQQQQQ', {_NEW_USER}, 0, 0, 0, 17, 0, 0, 0)\n"
        "child = call((435, 435), flags, len(flags))\nif child == 0:\n    os._exit(0)\nos.waitpid(child, 0)\n"
        "got(child)",
        optional=True,
    ),
    _call("a mount namespace", "makes one", f"call('unshare', {_NEW_MOUNT})\ngot()", control="nested"),
    _call(
        "the namespace of another",
        "enters one by setns",
        "call('setns', os.open('/proc/self/ns/uts', 0), 0)\ngot()",
        control="nested",
    ),
    _call(
        "a mount", "mounts a file system", "call('mount', b'none', b'/tmp', b'tmpfs', 0, None)\ngot()", control="nested"
    ),
    _call(
        "a mount made writable",
        "mounts the workspace again, for writing",
        "here = os.getcwd().encode()\ncall('mount', here, here, None, 4096, None)\n"
        "call('mount', b'', here, None, 32 | 4096, None)\ngot()",
        control="nested",
    ),
    _call(
        "a mount taken away",
        "unmounts what lies over something",
        "try:\n    call('mount', b'none', b'/mnt', b'tmpfs', 0, None)\nexcept OSError:\n    pass\n"
        "for name in (b'/mnt', b'/tmp', b'/proc', os.getcwd().encode()):\n"
        "    try:\n        call('umount2', name, 2); got(name); break\n    except OSError as error:\n"
        "        print('held', error)",
        control="nested",
    ),
    _call("another root", "changes its root directory", "call('chroot', b'/tmp')\ngot()", control="nested"),
    _call(
        "the new way to mount", "opens a file system by fsopen", "got(call((430, 430), b'tmpfs', 0))", control="nested"
    ),
    _call(
        "a copy of a mount",
        "clones the tree of mounts by open_tree",
        "got(call((428, 428), -100, b'/', 1 | 0x8000))",
        control="nested",
    ),
    _call(
        "attributes of a mount",
        "makes a mount writable by mount_setattr",
        "attributes = struct.pack('=QQQQ', 0, 1, 0, 0)\n"
        "call((442, 442), -100, b'/', 0, attributes, len(attributes))\ngot()",
        control="nested",
        optional=True,
    ),
    _call(
        "io_uring",
        "makes a ring, past the filter",
        "parameters = ctypes.create_string_buffer(120)\ngot(call((425, 425), 4, parameters))",
        optional=True,
    ),
    _call(
        "a key", "puts one into a keyring", "got(call((248, 217), b'user', token.encode(), b'x', 1, -2))", optional=True
    ),
    _call(
        "the keyring",
        "looks for the session's keyring, which namespaces share",
        "got(call((250, 219), 0, -3, 1))",
        optional=True,
    ),
    _call(
        "a program in the kernel",
        "makes a map for bpf",
        "attributes = struct.pack('=IIIII', 2, 4, 8, 1, 0) + bytes(100)\n"
        "got(call((321, 280), 0, attributes, len(attributes)))",
        root=True,
        optional=True,
    ),
    _call(
        "counters",
        "opens a performance event",
        "attributes = struct.pack('=IIQ', 1, 112, 0) + bytes(96)\ngot(call((298, 241), attributes, 0, -1, -1, 0))",
        root=True,
        optional=True,
    ),
    _call("faults in user space", "makes a userfaultfd", "got(call((323, 282), 1))", optional=True),
    _call("tracing", "asks to be traced", "call('ptrace', 0, 0, 0, 0)\ngot()"),
    _call(
        "a file by its handle",
        "opens a file by a number, past all mounts",
        "handle = ctypes.create_string_buffer(struct.pack('=Ii', 128, 0) + bytes(128))\nmount = ctypes.c_int()\n"
        "call((303, 264), -100, b'/usr/bin/env', handle, ctypes.byref(mount), 0)\n"
        "got(call((304, 265), os.open('/usr', 0), handle, os.O_RDONLY))",
        root=True,
        optional=True,
    ),
    _call("watching all files", "makes a fanotify group", "got(call('fanotify_init', 0, 0))", root=True, optional=True),
    _call(
        "what two processes share",
        "compares itself by kcmp",
        "call((312, 272), os.getpid(), os.getpid(), 1, 0, 0)\ngot()",
        optional=True,
    ),
    _call(
        "a module",
        "loads one",
        "reached('syscall', 175 if x86 else 105, None, 0, b'')\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "a module by its file",
        "loads one",
        "reached('syscall', 313 if x86 else 273, -1, b'', 0)\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "a module taken away",
        "unloads one that does not exist",
        "reached('syscall', 176 if x86 else 106, token.encode(), 2048)\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "another kernel",
        "loads one by kexec",
        "reached('syscall', 246 if x86 else 104, 0, 0, None, 0)\ngot()",
        control="none",
        why="where it works it would take away what another has loaded",
    ),
    _call(
        "swap",
        "turns it on for nothing",
        "reached('syscall', 167 if x86 else 224, None, 0)\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "accounting",
        "turns it on into a file that is not there",
        "reached('acct', ('/nonexistent/' + token).encode())\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "quota",
        "asks for that of nothing",
        "reached('syscall', 179 if x86 else 60, 0x800002 << 8, None, 0, None)\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "a restart of the machine",
        "asks with the wrong word",
        "reached('syscall', 169 if x86 else 142, 1, 2, 3, None)\ngot()",
        root=True,
    ),
    _call(
        "the clock",
        "sets one that does not exist",
        "reached('syscall', 227 if x86 else 112, 99, ctypes.create_string_buffer(16))\ngot()",
        root=True,
        control="none",
        why="the kernel refuses that clock before it looks at rights",
    ),
    _call(
        "the time of day",
        "sets the time zone to nothing",
        "call((164, 170), None, None)\ngot()",
        root=True,
    ),
    _call("the kernel's log", "reads it", "got(call('klogctl', 10, None, 0))", root=True),
    _call("the name of the host", "sets it", "call('sethostname', b'x', 1)\ngot()", control="nested"),
    _call(
        "ports of the processor",
        "asks for the right to use them",
        "call((172, 172), 3)\ngot()",
        root=True,
        optional=True,
    ),
    _call(
        "segments",
        "changes the local descriptor table",
        "got(call((154, 154), 0, ctypes.create_string_buffer(16), 16))",
        optional=True,
    ),
    _call(
        "system calls of 32 bits",
        "calls by int 0x80, whose numbers a filter of 64 bits mistakes",
        "if not x86:\n    raise OSError('not on this machine')\n"
        "import mmap\nmemory = mmap.mmap(-1, 4096, prot=7)\n"
        "memory.write(bytes.fromhex('b814000000cd80c3'))\n"
        "got(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))())",
        control="unfiltered",
        optional=True,
        dies=True,
    ),
    _call(
        "system calls of x32",
        "calls with the bit of another table",
        "got(call('syscall', 0x40000000 | 39))",
        control="unfiltered",
        optional=True,
    ),
    _call(
        "typing into a terminal",
        "pushes a letter into one by TIOCSTI",
        "near, far = os.openpty()\nos.setsid() if os.getpid() != os.getsid(0) else None\n"
        "fcntl.ioctl(far, 0x540E, 0)\nfcntl.ioctl(far, 0x5412, b'x')\ngot()",
        control="unfiltered",
        optional=True,
    ),
    _call(
        "what runs at a crash",
        "opens core_pattern to write, which starts programs on the machine",
        "got(os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY))",
        root=True,
        optional=True,
    ),
    _call(
        "what loads modules",
        "opens the path of modprobe to write",
        "got(os.open('/proc/sys/kernel/modprobe', os.O_WRONLY))",
        root=True,
        optional=True,
    ),
    _call(
        "keys of the console",
        "opens sysrq-trigger to write",
        "got(os.open('/proc/sysrq-trigger', os.O_WRONLY))",
        root=True,
        optional=True,
    ),
    _call(
        "any setting of the kernel",
        "looks for one below /proc/sys that it may write",
        "names = [name for name in glob.glob('/proc/sys/**', recursive=True) if os.path.isfile(name) and "
        "os.access(name, os.W_OK)]\n"
        "if names:\n    got(names[0])",
        root=True,
    ),
    _call(
        "who is killed first",
        "lowers its own score for the killer of processes",
        "got(os.open('/proc/self/oom_score_adj', os.O_WRONLY))",
    ),
    _call("its own mapping of users", "opens it to write", "got(os.open('/proc/self/uid_map', os.O_WRONLY))"),
    _call(
        "control groups",
        "opens one to write, whose release agent starts programs on the machine",
        "names = glob.glob('/sys/fs/cgroup/cgroup.procs') + glob.glob('/sys/fs/cgroup/*/cgroup.procs')\n"
        "got(os.open(names[0] if names else '/sys/fs/cgroup', os.O_WRONLY))",
        root=True,
        optional=True,
    ),
    _call("devices of the kernel", "lists /sys", "got(os.listdir('/sys/kernel'))"),
    _call(
        "memory of the machine",
        "opens /dev/mem or /dev/kmsg",
        "got(os.open('/dev/kmsg' if os.path.exists('/dev/kmsg') else '/dev/mem', os.O_RDWR))",
        root=True,
        optional=True,
    ),
    _call(
        "file systems in user space",
        "opens /dev/fuse",
        "got(os.open('/dev/fuse', os.O_RDWR))",
        root=True,
        optional=True,
    ),
    _call(
        "devices in its own directory",
        "makes one in /tmp and opens it",
        "os.mknod('/tmp/' + token, stat.S_IFCHR | 0o600, os.makedev(1, 3))\ntry:\n"
        "    got(os.open('/tmp/' + token, os.O_RDWR))\nfinally:\n    os.unlink('/tmp/' + token)",
        root=True,
        optional=True,
    ),
)
