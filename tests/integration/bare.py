"""A root directory that has the binary and its libraries and nothing else: no /etc, no /proc but
what a test writes there, as poor as a container can be."""

import os
import shutil
import subprocess

from weir import BINARY, SANITIZER_OPTIONS


class Root:
    def __init__(self, path):
        self.path = path
        self.user = None  # the number of whom the binary runs as; this one
        shutil.copy(BINARY, path / "weir")
        listed = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                self._copy(word)
        # The sanitizers look there for their options and for the program's name.
        options = {**SANITIZER_OPTIONS, "ASAN_OPTIONS": "exitcode=99:detect_leaks=0"}
        self.write("/proc/self/environ",
                   "".join(f"{name}={value}\0" for name, value in options.items()))
        os.symlink("/weir", self.path / "proc/self/exe")

    def _copy(self, library):
        to = self.path / library[1:]
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, to)

    def write(self, path, text):
        """Writes the file PATH of the root."""
        to = self.path / path[1:]
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text)
        return to

    def bound_memory(self, text):
        """Has a cgroup, of version 2, that is bounded to TEXT."""
        self.write("/proc/self/cgroup", "0::/\n")
        self.write("/sys/fs/cgroup/memory.max", f"{text}\n")

    def command(self, *flags):
        """How to run the binary there. Where this user may not, the kernel may still let it be root
        in a namespace of its own."""
        within = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]
        if self.user is not None:
            within.append(f"--userspec={self.user}:{self.user}")
        return [*within, str(self.path), "/weir", *flags]
