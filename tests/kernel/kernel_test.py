#!/usr/bin/env python3
"""Boots a kernel of Debian in QEMU's emulation and runs test programs under it:

    kernel_test.py <kernel package> <work folder> --without=<GoogleTest patterns, joined by colons> <program>...

The programs run one after the other in an initial RAM file system with what they link to. Only the line that the guest prints behind the last
program counts as the end: a panic ends the machine too. Where this cannot be done it prints "SKIPPED: why" and exits with 77.
"""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
BUSYBOX = pathlib.Path("/usr/bin/busybox")
APPLETS = ("sh", "mount", "mkdir", "ip", "cat", "uname", "poweroff", "timeout")
# Emulation takes about ten times as long. A program that hangs must not keep the others from being run.
PROGRAM_SECONDS = 180
BOOT_SECONDS = 840
MEMORY_MIB = 1024

INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
ip link set lo up
ulimit -n 65536
export LD_LIBRARY_PATH=/lib FERRULE_EMULATED_KERNEL=1
echo "KERNEL $(uname -r)"
for program in /tests/*; do
    echo "BEGIN ${program##*/}"
    timeout -s KILL %(seconds)d "$program" --gtest_brief=1 --gtest_color=no --gtest_filter="$(cat /filter)" </dev/null 2>&1
    echo "END ${program##*/} $?"
done
echo "ALL DONE"
poweroff -f
"""


def skip(reason):
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


def kernel_image(package, folder):
    """The kernel of a Debian package; it is downloaded once."""
    found = sorted(folder.glob("boot/vmlinuz-*"))
    if found:
        return found[0]
    if shutil.which("apt-get") is None:
        skip(f"no apt-get to download the kernel ({package}) with")
    depends = subprocess.run(["apt-cache", "depends", package], capture_output=True, text=True, check=False).stdout
    image = re.search(r"Depends: (linux-image-\S+)", depends)
    if image is None:
        skip(f"this system's packages have no kernel {package}")
    with tempfile.TemporaryDirectory() as download:
        # The sandbox user of apt may not write to a folder of ours.
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", image[1]]
        if subprocess.run(command, cwd=download, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            skip(f"the kernel {image[1]} could not be downloaded")
        archive = next(pathlib.Path(download).glob("*.deb"))
        unpacked = pathlib.Path(download) / "unpacked"
        subprocess.run(["dpkg", "-x", archive, unpacked], check=True)
        (folder / "boot").mkdir(parents=True, exist_ok=True)
        for file in unpacked.glob("boot/vmlinuz-*"):
            shutil.copy(file, folder / "boot" / file.name)
    return sorted(folder.glob("boot/vmlinuz-*"))[0]


def libraries(programs):
    """What the programs load, the loader too, as paths on this system."""
    found = set()
    for program in programs:
        listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        found |= set(re.findall(r"(/\S+\.so\S*) \(0x", listing))
    return sorted(found)


def make_file_system(programs, excluded, archive):
    """A RAM file system with the programs. Not compressed: unpacking it in emulation costs more than reading it."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "tests", "lib", "lib64"):
            (root / name).mkdir()
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        (root / "init").write_text(INIT % {"seconds": PROGRAM_SECONDS})
        (root / "init").chmod(0o755)
        (root / "filter").write_text("-" + ":".join(excluded))
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
        for program in programs:
            subprocess.run(["strip", "-o", root / "tests" / program.name, program], check=True)
        for library in libraries(programs):
            place = root / library[1:] if library.startswith("/lib64/") else root / "lib" / pathlib.Path(library).name
            shutil.copy(library, place)
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))
        with archive.open("wb") as output:
            subprocess.run(
                [BUSYBOX, "cpio", "-o", "-H", "newc"], cwd=root, input="\n".join(names).encode(), stdout=output, stderr=subprocess.DEVNULL, check=True
            )


def boot(image, archive):
    """What the machine printed."""
    command = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", image, "-initrd", archive]
    command += ["-append", "console=ttyS0 panic=-1 oops=panic quiet"]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_SECONDS, check=False)
        output = result.stdout + result.stderr
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"") + b"\nthe machine did not end in time\n"
    return output.decode(errors="replace").replace("\r\n", "\n")


def main():
    package, work = sys.argv[1], pathlib.Path(sys.argv[2])
    later_tests = [pattern for pattern in sys.argv[3].removeprefix("--without=").split(":") if pattern]
    programs = [pathlib.Path(program) for program in sys.argv[4:]]
    if platform.machine() != "x86_64":
        skip("only x86-64 kernels are booted")
    if shutil.which("qemu-system-x86_64") is None:
        skip("qemu-system-x86_64 is not installed")
    if not BUSYBOX.exists():
        skip("busybox-static is not installed")
    work.mkdir(parents=True, exist_ok=True)
    image = kernel_image(package, work)
    excluded = (pathlib.Path(__file__).parent / "excluded.txt").read_text().splitlines()
    excluded = [line.strip() for line in excluded if line.strip() and not line.startswith("#")]
    archive = work / "initrd.cpio"
    make_file_system(programs, excluded + later_tests, archive)
    output = boot(image, archive)
    (work / "output.log").write_text(output)

    ended = dict(re.findall(r"^END (\S+) (\d+)$", output, re.MULTILINE))
    failed = [program.name for program in programs if ended.get(program.name) != "0"]
    if failed or "\nALL DONE\n" not in output:
        print(output)
        print(f"under {image.name}: failed or not ended: {', '.join(failed) or 'the machine'}")
        sys.exit(1)
    for reason in sorted(set(re.findall(r": Skipped\n(.+)", output))):
        print(f"skipped under {image.name}: {reason}")
    kernel = re.search(r"^KERNEL (.+)$", output, re.MULTILINE)[1]
    passed = sum(int(count) for count in re.findall(r"\[  PASSED  \] (\d+) test", output))
    print(f"Linux {kernel}: {passed} tests of {len(programs)} programs passed")


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C"
    main()
