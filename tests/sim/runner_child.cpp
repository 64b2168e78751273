#include "sim/runner_child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace ferrule_test {
namespace {

// ---- what goes through the pipe ----

// A message: its length, its kind, and the fields one after the other.
enum class Kind : std::uint8_t { begun, ended };

void put(std::string& out, std::uint64_t value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put(std::string& out, const std::string& text) {
    put(out, text.size());
    out += text;
}

class Fields {
public:
    explicit Fields(std::string_view bytes) : bytes_(bytes) {}
    std::uint64_t number() {
        std::uint64_t value = 0;
        std::memcpy(&value, bytes_.data(), sizeof value);
        bytes_.remove_prefix(sizeof value);
        return value;
    }
    std::string text() {
        const std::size_t size = number();
        std::string text(bytes_.substr(0, size));
        bytes_.remove_prefix(size);
        return text;
    }

private:
    std::string_view bytes_;
};

void put(std::string& out, const RunResult& result) {
    put(out, result.findings.size());
    for (const std::string& finding : result.findings) put(out, finding);
    for (const auto& count : result.faults.counts) {
        put(out, count.occasions);
        put(out, count.times);
    }
    // Only a failed run is made smaller.
    const std::size_t fired = result.findings.empty() ? 0 : result.faults.fired.size();
    put(out, fired);
    for (std::size_t index = 0; index < fired; ++index) {
        put(out, static_cast<std::uint64_t>(result.faults.fired[index].fault));
        put(out, result.faults.fired[index].occasion);
    }
    for (const std::uint64_t number : {result.fingerprint, result.operations, result.connections, result.messages,
                                       result.bytes, result.virtual_ns}) {
        put(out, number);
    }
    put(out, result.trace);
}

RunResult take_result(Fields& fields) {
    RunResult result;
    for (std::uint64_t left = fields.number(); left != 0; --left) result.findings.push_back(fields.text());
    for (auto& count : result.faults.counts) {
        count.occasions = fields.number();
        count.times = fields.number();
    }
    for (std::uint64_t left = fields.number(); left != 0; --left) {
        const auto fault = static_cast<ferrule::sim::Fault>(fields.number());
        result.faults.fired.push_back({fault, fields.number()});
    }
    for (std::uint64_t* number : {&result.fingerprint, &result.operations, &result.connections, &result.messages,
                                  &result.bytes, &result.virtual_ns}) {
        *number = fields.number();
    }
    result.trace = fields.text();
    return result;
}

// ---- the child's side ----

/// What the handlers of fatal signals need.
struct Current {
    const WorkloadRun* run = nullptr;
    std::size_t index = 0;
    int pipe = -1;
};
Current current;
std::array<std::byte, 256 * 1024> signal_stack;

void send(int pipe, Kind kind, std::size_t index, const RunResult* result) {
    std::string fields;
    put(fields, static_cast<std::uint64_t>(kind));
    put(fields, index);
    if (result != nullptr) put(fields, *result);
    std::string message;
    put(message, fields);
    for (std::size_t done = 0; done < message.size();) {
        const ssize_t written = ::write(pipe, message.data() + done, message.size() - done);
        if (written < 0 && errno != EINTR) _exit(2);
        done += written > 0 ? static_cast<std::size_t>(written) : 0;
    }
}

// The run cannot go on: what it has come to is told with the reason. Allocates, although a signal may have come in the
// middle of an allocation: the alarm ends a process that waits for itself then.
void report_death(const char* reason) {
    if (current.run == nullptr) {
        std::fprintf(stderr, "after the end of the run: %s\n", reason);
        return;
    }
    ::signal(SIGALRM, SIG_DFL);
    ::alarm(10);
    RunResult result = current.run->result();
    result.findings.insert(result.findings.begin(), reason);
    current.run = nullptr;
    send(current.pipe, Kind::ended, current.index, &result);
}

void on_fatal_signal(int number) {
    report_death(number == SIGALRM ? "the run takes too long on a real clock" : strsignal(number));
    _exit(1);
}

#if defined(__SANITIZE_ADDRESS__)
void on_sanitizer_death() {
    report_death("a sanitizer's report");
}
#endif

void watch_for_death() {
    // On a stack of its own: that of a fiber may be what is used up.
    stack_t stack{};
    stack.ss_sp = signal_stack.data();
    stack.ss_size = signal_stack.size();
    ::sigaltstack(&stack, nullptr);
    struct sigaction action {};
    action.sa_handler = on_fatal_signal;
    action.sa_flags = SA_ONSTACK;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(on_sanitizer_death);
    const std::array numbers = {SIGABRT, SIGALRM};
#else
    const std::array numbers = {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#endif
    for (const int number : numbers) ::sigaction(number, &action, nullptr);
}

// Does not return from a run that fails.
void make_runs(const Workload& workload, const std::vector<RunSettings>& runs, unsigned seconds_max, int pipe) {
    watch_for_death();
    for (std::size_t index = 0; index < runs.size(); ++index) {
        send(pipe, Kind::begun, index, nullptr);
        ::alarm(seconds_max);
        WorkloadRun run{runs[index]};
        current = {&run, index, pipe};
        workload.run(run);
        const RunResult result = run.result();
        current.run = nullptr;
        send(pipe, Kind::ended, index, &result);
        // What a run that failed has abandoned is in no state to be destroyed, and would be called a leak.
        if (!result.findings.empty()) _exit(0);
    }
    ::alarm(0);
}

}  // namespace

Child::Child(const Workload& workload, std::vector<RunSettings> runs, unsigned seconds_max)
    : workload_(&workload), runs_(std::move(runs)) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    error_output_ = ::memfd_create("error output", MFD_CLOEXEC);
    std::fflush(nullptr);
    process_ = ::fork();
    if (process_ < 0) throw std::system_error(errno, std::system_category(), "fork");
    if (process_ == 0) {
        ::close(ends[0]);
        if (error_output_ >= 0) ::dup2(error_output_, STDERR_FILENO);
        make_runs(workload, runs_, seconds_max, ends[1]);
        std::exit(0);
    }
    ::close(ends[1]);
    pipe_ = ends[0];
    ::fcntl(pipe_, F_SETFL, O_NONBLOCK);
}

Child::~Child() {
    if (!ended_) {
        ::kill(process_, SIGKILL);
        end();
    }
    ::close(pipe_);
    if (error_output_ >= 0) ::close(error_output_);
}

bool Child::receive() {
    std::array<char, 64 * 1024> piece;
    for (;;) {
        const ssize_t count = ::read(pipe_, piece.data(), piece.size());
        if (count > 0) {
            received_.append(piece.data(), static_cast<std::size_t>(count));
        } else if (count == 0) {
            if (!ended_) end();
            return false;
        } else if (errno != EINTR) {
            return true;
        }
    }
}

void Child::end() {
    int status = 0;
    rusage usage{};
    while (::wait4(process_, &status, 0, &usage) < 0 && errno == EINTR) {
    }
    ended_ = true;
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    processor_seconds_ = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    if (WIFSIGNALED(status)) {
        death_ = std::string("the process has died: ") + strsignal(WTERMSIG(status));
    } else if (WEXITSTATUS(status) != 0) {
        death_ = "the process has ended with status " + std::to_string(WEXITSTATUS(status));
    }
}

std::string Child::said() const {
    constexpr std::size_t most = 8 * 1024;
    if (error_output_ < 0) return {};
    std::string text(most, '\0');
    const off_t size = ::lseek(error_output_, 0, SEEK_END);
    // The beginning says what has happened; what comes later says where.
    const ssize_t count = ::pread(error_output_, text.data(), text.size(), 0);
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    if (size > static_cast<off_t>(most)) text += "...\n";
    return text;
}

std::optional<ChildReport> Child::next() {
    while (received_.size() >= sizeof(std::uint64_t)) {
        const std::uint64_t size = Fields{received_}.number();
        if (received_.size() < sizeof size + size) break;
        Fields fields{std::string_view(received_).substr(sizeof size, size)};
        const auto kind = static_cast<Kind>(fields.number());
        ChildReport report;
        report.index = fields.number();
        if (kind == Kind::begun) {
            begun_ = report.index + 1;
        } else {
            report.result = take_result(fields);
        }
        received_.erase(0, sizeof size + size);
        if (kind == Kind::begun) continue;
        if (report.failed()) {
            death_.clear();
            stopped_ = true;
            const std::string text = said();
            if (!text.empty()) report.result.findings.push_back("on standard error:\n" + text);
        }
        return report;
    }
    if (!ended_ || death_.empty() || stopped_) return std::nullopt;
    // It ended without a word, or all runs were clean and its end was not: a leak.
    ChildReport report;
    report.index = begun_ != 0 ? begun_ - 1 : 0;
    report.result.findings.push_back(death_);
    report.result.findings.push_back("on standard error:\n" + said());
    stopped_ = true;
    return report;
}

std::vector<RunSettings> Child::not_begun() const {
    return {runs_.begin() + static_cast<std::ptrdiff_t>(begun_), runs_.end()};
}

RunResult run_in_child(const Workload& workload, const RunSettings& settings, unsigned seconds_max) {
    Child child{workload, {settings}, seconds_max};
    for (bool more = true; more;) {
        pollfd waiting{child.descriptor(), POLLIN, 0};
        ::poll(&waiting, 1, -1);
        more = child.receive();
        if (auto report = child.next()) return std::move(report->result);
    }
    RunResult result;
    result.findings.push_back("the process has ended and said nothing");
    return result;
}

}  // namespace ferrule_test
