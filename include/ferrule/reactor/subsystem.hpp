#pragma once

namespace ferrule::inline v0 {

/// A part of a reactor that takes its turn in each pass of the loop, such as the network. All calls come on the
/// reactor's thread.
class Subsystem {
public:
    virtual ~Subsystem() = default;

    /// Before the loop enters the kernel: the place to build entries that should leave together.
    virtual void before_submit() noexcept {}
    /// Whether entering the kernel must not block, because something is to be done as soon as the entries are
    /// submitted.
    [[nodiscard]] virtual bool must_not_sleep() const noexcept { return false; }
    /// After the completions of this pass have been dispatched: whatever an entry posts while it is submitted has been
    /// seen by now.
    virtual void after_completions() noexcept {}
    /// Draining begins: no new work, what was begun is finished.
    virtual void drain() noexcept {}
    /// Whether draining has come to its end.
    [[nodiscard]] virtual bool drained() const noexcept { return true; }
    /// The reactor ends: cancel everything.
    virtual void shutdown() noexcept {}
    /// Whether nothing of it is in flight any more.
    [[nodiscard]] virtual bool quiescent() const noexcept { return true; }
};

}  // namespace ferrule::inline v0
