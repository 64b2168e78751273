"""Machines with a kernel of Debian, in QEMU's emulation: fetches the kernel, makes a file system of programs, boots both, gives back what was said.

The only process of the machine is guest.cpp, which runs commands one after the other. Nothing is installed: kernels are unpacked into a folder,
by an apt with lists of its own, so that neither the distribution of this machine nor its sources matter.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tempfile

SKIPPED = 77
KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Suites, and the end of the address of the archive that has them.
SUITES = {"bookworm-security": "debian-security", "trixie-backports": "debian"}
PUBLIC_MIRROR = "http://deb.debian.org/"
MEMORY_MIB = 1024
# Twenty times what the slowest machine takes when it has a processor for itself.
BOOT_SECONDS = 1700
# The machine's clock counts its instructions, four nanoseconds each, and goes straight to the next timer where there are none: what it does, and
# what is in time there, does not depend on how busy this machine is. A second processor does not come up with such a clock.
PROCESSOR = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=2,sleep=off")


@dataclasses.dataclass(frozen=True)
class Board:
    """What QEMU shall be, for an architecture by Debian's name."""

    program: str
    package: str
    console: str
    options: tuple


BOARDS = {
    "amd64": Board("qemu-system-x86_64", "qemu-system-x86", "ttyS0", ("-M", "q35", "-cpu", "max")),
    # The architecture's own algorithm of pointer authentication is very slow to emulate.
    "arm64": Board("qemu-system-aarch64", "qemu-system-arm", "ttyAMA0", ("-M", "virt", "-cpu", "max,pauth-impdef=on")),
}


def skip(reason):
    """Ends this program as CTest knows a skipped test."""
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


# ---- the kernel -----------------------------------------------------------------------------------------------------------------------


def mirrors(archive):
    """Addresses of Debian's archive: what looks like it in this machine's own sources, and the public one, in case that was something else."""
    found = []
    for file in (pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found += re.findall(rf"^(?:URIs:|deb\s)(?:.*\s)?(https?://[^/\s]+/{archive})/?(?:\s|$)", file.read_text(), re.MULTILINE)
    return dict.fromkeys([*found, PUBLIC_MIRROR + archive])


class Archive:
    """One suite of Debian for one architecture, with lists in a folder of its own."""

    def __init__(self, suite, architecture, folder):
        self.folder = folder
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        (folder / "status").touch()
        sources = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for mirror in mirrors(SUITES[suite])]
        (folder / "sources.list").write_text("".join(sources))
        # On the command line, where they come after this machine's configuration: its proxies are kept.
        settings = {
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "-",
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Default-Release": "",
            # The sandbox user of apt may not write to a folder of ours.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": 3,
            "Acquire::http::Timeout": 30,
        }
        self.options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        self.apt("apt-get", "update")

    def apt(self, program, *arguments):
        """What apt prints, or None where it fails."""
        command = [program, "-q", *self.options, *arguments]
        result = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return result.stdout if result.returncode == 0 else None

    def newest(self, pattern):
        """The package with the newest kernel whose version and flavour match, or None."""
        names = (self.apt("apt-cache", "pkgnames", "linux-") or "").split()
        # Since 6.19 linux-image-* only depends on linux-binary-*, which has the kernel, and keeps it with its modules.
        found = [match for name in names if (match := re.fullmatch(rf"linux-(binary|image)-({pattern})", name))]
        return max(found, key=lambda match: (numbers(match[2]), match[1] == "binary"), default=[None])[0]

    def unpack(self, package):
        """The folder with the package's files, or None."""
        if self.apt("apt-get", "download", package) is None:
            return None
        unpacked = self.folder / "unpacked"
        subprocess.run(["dpkg", "-x", next(self.folder.glob("*.deb")), unpacked], check=True)
        return unpacked


def numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]


def kernel_image(suite, pattern, architecture, folder):
    """The newest kernel of the suite that the pattern (of `version-flavour`) matches. It is downloaded once and kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("vmlinuz-*")):
            for program in ("apt-get", "dpkg"):
                if shutil.which(program) is None:
                    skip(f"no {program} here to fetch a kernel of Debian with")
            if not KEYRING.exists():
                skip(f"the keys of Debian's archive are not installed (debian-archive-keyring: {KEYRING})")
            with tempfile.TemporaryDirectory() as download:
                archive = Archive(suite, architecture, pathlib.Path(download))
                package = archive.newest(pattern)
                if package is None:
                    skip(f"Debian's {suite} cannot be reached from here, or has no kernel {pattern}")
                unpacked = archive.unpack(package)
                if unpacked is None:
                    skip(f"the package {package} of Debian's {suite} could not be downloaded")
                image = next(file for place in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for file in unpacked.glob(place))
                # In one step, so that an interrupted copy is not taken for a kernel.
                shutil.copy(image, folder / "incomplete")
                (folder / "incomplete").rename(folder / re.sub("^linux-(binary|image)", "vmlinuz", package))
        return next(folder.glob("vmlinuz-*"))


# ---- the file system ------------------------------------------------------------------------------------------------------------------


def libraries(program):
    """What a program loads, the loader too, as paths on this system; nothing where it is linked statically or is no program."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+\.so\S*) \(0x", listing.stdout)


class FileSystem:
    """A RAM file system in the kernel's own format, which it unpacks at boot."""

    def __init__(self, strip):
        self.strip = strip
        self.entries = {}
        for folder in ("dev", "proc", "sys", "tmp"):
            self.add_folder(folder)
        self.add("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
        self.add("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        # The first process finds its output here, whatever the kernel brings along.
        self.entries["dev/console"] = (stat.S_IFCHR | 0o600, b"", os.makedev(5, 1))

    def add_folder(self, name):
        for parent in (*reversed(pathlib.PurePath(name).parents), pathlib.PurePath(name)):
            if parent.name:
                self.entries.setdefault(parent.as_posix(), (stat.S_IFDIR | 0o755, b"", 0))

    def add(self, name, data):
        self.add_folder(pathlib.PurePath(name).parent.as_posix())
        self.entries[name] = (stat.S_IFREG | 0o755, data, 0)

    def add_program(self, name, program):
        """A program without its symbols, and what it loads, where it looks for that."""
        with tempfile.TemporaryDirectory() as folder:
            stripped = pathlib.Path(folder) / "stripped"
            subprocess.run([self.strip, "-o", stripped, program], check=True)
            self.add(name, stripped.read_bytes())
        for library in libraries(program):
            place = library[1:] if library.startswith("/lib64/") else f"lib/{pathlib.PurePath(library).name}"
            if place not in self.entries:
                self.add(place, pathlib.Path(library).read_bytes())

    def write(self, archive):
        """Not compressed: unpacking it in emulation costs more than reading it. The format is `newc` of cpio(5)."""
        with archive.open("wb") as output:
            for number, (name, (mode, data, device)) in enumerate([*self.entries.items(), ("TRAILER!!!", (0, b"", 0))], 1):
                fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, os.major(device), os.minor(device), len(name) + 1, 0]
                header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
                output.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))


# ---- the machine ----------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kernel to boot, where to work, and what the file system is made with."""

    suite: str
    pattern: str
    architecture: str
    images: pathlib.Path
    work: pathlib.Path
    guest: pathlib.Path
    strip: str

    @staticmethod
    def add_arguments(parser):
        parser.add_argument("--suite", required=True, choices=SUITES, help="the suite of Debian that has the kernel")
        parser.add_argument("--pattern", required=True, help="of its version and flavour; the newest that matches is taken")
        parser.add_argument("--architecture", required=True, choices=BOARDS)
        parser.add_argument("--images", required=True, type=pathlib.Path, help="where the kernel is kept; delete it to fetch a newer one")
        parser.add_argument("--work", required=True, type=pathlib.Path, help="for the file system, and for output.log")
        parser.add_argument("--guest", required=True, type=pathlib.Path, help="the program guest.cpp")
        parser.add_argument("--strip", required=True, help="takes the symbols out of programs of the architecture")

    @classmethod
    def from_arguments(cls, arguments):
        return cls(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls)})

    def run(self, programs, commands, files=(), settings=()):
        """Boots, and runs the commands (lines that begin with a program's name). `files` are programs that are found under their own path;
        `settings` goes on the kernel's command line. Skips where this machine cannot do it."""
        board = BOARDS[self.architecture]
        if shutil.which(board.program) is None:
            skip(f"{board.program} is not installed ({board.package})")
        image = kernel_image(self.suite, self.pattern, self.architecture, self.images)
        self.work.mkdir(parents=True, exist_ok=True)
        system = FileSystem(self.strip)
        system.add_program("init", self.guest)
        for program in programs:
            system.add_program(f"programs/{program.name}", program)
        for file in files:
            system.add_program(file.as_posix().removeprefix("/"), file)
        system.add("commands", "".join(f"/programs/{command}\n" for command in commands).encode())
        system.write(self.work / "initrd.cpio")
        command = [board.program, *board.options, *PROCESSOR, "-m", str(MEMORY_MIB)]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]
        command += ["-kernel", image, "-initrd", self.work / "initrd.cpio"]
        command += ["-append", " ".join((f"console={board.console}", "panic=-1", "oops=panic", "quiet", *settings))]
        try:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS, check=False)
            output = ended.stdout + ended.stderr
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"") + b"\nthe machine did not end in time\n"
        text = output.decode(errors="replace").replace("\r\n", "\n")
        (self.work / "output.log").write_text(text)
        return Run(image.name.removeprefix("vmlinuz-"), text)


class Run:
    """What a machine said. Only the line behind the last command counts as its end: a panic ends the machine too."""

    def __init__(self, kernel, output):
        self.kernel = kernel
        self.output = output
        self.ended = "\nALL COMMANDS DONE\n" in output

    def result(self, name):
        """(exit status, output) of a program; the status is None where it did not end. A signal is a status of 128 and its number."""
        found = re.search(rf"^BEGIN {re.escape(name)}\n(.*?)(?:^END {re.escape(name)} (\d+)$|\Z)", self.output, re.MULTILINE | re.DOTALL)
        if found is None:
            return None, ""
        return (None if found[2] is None else int(found[2])), found[1]
