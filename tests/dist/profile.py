"""The profiles of dist/seccomp, and their rules as confine.cpp reads them. What a container runtime makes of a profile by libseccomp, without it."""

import json
import re
import subprocess

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
KEYS = {"comment", "names", "action", "args", "errnoRet"}
COMPARISONS = {"SCMP_CMP_EQ": "eq", "SCMP_CMP_NE": "ne", "SCMP_CMP_MASKED_EQ": "masked"}


def read(path):
    return json.loads(path.read_text())


def system_calls(compiler):
    """The numbers of the system calls of this machine, by name."""
    text = subprocess.run(
        [compiler, "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], capture_output=True, text=True, check=True
    ).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def names(profile, action="SCMP_ACT_ALLOW"):
    """The names that the profile mentions with this action."""
    return {name for rule in profile["syscalls"] if rule["action"] == action for name in rule["names"]}


def conditions(rule):
    for argument in rule.get("args", ()):
        comparison = COMPARISONS[argument["op"]]
        yield f"{argument['index']} {comparison} {argument['value']}" + (f" {argument['valueTwo']}" if comparison == "masked" else "")


def rules(profile, numbers):
    """Lines for confine.cpp. A name that the headers of this machine do not know is passed over, as runtimes do."""
    lines = []
    for rule in profile["syscalls"]:
        action = {"SCMP_ACT_ALLOW": "allow {}", "SCMP_ACT_ERRNO": "errno {} " + str(rule.get("errnoRet", profile["defaultErrnoRet"]))}[rule["action"]]
        for name in rule["names"]:
            if name in numbers:
                lines.append(" ".join([action.format(numbers[name]), *conditions(rule)]))
    return [*lines, f"default {profile['defaultErrnoRet']}"]


def faults(profile):
    """What is wrong with the form of a profile."""
    found = [f"{key} is missing" for key in ("defaultAction", "defaultErrnoRet", "archMap", "syscalls") if key not in profile]
    if found:
        return found
    if profile["defaultAction"] != "SCMP_ACT_ERRNO":
        found.append("what it does not mention is not refused")
    known = {entry["architecture"] for entry in profile["archMap"]}
    found += [f"{architecture} is missing" for architecture in ARCHITECTURES.values() if architecture not in known]
    for number, rule in enumerate(profile["syscalls"]):
        found += [f"rule {number}: {key} is not known" for key in rule.keys() - KEYS]
        found += [f"rule {number}: {action} is not known" for action in {rule["action"]} - {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}]
        found += [f"rule {number}: {argument['op']} is not known" for argument in rule.get("args", ()) if argument["op"] not in COMPARISONS]
        found += [f"rule {number}: {name} is no name of a system call" for name in rule["names"] if not re.fullmatch(r"[a-z0-9_]+", name)]
        if sorted(rule["names"]) != rule["names"] and number != 0:
            found.append(f"rule {number}: the names are not in order")
    plain = [name for rule in profile["syscalls"] if not rule.get("args") for name in rule["names"]]
    found += [f"{name} is there twice" for name in {name for name in plain if plain.count(name) > 1}]
    return found
