#include <ferrule/task/host.hpp>

#include "reactor/stack_capture.hpp"

#include <ucontext.h>
#include <unwind.h>

#include <cerrno>

namespace ferrule::inline v0 {
namespace {

std::uintptr_t instruction_of(const void* context) noexcept {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return static_cast<std::uintptr_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
    return static_cast<std::uintptr_t>(machine.pc);
#else
    static_cast<void>(machine);
    return 0;
#endif
}

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* argument) noexcept {
    auto& capture = *static_cast<detail::StackCapture*>(argument);
    const auto address = static_cast<std::uintptr_t>(_Unwind_GetIP(context));
    if (address == 0 || capture.count == detail::StackCapture::frames_max) return _URC_END_OF_STACK;
    capture.addresses[capture.count++] = address;
    return _URC_NO_REASON;
}

// On the stuck thread, anywhere in it: nothing here allocates, locks or calls what does. The unwinder finds its tables
// by _dl_find_object(3), which is made for signal handlers.
void write_down_stack(int, siginfo_t*, void* context) noexcept {
    const int error = errno;
    if (Host* host = Host::current(); host != nullptr) {
        if (detail::StackCapture* capture = host->stack_capture.exchange(nullptr, std::memory_order_acq_rel)) {
            capture->interrupted = instruction_of(context);
            _Unwind_Backtrace(add_frame, capture);
            capture->done.store(true, std::memory_order_release);
        }
    }
    errno = error;
}

}  // namespace

int StackSignal::install() noexcept {
    struct sigaction present {};
    if (const int result = kernel_.signal_action(signal_, nullptr, &present); result < 0) return result;
    const bool ours = (present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == write_down_stack;
    if (ours) return 0;  // another detector's, or this one's
    if ((present.sa_flags & SA_SIGINFO) != 0 || (present.sa_handler != SIG_DFL && present.sa_handler != SIG_IGN))
        return -EBUSY;
    // The first unwinding binds and reads what later ones find in place.
    detail::StackCapture trial;
    _Unwind_Backtrace(add_frame, &trial);
    struct sigaction action {};
    action.sa_sigaction = write_down_stack;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (const int result = kernel_.signal_action(signal_, &action, &former_); result < 0) return result;
    installed_ = true;
    return 0;
}

StackSignal::~StackSignal() {
    if (!installed_) return;
    struct sigaction present {};
    if (kernel_.signal_action(signal_, nullptr, &present) < 0) return;
    // Somebody who has taken the signal since then keeps it.
    if ((present.sa_flags & SA_SIGINFO) == 0 || present.sa_sigaction != write_down_stack) return;
    kernel_.signal_action(signal_, &former_, nullptr);
}

}  // namespace ferrule::inline v0
