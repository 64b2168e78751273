// Runs a program under a filter of system calls:
//
//     confine RULES PROGRAM [ARGUMENT...]
//
// RULES is a file of lines, as profile.py makes them of a container's profile. The first that fits decides:
//
//     allow NUMBER [INDEX eq|ne|masked VALUE [DATUM]]...    all of these must hold: of argument INDEX, `masked` is
//     (argument & VALUE) == DATUM errno NUMBER ERROR [...] default ERROR
//
// Exit status 77 where no filter can be installed; 126 where the rules cannot be read or the program cannot be run.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace {

#if defined(__x86_64__)
constexpr unsigned architecture = AUDIT_ARCH_X86_64;
// Above them are those of the x32 ABI, which have the same numbers otherwise.
constexpr unsigned numbers_end = 0x40000000;
#elif defined(__aarch64__)
constexpr unsigned architecture = AUDIT_ARCH_AARCH64;
constexpr unsigned numbers_end = ~0u;
#endif

using Program = std::vector<sock_filter>;

void load(Program& program, std::size_t offset) {
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)));
}

/// Where the halves of an argument are: both architectures have the low one first.
std::size_t argument_at(unsigned index, bool high) {
    return offsetof(seccomp_data, args) + index * sizeof(std::uint64_t) + (high ? sizeof(std::uint32_t) : 0);
}

/// One condition of a rule; where it does not hold the rule is left, by a jump that `leave` collects.
bool compile_condition(std::istringstream& words, Program& program, std::vector<std::size_t>& leave) {
    unsigned index = 0;
    std::string comparison;
    std::uint64_t value = 0;
    if (!(words >> index >> comparison >> value) || index > 5) return false;
    std::uint64_t mask = ~std::uint64_t{0};
    if (comparison == "masked") {
        mask = value;
        if (!(words >> value)) return false;
    } else if (comparison != "eq" && comparison != "ne") {
        return false;
    }
    const bool negated = comparison == "ne";
    // Negated, one half that differs is enough; otherwise both must be the same.
    for (const bool high : {true, false}) {
        const unsigned shift = high ? 32 : 0;
        load(program, argument_at(index, high));
        program.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, static_cast<std::uint32_t>(mask >> shift)));
        const auto part = static_cast<std::uint32_t>(value >> shift);
        if (!negated) {
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, part, 1, 0));
            leave.push_back(program.size());
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0));
        } else if (high) {
            // Past the look at the low half: a load, an AND, the comparison and its jump.
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, part, 0, 4));
        } else {
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, part, 0, 1));
            leave.push_back(program.size());
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0));
        }
    }
    return true;
}

bool compile_rule(const std::string& line, Program& program) {
    std::istringstream words(line);
    std::string action;
    std::uint32_t number = 0;
    std::uint32_t error = 0;
    words >> action;
    if (action == "default") {
        if (!(words >> error)) return false;
        program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
        return true;
    }
    if (!(words >> number)) return false;
    if (action == "errno" ? !(words >> error) : action != "allow") return false;
    std::vector<std::size_t> leave;
    load(program, offsetof(seccomp_data, nr));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 1, 0));
    leave.push_back(program.size());
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0));
    while (words >> std::ws && !words.eof()) {
        if (!compile_condition(words, program, leave)) return false;
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, action == "allow" ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | error));
    for (const std::size_t at : leave) program[at].k = static_cast<std::uint32_t>(program.size() - at - 1);
    return true;
}

bool compile(const char* path, Program& program) {
    load(program, offsetof(seccomp_data, arch));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    load(program, offsetof(seccomp_data, nr));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, numbers_end, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
    std::ifstream rules(path);
    std::size_t count = 0;
    bool ends = false;
    for (std::string line; std::getline(rules, line); ++count) {
        ends = line.starts_with("default");
        if (compile_rule(line, program)) continue;
        std::fprintf(stderr, "confine: %s:%zu: %s\n", path, count + 1, line.c_str());
        return false;
    }
    // A call that no rule fits has to have an answer.
    return ends && program.size() <= BPF_MAXINSNS;
}

}  // namespace

int main(int count, char** words) {
    constexpr int skipped = 77;
    constexpr int cannot_run = 126;
    if (count < 3) {
        std::fprintf(stderr, "usage: confine RULES PROGRAM [ARGUMENT...]\n");
        return cannot_run;
    }
    Program program;
    if (!compile(words[1], program)) {
        std::fprintf(stderr, "confine: %s: the rules cannot be used\n", words[1]);
        return cannot_run;
    }
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        std::printf("SKIPPED: no seccomp filter can be installed here: %s\n", std::strerror(errno));
        return skipped;
    }
    ::execvp(words[2], words + 2);
    std::fprintf(stderr, "confine: %s: %s\n", words[2], std::strerror(errno));
    return cannot_run;
}
