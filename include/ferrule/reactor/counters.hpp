#pragma once

#include <ferrule/reactor/counter.hpp>
#include <ferrule/reactor/histogram.hpp>
#include <ferrule/reactor/metric.hpp>

#include <array>

namespace ferrule::inline v0 {

/// What a reactor counts about itself. Any thread may read. What is of the moment is published once per pass.
struct ReactorCounters {
    Counter passes;             ///< turns of the loop
    Counter sleeps;             ///< turns that were ready to block in the kernel
    Counter completions;        ///< completions dispatched
    Counter stale_completions;  ///< completions whose slot had moved on
    Counter overflows;          ///< times the completion queue was found overflowed
    Counter resizes;            ///< times the queues of the ring were made larger
    Counter wakes;              ///< wake-ups by another thread
    Counter messages;           ///< mailbox messages run
    Counter deadlines;          ///< timers that fired
    Counter operations;         ///< operation slots in use now
    Counter yields;             ///< times a coroutine was made to yield because its budget for the pass was used up
    Counter faults;             ///< exceptions that left a spawned task
    Counter submissions;        ///< entries that the kernel has consumed
    Counter enters;             ///< calls of io_uring_enter
    Counter busy_enters;        ///< of these, those that the kernel put off: EBUSY, EAGAIN
    Counter lost_completions;   ///< completions that the kernel had to drop for lack of memory
    Counter messages_refused;   ///< messages that the mailbox did not take: it was full, or the reactor ends
    Counter messages_waiting;   ///< in the mailbox now
    Counter armed_deadlines;    ///< timers armed now
    Counter frames;             ///< coroutine frames alive now
    Counter frame_bytes;        ///< of these
    Counter frame_memory;       ///< bytes that are kept for frames, in use or not
    Counter memory_used;        ///< bytes in the reactor's account (ReactorOptions::memory_limit)
    Counter memory_limit;       ///< the bound of that; 0: none
    Counter offload_calls;      ///< blocking calls on the way, or on a thread, now
    Counter log_messages;       ///< messages that were passed on (Log)
    Counter log_left_out;       ///< messages that were left out, because their cause had used up its share
    Counter draining;           ///< 1 from the beginning of a drain on
    /// How long turns of the loop kept the reactor from its next completions, in nanoseconds, without its sleep: from
    /// the reading of the clock that follows the kernel to the next one, or to where it is ready to sleep or to spin.
    Histogram pass_duration;

    /// What they are called outside.
    static constexpr auto metrics() {
        using Row = MetricOf<ReactorCounters>;
        using Its = ReactorCounters;
        constexpr auto bytes = MetricUnit::bytes;
        return std::array{
            Row{&Its::passes, {"ferrule_loop_passes_total", "Turns of the loop."}},
            Row{&Its::sleeps, {"ferrule_loop_sleeps_total", "Turns of the loop that were ready to block."}},
            Row{&Its::pass_duration,
                {"ferrule_loop_pass_duration_seconds",
                 "How long turns of the loop kept it from the next completions, without its sleep.",
                 MetricUnit::seconds}},
            Row{&Its::yields,
                {"ferrule_loop_yields_total", "Times that a coroutine had to yield: its budget was used up."}},
            Row{&Its::submissions, {"ferrule_ring_submissions_total", "Entries that the kernel has consumed."}},
            Row{&Its::completions, {"ferrule_ring_completions_total", "Completions that were dispatched."}},
            Row{&Its::stale_completions,
                {"ferrule_ring_stale_completions_total", "Completions of operations that were gone."}},
            Row{&Its::enters, {"ferrule_ring_enters_total", "Calls of io_uring_enter."}},
            Row{&Its::busy_enters,
                {"ferrule_ring_busy_enters_total", "Calls of io_uring_enter that the kernel put off."}},
            Row{&Its::overflows,
                {"ferrule_ring_overflows_total", "Times that the completion queue was found overflowed."}},
            Row{&Its::resizes, {"ferrule_ring_resizes_total", "Times that the queues of the ring were made larger."}},
            Row{&Its::lost_completions,
                {"ferrule_ring_lost_completions_total", "Completions that the kernel dropped for lack of memory."}},
            Row{&Its::operations, {"ferrule_operations", "Operations and sleeps that are awaited."}},
            Row{&Its::deadlines, {"ferrule_deadlines_expired_total", "Deadlines and sleeps whose time came."}},
            Row{&Its::armed_deadlines, {"ferrule_deadlines_armed", "Deadlines and sleeps whose time is to come."}},
            Row{&Its::messages, {"ferrule_mailbox_messages_total", "Messages of other threads that were run."}},
            Row{&Its::messages_waiting, {"ferrule_mailbox_waiting", "Messages in the mailbox."}},
            Row{&Its::messages_refused,
                {"ferrule_mailbox_refusals_total", "Messages that the mailbox did not take: full, or at its end."}},
            Row{&Its::wakes, {"ferrule_mailbox_wakes_total", "Wake-ups by another thread."}},
            Row{&Its::frames, {"ferrule_frames", "Coroutine frames that are alive."}},
            Row{&Its::frame_bytes, {"ferrule_frame_used_bytes", "Memory of the frames that are alive.", bytes}},
            Row{&Its::frame_memory,
                {"ferrule_frame_kept_bytes", "Memory that is kept for frames, in use or not.", bytes}},
            Row{&Its::memory_used, {"ferrule_memory_used_bytes", "Memory in the account of the reactor.", bytes}},
            Row{&Its::memory_limit, {"ferrule_memory_limit_bytes", "The bound of that account; 0: none.", bytes}},
            Row{&Its::offload_calls, {"ferrule_offload_calls", "Blocking calls that have not come back."}},
            Row{&Its::faults, {"ferrule_faults_total", "Exceptions that left a task or a handler."}},
            Row{&Its::log_messages, {"ferrule_log_messages_total", "Messages of the log that were passed on."}},
            Row{&Its::log_left_out,
                {"ferrule_log_left_out_total", "Messages of the log beyond what their cause may say."}},
            Row{&Its::draining, {"ferrule_draining", "1 while the reactor drains."}},
        };
    }
};

}  // namespace ferrule::inline v0
