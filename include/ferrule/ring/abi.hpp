#pragma once

#include <cstddef>
#include <cstdint>

/// The io_uring ABI that Ferrule uses: structures and constants as <linux/io_uring.h> of Linux 6.18 has them, so that
/// the library builds on any host and its public headers need no kernel header. Field names are the kernel's. The
/// number in a comment is the Linux version that brought the constant. Source: the kernel's
/// include/uapi/linux/io_uring.h and the io_uring(7) man pages.
namespace ferrule::inline v0::abi {

/// An operation that a submission entry asks for (IORING_OP_*).
enum class Operation : std::uint8_t {
    nop = 0,                        // 5.1
    readv = 1,                      // 5.1
    writev = 2,                     // 5.1
    fsync = 3,                      // 5.1
    read_fixed = 4,                 // 5.1
    write_fixed = 5,                // 5.1
    poll_add = 6,                   // 5.1
    poll_remove = 7,                // 5.1
    sync_file_range = 8,            // 5.2
    send_message = 9,               // 5.3
    receive_message = 10,           // 5.3
    timeout = 11,                   // 5.4
    timeout_remove = 12,            // 5.5
    accept = 13,                    // 5.5
    async_cancel = 14,              // 5.5
    link_timeout = 15,              // 5.5
    connect = 16,                   // 5.5
    fallocate = 17,                 // 5.6
    open_at = 18,                   // 5.6
    close = 19,                     // 5.6
    files_update = 20,              // 5.6
    statx = 21,                     // 5.6
    read = 22,                      // 5.6
    write = 23,                     // 5.6
    fadvise = 24,                   // 5.6
    madvise = 25,                   // 5.6
    send = 26,                      // 5.6
    receive = 27,                   // 5.6
    open_at2 = 28,                  // 5.6
    epoll_ctl = 29,                 // 5.6
    splice = 30,                    // 5.7
    provide_buffers = 31,           // 5.7
    remove_buffers = 32,            // 5.7
    tee = 33,                       // 5.8
    shutdown = 34,                  // 5.11
    rename_at = 35,                 // 5.11
    unlink_at = 36,                 // 5.11
    mkdir_at = 37,                  // 5.15
    symlink_at = 38,                // 5.15
    link_at = 39,                   // 5.15
    message_ring = 40,              // 5.18
    fset_xattr = 41,                // 5.19
    set_xattr = 42,                 // 5.19
    fget_xattr = 43,                // 5.19
    get_xattr = 44,                 // 5.19
    socket = 45,                    // 5.19
    uring_command = 46,             // 5.19
    send_zero_copy = 47,            // 6.0
    send_message_zero_copy = 48,    // 6.1
    read_multishot = 49,            // 6.7
    wait_id = 50,                   // 6.7
    futex_wait = 51,                // 6.7
    futex_wake = 52,                // 6.7
    futex_wait_vector = 53,         // 6.7
    fixed_descriptor_install = 54,  // 6.8
    ftruncate = 55,                 // 6.9
    bind = 56,                      // 6.11
    listen = 57,                    // 6.11
    receive_zero_copy = 58,         // 6.15
    epoll_wait = 59,                // 6.15
    readv_fixed = 60,               // 6.15
    writev_fixed = 61,              // 6.15
    pipe = 62,                      // 6.16
};

inline constexpr std::uint32_t operation_count = 63;  // of Linux 6.18

/// __kernel_timespec: 64-bit seconds on every architecture.
struct Timespec {
    std::int64_t seconds;
    std::int64_t nanoseconds;
};
static_assert(sizeof(Timespec) == 16);

/// struct io_uring_sqe: one request to the kernel.
struct SubmissionEntry {
    /// Of socket commands.
    struct SocketOption {
        std::uint32_t level;
        std::uint32_t optname;
    };

    Operation opcode;
    std::uint8_t flags;    // entry_*
    std::uint16_t ioprio;  // an I/O priority, or receive_*, send_*, accept_*
    std::int32_t fd;
    union {
        std::uint64_t off;
        std::uint64_t addr2;
        std::uint32_t cmd_op;
    };
    union {
        std::uint64_t addr;
        std::uint64_t splice_off_in;
        SocketOption socket_option;
    };
    std::uint32_t len;
    union {
        std::uint32_t rw_flags;
        std::uint32_t fsync_flags;
        std::uint32_t poll32_events;
        std::uint32_t sync_range_flags;
        std::uint32_t msg_flags;
        std::uint32_t timeout_flags;
        std::uint32_t accept_flags;
        std::uint32_t cancel_flags;
        std::uint32_t open_flags;
        std::uint32_t statx_flags;
        std::uint32_t fadvise_advice;
        std::uint32_t splice_flags;
        std::uint32_t rename_flags;
        std::uint32_t unlink_flags;
        std::uint32_t hardlink_flags;
        std::uint32_t xattr_flags;
        std::uint32_t msg_ring_flags;
        std::uint32_t uring_cmd_flags;
        std::uint32_t waitid_flags;
        std::uint32_t futex_flags;
        std::uint32_t install_fd_flags;
        std::uint32_t nop_flags;
        std::uint32_t pipe_flags;
    };
    std::uint64_t user_data;
    union {
        std::uint16_t buf_index;
        std::uint16_t buf_group;
    };
    std::uint16_t personality;
    union {
        std::int32_t splice_fd_in;
        std::uint32_t file_index;
        std::uint32_t optlen;
        std::uint16_t addr_len;
    };
    union {
        std::uint64_t addr3;
        std::uint64_t optval;
    };
    std::uint64_t pad2;
};
static_assert(sizeof(SubmissionEntry) == 64);

/// struct io_uring_cqe: what became of a request.
struct Completion {
    std::uint64_t user_data;
    std::int32_t result;  // as the system call's, or -errno
    std::uint32_t flags;  // completion_*
};
static_assert(sizeof(Completion) == 16);

/// The buffer that a completion names; only with completion_buffer set.
[[nodiscard]] constexpr std::uint16_t buffer_of(const Completion& completion) noexcept {
    return static_cast<std::uint16_t>(completion.flags >> 16);
}

/// struct io_sqring_offsets.
struct SubmissionOffsets {
    std::uint32_t head;
    std::uint32_t tail;
    std::uint32_t ring_mask;
    std::uint32_t ring_entries;
    std::uint32_t flags;
    std::uint32_t dropped;
    std::uint32_t array;
    std::uint32_t resv1;
    std::uint64_t user_addr;
};
static_assert(sizeof(SubmissionOffsets) == 40);

/// struct io_cqring_offsets.
struct CompletionOffsets {
    std::uint32_t head;
    std::uint32_t tail;
    std::uint32_t ring_mask;
    std::uint32_t ring_entries;
    std::uint32_t overflow;
    std::uint32_t cqes;
    std::uint32_t flags;
    std::uint32_t resv1;
    std::uint64_t user_addr;
};
static_assert(sizeof(CompletionOffsets) == 40);

/// struct io_uring_params.
struct Parameters {
    std::uint32_t sq_entries;
    std::uint32_t cq_entries;
    std::uint32_t flags;
    std::uint32_t sq_thread_cpu;
    std::uint32_t sq_thread_idle;
    std::uint32_t features;
    std::uint32_t wq_fd;
    std::uint32_t resv[3];
    SubmissionOffsets sq_off;
    CompletionOffsets cq_off;
};
static_assert(sizeof(Parameters) == 120);

/// struct io_uring_getevents_arg: the argument of io_uring_enter with enter_extended_argument.
struct GetEventsArgument {
    std::uint64_t sigmask;
    std::uint32_t sigmask_sz;
    std::uint32_t min_wait_usec;  // 6.12; must be 0 before
    std::uint64_t ts;             // a Timespec, or 0
};
static_assert(sizeof(GetEventsArgument) == 24);

/// struct io_uring_buf: one entry of a provided-buffer ring. The ring's tail lies over the first entry's `resv`.
struct BufferEntry {
    std::uint64_t addr;
    std::uint32_t len;
    std::uint16_t bid;
    std::uint16_t resv;
};
static_assert(sizeof(BufferEntry) == 16);
inline constexpr std::size_t buffer_ring_tail_offset = 14;

/// struct io_uring_buf_reg: the argument of register_buffer_ring and unregister_buffer_ring.
struct BufferRingRegistration {
    std::uint64_t ring_addr;
    std::uint32_t ring_entries;
    std::uint16_t bgid;
    std::uint16_t flags;
    std::uint64_t resv[3];
};
static_assert(sizeof(BufferRingRegistration) == 40);

/// struct io_uring_buf_status: the argument of register_buffer_ring_status.
struct BufferRingStatus {
    std::uint32_t buf_group;
    std::uint32_t head;
    std::uint32_t resv[8];
};
static_assert(sizeof(BufferRingStatus) == 40);

/// struct io_uring_probe_op.
struct ProbeOperation {
    std::uint8_t op;
    std::uint8_t resv;
    std::uint16_t flags;
    std::uint32_t resv2;
};
static_assert(sizeof(ProbeOperation) == 8);

/// struct io_uring_probe with room for every operation that a byte can name.
struct Probe {
    std::uint8_t last_op;
    std::uint8_t ops_len;
    std::uint16_t resv;
    std::uint32_t resv2[3];
    ProbeOperation ops[256];
};
static_assert(sizeof(Probe) == 16 + 256 * 8);

/// struct io_uring_rsrc_register.
struct ResourceRegistration {
    std::uint32_t nr;
    std::uint32_t flags;
    std::uint64_t resv2;
    std::uint64_t data;
    std::uint64_t tags;
};
static_assert(sizeof(ResourceRegistration) == 32);

/// struct io_uring_rsrc_update, which is also io_uring_files_update.
struct ResourceUpdate {
    std::uint32_t offset;
    std::uint32_t resv;
    std::uint64_t data;
};
static_assert(sizeof(ResourceUpdate) == 16);

/// struct io_uring_rsrc_update2.
struct TaggedResourceUpdate {
    std::uint32_t offset;
    std::uint32_t resv;
    std::uint64_t data;
    std::uint64_t tags;
    std::uint32_t nr;
    std::uint32_t resv2;
};
static_assert(sizeof(TaggedResourceUpdate) == 32);

/// struct io_uring_sync_cancel_reg.
struct SyncCancelRegistration {
    std::uint64_t addr;
    std::int32_t fd;
    std::uint32_t flags;
    Timespec timeout;
    std::uint8_t opcode;  // 6.6
    std::uint8_t pad[7];
    std::uint64_t pad2[3];
};
static_assert(sizeof(SyncCancelRegistration) == 64);

/// struct io_uring_napi: the argument of register_napi and unregister_napi, which fills it with what was in force.
struct NapiRegistration {
    std::uint32_t busy_poll_to;  // microseconds
    std::uint8_t prefer_busy_poll;
    std::uint8_t opcode;  // 6.13; must be 0 before
    std::uint8_t pad[2];
    std::uint32_t op_param;  // 6.13; must be 0 before
    std::uint32_t resv;
};
static_assert(sizeof(NapiRegistration) == 16);

/// struct io_uring_file_index_range.
struct FileIndexRange {
    std::uint32_t off;
    std::uint32_t len;
    std::uint64_t resv;
};
static_assert(sizeof(FileIndexRange) == 16);

/// struct io_uring_recvmsg_out: what precedes name, control and payload in the buffer of a multishot receive_message.
struct ReceiveMessageHeader {
    std::uint32_t namelen;
    std::uint32_t controllen;
    std::uint32_t payloadlen;
    std::uint32_t flags;
};
static_assert(sizeof(ReceiveMessageHeader) == 16);

/// struct futex_waitv.
struct FutexWaitEntry {
    std::uint64_t val;
    std::uint64_t uaddr;
    std::uint32_t flags;
    std::uint32_t reserved;
};
static_assert(sizeof(FutexWaitEntry) == 24);

// SubmissionEntry::flags (IOSQE_*)
inline constexpr std::uint8_t entry_fixed_file = 1u << 0;               // 5.1
inline constexpr std::uint8_t entry_drain = 1u << 1;                    // 5.2
inline constexpr std::uint8_t entry_link = 1u << 2;                     // 5.3
inline constexpr std::uint8_t entry_hard_link = 1u << 3;                // 5.5
inline constexpr std::uint8_t entry_async = 1u << 4;                    // 5.6
inline constexpr std::uint8_t entry_buffer_select = 1u << 5;            // 5.7
inline constexpr std::uint8_t entry_completion_skip_success = 1u << 6;  // 5.17 (IOSQE_CQE_SKIP_SUCCESS)

// Parameters::flags (IORING_SETUP_*)
inline constexpr std::uint32_t setup_io_poll = 1u << 0;                      // 5.1
inline constexpr std::uint32_t setup_submission_poll = 1u << 1;              // 5.1 (SQPOLL)
inline constexpr std::uint32_t setup_submission_affinity = 1u << 2;          // 5.1 (SQ_AFF)
inline constexpr std::uint32_t setup_completion_size = 1u << 3;              // 5.5 (CQSIZE)
inline constexpr std::uint32_t setup_clamp = 1u << 4;                        // 5.6
inline constexpr std::uint32_t setup_attach_work_queue = 1u << 5;            // 5.6 (ATTACH_WQ)
inline constexpr std::uint32_t setup_ring_disabled = 1u << 6;                // 5.10 (R_DISABLED)
inline constexpr std::uint32_t setup_submit_all = 1u << 7;                   // 5.18
inline constexpr std::uint32_t setup_cooperative_taskrun = 1u << 8;          // 5.19 (COOP_TASKRUN)
inline constexpr std::uint32_t setup_taskrun_flag = 1u << 9;                 // 5.19
inline constexpr std::uint32_t setup_entry_128 = 1u << 10;                   // 5.19 (SQE128)
inline constexpr std::uint32_t setup_completion_32 = 1u << 11;               // 5.19 (CQE32)
inline constexpr std::uint32_t setup_single_issuer = 1u << 12;               // 6.0
inline constexpr std::uint32_t setup_defer_taskrun = 1u << 13;               // 6.1
inline constexpr std::uint32_t setup_no_mmap = 1u << 14;                     // 6.5
inline constexpr std::uint32_t setup_registered_descriptor_only = 1u << 15;  // 6.5 (REGISTERED_FD_ONLY)
inline constexpr std::uint32_t setup_no_submission_array = 1u << 16;         // 6.6 (NO_SQARRAY)
inline constexpr std::uint32_t setup_hybrid_io_poll = 1u << 17;              // 6.13
inline constexpr std::uint32_t setup_completion_mixed = 1u << 18;            // 6.18 (CQE_MIXED)

// Parameters::features (IORING_FEAT_*)
inline constexpr std::uint32_t feature_single_mmap = 1u << 0;                // 5.4
inline constexpr std::uint32_t feature_no_drop = 1u << 1;                    // 5.5
inline constexpr std::uint32_t feature_submit_stable = 1u << 2;              // 5.5
inline constexpr std::uint32_t feature_current_position = 1u << 3;           // 5.6 (RW_CUR_POS)
inline constexpr std::uint32_t feature_current_personality = 1u << 4;        // 5.6
inline constexpr std::uint32_t feature_fast_poll = 1u << 5;                  // 5.7
inline constexpr std::uint32_t feature_poll_32_bits = 1u << 6;               // 5.9
inline constexpr std::uint32_t feature_submission_poll_nonfixed = 1u << 7;   // 5.11 (SQPOLL_NONFIXED)
inline constexpr std::uint32_t feature_extended_argument = 1u << 8;          // 5.11 (EXT_ARG)
inline constexpr std::uint32_t feature_native_workers = 1u << 9;             // 5.12
inline constexpr std::uint32_t feature_resource_tags = 1u << 10;             // 5.13
inline constexpr std::uint32_t feature_completion_skip = 1u << 11;           // 5.17
inline constexpr std::uint32_t feature_linked_file = 1u << 12;               // 5.17
inline constexpr std::uint32_t feature_registered_register_ring = 1u << 13;  // 6.3 (REG_REG_RING)
inline constexpr std::uint32_t feature_bundle = 1u << 14;                    // 6.10 (RECVSEND_BUNDLE)
inline constexpr std::uint32_t feature_min_timeout = 1u << 15;               // 6.12
inline constexpr std::uint32_t feature_read_write_attributes = 1u << 16;     // 6.14 (RW_ATTR)
inline constexpr std::uint32_t feature_no_iowait = 1u << 17;                 // 6.15

// io_uring_enter (IORING_ENTER_*)
inline constexpr std::uint32_t enter_get_events = 1u << 0;           // 5.1
inline constexpr std::uint32_t enter_submission_wakeup = 1u << 1;    // 5.1
inline constexpr std::uint32_t enter_submission_wait = 1u << 2;      // 5.10
inline constexpr std::uint32_t enter_extended_argument = 1u << 3;    // 5.11
inline constexpr std::uint32_t enter_registered_ring = 1u << 4;      // 5.18
inline constexpr std::uint32_t enter_absolute_timer = 1u << 5;       // 6.12
inline constexpr std::uint32_t enter_registered_argument = 1u << 6;  // 6.13
inline constexpr std::uint32_t enter_no_iowait = 1u << 7;            // 6.15

// The submission queue's flags word (IORING_SQ_*)
inline constexpr std::uint32_t queue_need_wakeup = 1u << 0;  // 5.1
inline constexpr std::uint32_t queue_overflow = 1u << 1;     // 5.8 (CQ_OVERFLOW)
inline constexpr std::uint32_t queue_taskrun = 1u << 2;      // 5.19

// The completion queue's flags word
inline constexpr std::uint32_t queue_event_descriptor_disabled = 1u << 0;  // 5.8

// Completion::flags (IORING_CQE_F_*)
inline constexpr std::uint32_t completion_buffer = 1u << 0;           // 5.7
inline constexpr std::uint32_t completion_more = 1u << 1;             // 5.13
inline constexpr std::uint32_t completion_socket_nonempty = 1u << 2;  // 5.19
inline constexpr std::uint32_t completion_notification = 1u << 3;     // 6.0 (NOTIF)
inline constexpr std::uint32_t completion_buffer_more = 1u << 4;      // 6.12 (BUF_MORE)
inline constexpr std::uint32_t completion_skip = 1u << 5;             // 6.18
inline constexpr std::uint32_t completion_32 = 1u << 15;              // 6.18
inline constexpr std::uint32_t completion_buffer_shift = 16;

// mmap offsets
inline constexpr std::uint64_t offset_submission_ring = 0;
inline constexpr std::uint64_t offset_completion_ring = 0x8000000;
inline constexpr std::uint64_t offset_submission_entries = 0x10000000;
inline constexpr std::uint64_t offset_buffer_ring = 0x80000000;  // 6.4

// SubmissionEntry::ioprio of send and receive (IORING_RECVSEND_*, IORING_RECV_*, IORING_SEND_*)
inline constexpr std::uint16_t receive_poll_first = 1u << 0;           // 5.19
inline constexpr std::uint16_t send_poll_first = 1u << 0;              // 5.19
inline constexpr std::uint16_t receive_multishot = 1u << 1;            // 6.0
inline constexpr std::uint16_t send_fixed_buffer = 1u << 2;            // 6.0 (RECVSEND_FIXED_BUF)
inline constexpr std::uint16_t send_zero_copy_report_usage = 1u << 3;  // 6.2
inline constexpr std::uint16_t receive_bundle = 1u << 4;               // 6.10
inline constexpr std::uint16_t send_bundle = 1u << 4;                  // 6.10
inline constexpr std::uint16_t send_vectorized = 1u << 5;              // 6.17
inline constexpr std::uint32_t notification_usage_copied = 1u << 31;   // 6.2, in Completion::result

// SubmissionEntry::ioprio of accept
inline constexpr std::uint16_t accept_multishot = 1u << 0;   // 5.19
inline constexpr std::uint16_t accept_dont_wait = 1u << 1;   // 6.10
inline constexpr std::uint16_t accept_poll_first = 1u << 2;  // 6.10

// SubmissionEntry::fsync_flags
inline constexpr std::uint32_t fsync_datasync = 1u << 0;  // 5.1

// SubmissionEntry::timeout_flags
inline constexpr std::uint32_t timeout_absolute = 1u << 0;       // 5.5
inline constexpr std::uint32_t timeout_update = 1u << 1;         // 5.11
inline constexpr std::uint32_t timeout_boot_time = 1u << 2;      // 5.15
inline constexpr std::uint32_t timeout_real_time = 1u << 3;      // 5.15
inline constexpr std::uint32_t link_timeout_update = 1u << 4;    // 5.15
inline constexpr std::uint32_t timeout_etime_success = 1u << 5;  // 5.16
inline constexpr std::uint32_t timeout_multishot = 1u << 6;      // 6.4

// SubmissionEntry::splice_flags
inline constexpr std::uint32_t splice_descriptor_in_fixed = 1u << 31;  // 5.7

// SubmissionEntry::len of poll_add and poll_remove
inline constexpr std::uint32_t poll_add_multishot = 1u << 0;     // 5.13
inline constexpr std::uint32_t poll_update_events = 1u << 1;     // 5.13
inline constexpr std::uint32_t poll_update_user_data = 1u << 2;  // 5.13
inline constexpr std::uint32_t poll_add_level = 1u << 3;         // 6.0

// SubmissionEntry::cancel_flags
inline constexpr std::uint32_t cancel_all = 1u << 0;               // 5.19
inline constexpr std::uint32_t cancel_descriptor = 1u << 1;        // 5.19 (FD)
inline constexpr std::uint32_t cancel_any = 1u << 2;               // 5.19
inline constexpr std::uint32_t cancel_descriptor_fixed = 1u << 3;  // 6.0
inline constexpr std::uint32_t cancel_user_data = 1u << 4;         // 6.6
inline constexpr std::uint32_t cancel_operation = 1u << 5;         // 6.6

// SubmissionEntry::addr and msg_ring_flags of message_ring
inline constexpr std::uint64_t message_data = 0;                   // 5.18
inline constexpr std::uint64_t message_send_descriptor = 1;        // 6.0
inline constexpr std::uint32_t message_completion_skip = 1u << 0;  // 6.0
inline constexpr std::uint32_t message_flags_pass = 1u << 1;       // 6.3

// SubmissionEntry::install_fd_flags, nop_flags, uring_cmd_flags
inline constexpr std::uint32_t install_no_close_on_exec = 1u << 0;  // 6.8
inline constexpr std::uint32_t nop_inject_result = 1u << 0;         // 6.10
inline constexpr std::uint32_t uring_command_fixed = 1u << 0;       // 6.1

// SubmissionEntry::cmd_op of uring_command on a socket
inline constexpr std::uint32_t socket_bytes_unread = 0;    // 6.7 (SIOCINQ)
inline constexpr std::uint32_t socket_bytes_unsent = 1;    // 6.7 (SIOCOUTQ)
inline constexpr std::uint32_t socket_get_option = 2;      // 6.7
inline constexpr std::uint32_t socket_set_option = 3;      // 6.7
inline constexpr std::uint32_t socket_send_timestamp = 4;  // 6.17 (TX_TIMESTAMP)

// SubmissionEntry::file_index: the kernel picks a free direct descriptor
inline constexpr std::uint32_t file_index_allocate = ~0u;  // 5.19

// futex2 flags, in SubmissionEntry::fd
inline constexpr std::uint32_t futex_size_32 = 2;    // 6.7
inline constexpr std::uint32_t futex_private = 128;  // 6.7

// BufferRingRegistration::flags
inline constexpr std::uint16_t buffer_ring_mmap = 1;         // 6.4
inline constexpr std::uint16_t buffer_ring_incremental = 2;  // 6.12

// io_uring_register opcodes (IORING_REGISTER_*, IORING_UNREGISTER_*)
inline constexpr std::uint32_t register_buffers = 0;                   // 5.1
inline constexpr std::uint32_t unregister_buffers = 1;                 // 5.1
inline constexpr std::uint32_t register_files = 2;                     // 5.1
inline constexpr std::uint32_t unregister_files = 3;                   // 5.1
inline constexpr std::uint32_t register_event_descriptor = 4;          // 5.2
inline constexpr std::uint32_t unregister_event_descriptor = 5;        // 5.2
inline constexpr std::uint32_t register_files_update = 6;              // 5.5
inline constexpr std::uint32_t register_event_descriptor_async = 7;    // 5.6
inline constexpr std::uint32_t register_probe = 8;                     // 5.6
inline constexpr std::uint32_t register_personality = 9;               // 5.6
inline constexpr std::uint32_t unregister_personality = 10;            // 5.6
inline constexpr std::uint32_t register_restrictions = 11;             // 5.10
inline constexpr std::uint32_t register_enable_rings = 12;             // 5.10
inline constexpr std::uint32_t register_files2 = 13;                   // 5.13
inline constexpr std::uint32_t register_files_update2 = 14;            // 5.13
inline constexpr std::uint32_t register_buffers2 = 15;                 // 5.13
inline constexpr std::uint32_t register_buffers_update = 16;           // 5.13
inline constexpr std::uint32_t register_worker_affinity = 17;          // 5.14
inline constexpr std::uint32_t unregister_worker_affinity = 18;        // 5.14
inline constexpr std::uint32_t register_workers_max = 19;              // 5.15
inline constexpr std::uint32_t register_ring_descriptors = 20;         // 5.18
inline constexpr std::uint32_t unregister_ring_descriptors = 21;       // 5.18
inline constexpr std::uint32_t register_buffer_ring = 22;              // 5.19
inline constexpr std::uint32_t unregister_buffer_ring = 23;            // 5.19
inline constexpr std::uint32_t register_sync_cancel = 24;              // 6.0
inline constexpr std::uint32_t register_file_alloc_range = 25;         // 6.0
inline constexpr std::uint32_t register_buffer_ring_status = 26;       // 6.8
inline constexpr std::uint32_t register_napi = 27;                     // 6.9
inline constexpr std::uint32_t unregister_napi = 28;                   // 6.9
inline constexpr std::uint32_t register_clock = 29;                    // 6.12
inline constexpr std::uint32_t register_clone_buffers = 30;            // 6.12
inline constexpr std::uint32_t register_send_message_ring = 31;        // 6.13
inline constexpr std::uint32_t register_zero_copy_receive_queue = 32;  // 6.15
inline constexpr std::uint32_t register_resize_rings = 33;             // 6.13
inline constexpr std::uint32_t register_memory_region = 34;            // 6.13
inline constexpr std::uint32_t register_query = 35;                    // 6.18

inline constexpr std::uint32_t resource_register_sparse = 1u << 0;   // 5.19
inline constexpr std::int32_t files_skip = -2;                       // 5.12: update_files leaves this slot as it is
inline constexpr std::uint16_t probe_operation_supported = 1u << 0;  // 5.6

}  // namespace ferrule::inline v0::abi
