#pragma once

#include "sim/workloads/workload.hpp"

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ferrule_test {

/// What became of one run in a child process.
struct ChildReport {
    /// Which of the runs that the child was given.
    std::size_t index = 0;
    RunResult result;

    [[nodiscard]] bool failed() const noexcept { return !result.findings.empty(); }
};

/// A process that makes some runs of a workload one after the other, so that a crash of the code under test takes
/// nothing else with it. It stops at the first run that fails: what a failed run leaves behind is not to disturb the
/// next.
class Child {
public:
    /// Forks. `seconds_max`: how long one run may take on a real clock; then it has failed.
    Child(const Workload& workload, std::vector<RunSettings> runs, unsigned seconds_max);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child();

    /// Becomes readable when `next` has something new.
    [[nodiscard]] int descriptor() const noexcept { return pipe_; }
    /// Takes what has come, without waiting. False when the child has ended and everything was taken.
    bool receive();
    /// The next report; a run in whose middle the child has ended is reported as failed. Nothing: none yet.
    std::optional<ChildReport> next();
    /// The runs that it has not begun when it ended.
    [[nodiscard]] std::vector<RunSettings> not_begun() const;
    [[nodiscard]] const std::vector<RunSettings>& runs() const noexcept { return runs_; }
    [[nodiscard]] const Workload& workload() const noexcept { return *workload_; }
    /// The time of the processor that it took; known when it has ended.
    [[nodiscard]] double processor_seconds() const noexcept { return processor_seconds_; }

private:
    void end();
    [[nodiscard]] std::string said() const;

    const Workload* workload_;
    std::vector<RunSettings> runs_;
    pid_t process_ = -1;
    int pipe_ = -1;
    int error_output_ = -1;
    std::string received_;
    std::size_t begun_ = 0;
    bool stopped_ = false;  // by a run that failed, which has been reported
    bool ended_ = false;
    std::string death_;
    double processor_seconds_ = 0;
};

/// Makes one run in a child and waits for it.
RunResult run_in_child(const Workload& workload, const RunSettings& settings, unsigned seconds_max);

}  // namespace ferrule_test
