#include <ferrule/assert.hpp>
#include <ferrule/task/host.hpp>

#include "sim/fiber.hpp"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <utility>

#if defined(FERRULE_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

// swapcontext(3) makes a system call for the signal mask at each switch, so the switch is written by hand: what a
// function must preserve is pushed, the stack pointers are exchanged, and what the other stack pushed is popped. A new
// fiber's stack is prepared as if it had been switched away from in front of ferrule_sim_fiber_entry.
extern "C" {
void ferrule_sim_switch_stack(void** leave, void* enter) noexcept;
void ferrule_sim_fiber_entry() noexcept;
}

#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.hidden ferrule_sim_switch_stack
.globl ferrule_sim_switch_stack
.type ferrule_sim_switch_stack, @function
ferrule_sim_switch_stack:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
.size ferrule_sim_switch_stack, .-ferrule_sim_switch_stack

.p2align 4
.hidden ferrule_sim_fiber_entry
.globl ferrule_sim_fiber_entry
.type ferrule_sim_fiber_entry, @function
ferrule_sim_fiber_entry:
    .cfi_startproc
    .cfi_undefined rip
    xorl %ebp, %ebp
    movq %r12, %rdi
    call *%r13
    ud2
    .cfi_endproc
.size ferrule_sim_fiber_entry, .-ferrule_sim_fiber_entry
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.hidden ferrule_sim_switch_stack
.globl ferrule_sim_switch_stack
.type ferrule_sim_switch_stack, %function
ferrule_sim_switch_stack:
    .cfi_startproc
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .cfi_endproc
.size ferrule_sim_switch_stack, .-ferrule_sim_switch_stack

.p2align 4
.hidden ferrule_sim_fiber_entry
.globl ferrule_sim_fiber_entry
.type ferrule_sim_fiber_entry, %function
ferrule_sim_fiber_entry:
    .cfi_startproc
    .cfi_undefined x30
    mov x29, xzr
    mov x0, x19
    blr x20
    brk #1
    .cfi_endproc
.size ferrule_sim_fiber_entry, .-ferrule_sim_fiber_entry
)");
#else
#error "the simulated kernel's fibers know x86-64 and arm64"
#endif

namespace ferrule::inline v0::sim {

namespace {

std::size_t page_bytes() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// The part of __cxa_eh_globals that the C++ ABI fixes: 2.2.2 of its chapter on exceptions.
struct ExceptionGlobals {
    void* caught;
    unsigned uncaught;
};

// One of what belongs to the thread is exchanged for the other at each switch.
void leave(FiberContext& context) noexcept {
    context.host = detail::current_host;
    ExceptionGlobals globals;
    std::memcpy(&globals, abi::__cxa_get_globals(), sizeof globals);
    context.caught_exceptions = globals.caught;
    context.uncaught_exceptions = globals.uncaught;
}

void enter(const FiberContext& context) noexcept {
    detail::current_host = context.host;
    auto* globals = reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals());
    globals->caught = context.caught_exceptions;
    globals->uncaught = context.uncaught_exceptions;
}

}  // namespace

FiberStack::FiberStack(std::size_t bytes) {
    const std::size_t page = page_bytes();
    size_ = (bytes + page - 1) / page * page;
    void* const memory = ::mmap(nullptr, size_ + page, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::mprotect(memory, page, PROT_NONE);
    bottom_ = static_cast<std::byte*>(memory) + page;
}

FiberStack::FiberStack(FiberStack&& other) noexcept
    : bottom_(std::exchange(other.bottom_, nullptr)), size_(other.size_) {}

FiberStack::~FiberStack() {
    if (bottom_ == nullptr) return;
    const std::size_t page = page_bytes();
#if defined(FERRULE_ADDRESS_SANITIZER)
    __asan_unpoison_memory_region(bottom_, size_);
#endif
    ::munmap(static_cast<std::byte*>(bottom_) - page, size_ + page);
}

void FiberStack::abandon() noexcept {
#if defined(FERRULE_ADDRESS_SANITIZER)
    __lsan_register_root_region(bottom_, size_);
    bottom_ = nullptr;
#endif
}

Fiber::Fiber(FiberStack stack, std::string name, std::move_only_function<void()> body)
    : stack_(std::move(stack)), name_(std::move(name)), body_(std::move(body)) {
#if defined(FERRULE_ADDRESS_SANITIZER)
    // Of the fiber that had the stack before.
    __asan_unpoison_memory_region(stack_.bottom(), stack_.size());
#endif
    auto** top = reinterpret_cast<void**>(static_cast<std::byte*>(stack_.bottom()) + stack_.size());
    const auto argument = reinterpret_cast<void*>(this);
    const auto function = reinterpret_cast<void*>(&Fiber::enter);
    const auto entry = reinterpret_cast<void*>(&ferrule_sim_fiber_entry);
#if defined(__x86_64__)
    // r15, r14, r13, r12, rbx, rbp and where `ret` goes; the entry then finds the stack aligned, as before a call.
    void** const frame = top - 9;
    frame[2] = function;
    frame[3] = argument;
    frame[6] = entry;
#elif defined(__aarch64__)
    void** const frame = top - 20;
    frame[0] = argument;
    frame[1] = function;
    frame[11] = entry;
#endif
    context_.stack_pointer = frame;
}

void Fiber::resume(FiberContext& scheduler) {
    resumer_ = &scheduler;
    sim::leave(scheduler);
    sim::enter(context_);
#if defined(FERRULE_ADDRESS_SANITIZER)
    __sanitizer_start_switch_fiber(&scheduler.fake_stack, stack_.bottom(), stack_.size());
#endif
    ferrule_sim_switch_stack(&scheduler.stack_pointer, context_.stack_pointer);
#if defined(FERRULE_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(scheduler.fake_stack, nullptr, nullptr);
#endif
    sim::leave(context_);
    sim::enter(scheduler);
}

void Fiber::suspend() {
#if defined(FERRULE_ADDRESS_SANITIZER)
    __sanitizer_start_switch_fiber(ended_ ? nullptr : &context_.fake_stack, resumer_->stack_bottom,
                                   resumer_->stack_size);
#endif
    ferrule_sim_switch_stack(&context_.stack_pointer, resumer_->stack_pointer);
#if defined(FERRULE_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(context_.fake_stack, &resumer_->stack_bottom, &resumer_->stack_size);
#endif
}

void Fiber::enter(Fiber* self) noexcept {
#if defined(FERRULE_ADDRESS_SANITIZER)
    __sanitizer_finish_switch_fiber(nullptr, &self->resumer_->stack_bottom, &self->resumer_->stack_size);
#endif
    self->body_();
    self->body_ = nullptr;
    self->ended_ = true;
    self->suspend();
    std::unreachable();
}

}  // namespace ferrule::inline v0::sim
