#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The README's examples, run as they stand: every ```console block in one shell session, its output compared.

A line "$ command" is run ("> " continues it); the lines behind it are what it prints. "..." in them stands for any text, also of
several lines. Prints TAP, a test a command that shows its output."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

MARK = "=== end of example ==="


def commands_of(text):
    """[(command, expected output)] of all console blocks."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.S | re.M):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif line.startswith("> "):
                found[-1][0] += "\n" + line[2:]
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def matches(expected, got):
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got, re.S) is not None


def run(commands, directory, vecfs):
    """What each command printed, all run by one bash."""
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in commands)
    env = dict(os.environ, PATH=os.path.dirname(vecfs) + ":" + os.environ["PATH"], LC_ALL="C")
    done = subprocess.run(["bash", "-s"], input=script, cwd=directory, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    return [part.strip("\n") for part in done.stdout.split(MARK + "\n")]


def main():
    if not os.access("/dev/fuse", os.W_OK):
        print("1..0 # SKIP there is no /dev/fuse to write to")
        return 0
    vecfs = os.environ["VECFS"]
    with open(os.path.join(os.environ.get("SRCDIR", "."), "README.md"), encoding="utf-8") as file:
        commands = commands_of(file.read())
    directory = tempfile.mkdtemp()
    try:
        outputs = run(commands, directory, vecfs)
    finally:
        subprocess.run(["fusermount3", "-q", "-u", "-z", os.path.join(directory, "mnt")], check=False)
        shutil.rmtree(directory, ignore_errors=True)
    failed = 0
    for number, ((command, expected), got) in enumerate(zip(commands, outputs), 1):
        good = matches(expected, got)
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {command.splitlines()[0].replace('#', '')}")
        if not good:
            print("".join(f"# expected: {line}\n" for line in expected.splitlines()), end="")
            print("".join(f"#      got: {line}\n" for line in got.splitlines()), end="")
    print(f"1..{len(commands)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
