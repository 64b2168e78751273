// The library's own ABI against the kernel headers of the machine that builds the tests. Those of Debian 12 are of
// Linux 6.1; what is newer is compared where the headers have it.

#include <ferrule/ring/abi.hpp>

#include <gtest/gtest.h>

#include <linux/futex.h>
#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ferrule {
namespace {

static_assert(sizeof(abi::SubmissionEntry) == sizeof(io_uring_sqe));
static_assert(offsetof(abi::SubmissionEntry, opcode) == offsetof(io_uring_sqe, opcode));
static_assert(offsetof(abi::SubmissionEntry, flags) == offsetof(io_uring_sqe, flags));
static_assert(offsetof(abi::SubmissionEntry, ioprio) == offsetof(io_uring_sqe, ioprio));
static_assert(offsetof(abi::SubmissionEntry, fd) == offsetof(io_uring_sqe, fd));
static_assert(offsetof(abi::SubmissionEntry, off) == offsetof(io_uring_sqe, off));
static_assert(offsetof(abi::SubmissionEntry, addr2) == offsetof(io_uring_sqe, addr2));
static_assert(offsetof(abi::SubmissionEntry, cmd_op) == offsetof(io_uring_sqe, cmd_op));
static_assert(offsetof(abi::SubmissionEntry, addr) == offsetof(io_uring_sqe, addr));
static_assert(offsetof(abi::SubmissionEntry, splice_off_in) == offsetof(io_uring_sqe, splice_off_in));
static_assert(offsetof(abi::SubmissionEntry, len) == offsetof(io_uring_sqe, len));
static_assert(offsetof(abi::SubmissionEntry, rw_flags) == offsetof(io_uring_sqe, rw_flags));
static_assert(offsetof(abi::SubmissionEntry, fsync_flags) == offsetof(io_uring_sqe, fsync_flags));
static_assert(offsetof(abi::SubmissionEntry, poll32_events) == offsetof(io_uring_sqe, poll32_events));
static_assert(offsetof(abi::SubmissionEntry, sync_range_flags) == offsetof(io_uring_sqe, sync_range_flags));
static_assert(offsetof(abi::SubmissionEntry, msg_flags) == offsetof(io_uring_sqe, msg_flags));
static_assert(offsetof(abi::SubmissionEntry, timeout_flags) == offsetof(io_uring_sqe, timeout_flags));
static_assert(offsetof(abi::SubmissionEntry, accept_flags) == offsetof(io_uring_sqe, accept_flags));
static_assert(offsetof(abi::SubmissionEntry, cancel_flags) == offsetof(io_uring_sqe, cancel_flags));
static_assert(offsetof(abi::SubmissionEntry, open_flags) == offsetof(io_uring_sqe, open_flags));
static_assert(offsetof(abi::SubmissionEntry, statx_flags) == offsetof(io_uring_sqe, statx_flags));
static_assert(offsetof(abi::SubmissionEntry, fadvise_advice) == offsetof(io_uring_sqe, fadvise_advice));
static_assert(offsetof(abi::SubmissionEntry, splice_flags) == offsetof(io_uring_sqe, splice_flags));
static_assert(offsetof(abi::SubmissionEntry, rename_flags) == offsetof(io_uring_sqe, rename_flags));
static_assert(offsetof(abi::SubmissionEntry, unlink_flags) == offsetof(io_uring_sqe, unlink_flags));
static_assert(offsetof(abi::SubmissionEntry, hardlink_flags) == offsetof(io_uring_sqe, hardlink_flags));
static_assert(offsetof(abi::SubmissionEntry, xattr_flags) == offsetof(io_uring_sqe, xattr_flags));
static_assert(offsetof(abi::SubmissionEntry, msg_ring_flags) == offsetof(io_uring_sqe, msg_ring_flags));
static_assert(offsetof(abi::SubmissionEntry, uring_cmd_flags) == offsetof(io_uring_sqe, uring_cmd_flags));
static_assert(offsetof(abi::SubmissionEntry, user_data) == offsetof(io_uring_sqe, user_data));
static_assert(offsetof(abi::SubmissionEntry, buf_index) == offsetof(io_uring_sqe, buf_index));
static_assert(offsetof(abi::SubmissionEntry, buf_group) == offsetof(io_uring_sqe, buf_group));
static_assert(offsetof(abi::SubmissionEntry, personality) == offsetof(io_uring_sqe, personality));
static_assert(offsetof(abi::SubmissionEntry, splice_fd_in) == offsetof(io_uring_sqe, splice_fd_in));
static_assert(offsetof(abi::SubmissionEntry, file_index) == offsetof(io_uring_sqe, file_index));
static_assert(offsetof(abi::SubmissionEntry, addr_len) == offsetof(io_uring_sqe, addr_len));
static_assert(offsetof(abi::SubmissionEntry, addr3) == offsetof(io_uring_sqe, addr3));
static_assert(sizeof(abi::Completion) == sizeof(io_uring_cqe));
static_assert(offsetof(abi::Completion, user_data) == offsetof(io_uring_cqe, user_data));
static_assert(offsetof(abi::Completion, result) == offsetof(io_uring_cqe, res));
static_assert(offsetof(abi::Completion, flags) == offsetof(io_uring_cqe, flags));
static_assert(sizeof(abi::SubmissionOffsets) == sizeof(io_sqring_offsets));
static_assert(offsetof(abi::SubmissionOffsets, head) == offsetof(io_sqring_offsets, head));
static_assert(offsetof(abi::SubmissionOffsets, tail) == offsetof(io_sqring_offsets, tail));
static_assert(offsetof(abi::SubmissionOffsets, ring_mask) == offsetof(io_sqring_offsets, ring_mask));
static_assert(offsetof(abi::SubmissionOffsets, ring_entries) == offsetof(io_sqring_offsets, ring_entries));
static_assert(offsetof(abi::SubmissionOffsets, flags) == offsetof(io_sqring_offsets, flags));
static_assert(offsetof(abi::SubmissionOffsets, dropped) == offsetof(io_sqring_offsets, dropped));
static_assert(offsetof(abi::SubmissionOffsets, array) == offsetof(io_sqring_offsets, array));
static_assert(sizeof(abi::CompletionOffsets) == sizeof(io_cqring_offsets));
static_assert(offsetof(abi::CompletionOffsets, head) == offsetof(io_cqring_offsets, head));
static_assert(offsetof(abi::CompletionOffsets, tail) == offsetof(io_cqring_offsets, tail));
static_assert(offsetof(abi::CompletionOffsets, ring_mask) == offsetof(io_cqring_offsets, ring_mask));
static_assert(offsetof(abi::CompletionOffsets, ring_entries) == offsetof(io_cqring_offsets, ring_entries));
static_assert(offsetof(abi::CompletionOffsets, overflow) == offsetof(io_cqring_offsets, overflow));
static_assert(offsetof(abi::CompletionOffsets, cqes) == offsetof(io_cqring_offsets, cqes));
static_assert(offsetof(abi::CompletionOffsets, flags) == offsetof(io_cqring_offsets, flags));
static_assert(sizeof(abi::Parameters) == sizeof(io_uring_params));
static_assert(offsetof(abi::Parameters, sq_entries) == offsetof(io_uring_params, sq_entries));
static_assert(offsetof(abi::Parameters, cq_entries) == offsetof(io_uring_params, cq_entries));
static_assert(offsetof(abi::Parameters, flags) == offsetof(io_uring_params, flags));
static_assert(offsetof(abi::Parameters, sq_thread_cpu) == offsetof(io_uring_params, sq_thread_cpu));
static_assert(offsetof(abi::Parameters, sq_thread_idle) == offsetof(io_uring_params, sq_thread_idle));
static_assert(offsetof(abi::Parameters, features) == offsetof(io_uring_params, features));
static_assert(offsetof(abi::Parameters, wq_fd) == offsetof(io_uring_params, wq_fd));
static_assert(offsetof(abi::Parameters, resv) == offsetof(io_uring_params, resv));
static_assert(offsetof(abi::Parameters, sq_off) == offsetof(io_uring_params, sq_off));
static_assert(offsetof(abi::Parameters, cq_off) == offsetof(io_uring_params, cq_off));
static_assert(sizeof(abi::GetEventsArgument) == sizeof(io_uring_getevents_arg));
static_assert(offsetof(abi::GetEventsArgument, sigmask) == offsetof(io_uring_getevents_arg, sigmask));
static_assert(offsetof(abi::GetEventsArgument, sigmask_sz) == offsetof(io_uring_getevents_arg, sigmask_sz));
static_assert(offsetof(abi::GetEventsArgument, ts) == offsetof(io_uring_getevents_arg, ts));
static_assert(sizeof(abi::Timespec) == sizeof(__kernel_timespec));
static_assert(offsetof(abi::Timespec, seconds) == offsetof(__kernel_timespec, tv_sec));
static_assert(offsetof(abi::Timespec, nanoseconds) == offsetof(__kernel_timespec, tv_nsec));
static_assert(sizeof(abi::BufferEntry) == sizeof(io_uring_buf));
static_assert(offsetof(abi::BufferEntry, addr) == offsetof(io_uring_buf, addr));
static_assert(offsetof(abi::BufferEntry, len) == offsetof(io_uring_buf, len));
static_assert(offsetof(abi::BufferEntry, bid) == offsetof(io_uring_buf, bid));
static_assert(offsetof(abi::BufferEntry, resv) == offsetof(io_uring_buf, resv));
static_assert(sizeof(abi::BufferRingRegistration) == sizeof(io_uring_buf_reg));
static_assert(offsetof(abi::BufferRingRegistration, ring_addr) == offsetof(io_uring_buf_reg, ring_addr));
static_assert(offsetof(abi::BufferRingRegistration, ring_entries) == offsetof(io_uring_buf_reg, ring_entries));
static_assert(offsetof(abi::BufferRingRegistration, bgid) == offsetof(io_uring_buf_reg, bgid));
static_assert(sizeof(abi::ProbeOperation) == sizeof(io_uring_probe_op));
static_assert(offsetof(abi::ProbeOperation, op) == offsetof(io_uring_probe_op, op));
static_assert(offsetof(abi::ProbeOperation, flags) == offsetof(io_uring_probe_op, flags));
static_assert(sizeof(abi::Probe) == sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op));
static_assert(offsetof(abi::Probe, last_op) == offsetof(io_uring_probe, last_op));
static_assert(offsetof(abi::Probe, ops_len) == offsetof(io_uring_probe, ops_len));
static_assert(sizeof(abi::ResourceRegistration) == sizeof(io_uring_rsrc_register));
static_assert(offsetof(abi::ResourceRegistration, nr) == offsetof(io_uring_rsrc_register, nr));
static_assert(offsetof(abi::ResourceRegistration, flags) == offsetof(io_uring_rsrc_register, flags));
static_assert(offsetof(abi::ResourceRegistration, data) == offsetof(io_uring_rsrc_register, data));
static_assert(offsetof(abi::ResourceRegistration, tags) == offsetof(io_uring_rsrc_register, tags));
static_assert(sizeof(abi::ResourceUpdate) == sizeof(io_uring_rsrc_update));
static_assert(offsetof(abi::ResourceUpdate, offset) == offsetof(io_uring_rsrc_update, offset));
static_assert(offsetof(abi::ResourceUpdate, resv) == offsetof(io_uring_rsrc_update, resv));
static_assert(offsetof(abi::ResourceUpdate, data) == offsetof(io_uring_rsrc_update, data));
static_assert(sizeof(abi::TaggedResourceUpdate) == sizeof(io_uring_rsrc_update2));
static_assert(offsetof(abi::TaggedResourceUpdate, offset) == offsetof(io_uring_rsrc_update2, offset));
static_assert(offsetof(abi::TaggedResourceUpdate, data) == offsetof(io_uring_rsrc_update2, data));
static_assert(offsetof(abi::TaggedResourceUpdate, tags) == offsetof(io_uring_rsrc_update2, tags));
static_assert(offsetof(abi::TaggedResourceUpdate, nr) == offsetof(io_uring_rsrc_update2, nr));
static_assert(sizeof(abi::SyncCancelRegistration) == sizeof(io_uring_sync_cancel_reg));
static_assert(offsetof(abi::SyncCancelRegistration, addr) == offsetof(io_uring_sync_cancel_reg, addr));
static_assert(offsetof(abi::SyncCancelRegistration, fd) == offsetof(io_uring_sync_cancel_reg, fd));
static_assert(offsetof(abi::SyncCancelRegistration, flags) == offsetof(io_uring_sync_cancel_reg, flags));
static_assert(offsetof(abi::SyncCancelRegistration, timeout) == offsetof(io_uring_sync_cancel_reg, timeout));
static_assert(sizeof(abi::FileIndexRange) == sizeof(io_uring_file_index_range));
static_assert(offsetof(abi::FileIndexRange, off) == offsetof(io_uring_file_index_range, off));
static_assert(offsetof(abi::FileIndexRange, len) == offsetof(io_uring_file_index_range, len));
static_assert(offsetof(abi::FileIndexRange, resv) == offsetof(io_uring_file_index_range, resv));
static_assert(sizeof(abi::ReceiveMessageHeader) == sizeof(io_uring_recvmsg_out));
static_assert(offsetof(abi::ReceiveMessageHeader, namelen) == offsetof(io_uring_recvmsg_out, namelen));
static_assert(offsetof(abi::ReceiveMessageHeader, controllen) == offsetof(io_uring_recvmsg_out, controllen));
static_assert(offsetof(abi::ReceiveMessageHeader, payloadlen) == offsetof(io_uring_recvmsg_out, payloadlen));
static_assert(offsetof(abi::ReceiveMessageHeader, flags) == offsetof(io_uring_recvmsg_out, flags));
static_assert(sizeof(abi::FutexWaitEntry) == sizeof(futex_waitv));
static_assert(offsetof(abi::FutexWaitEntry, val) == offsetof(futex_waitv, val));
static_assert(offsetof(abi::FutexWaitEntry, uaddr) == offsetof(futex_waitv, uaddr));
static_assert(offsetof(abi::FutexWaitEntry, flags) == offsetof(futex_waitv, flags));
static_assert(abi::buffer_ring_tail_offset == offsetof(io_uring_buf_ring, tail));

template <class Ours, class Theirs>
void same(Ours ours, Theirs theirs) {
    EXPECT_EQ(static_cast<std::uint64_t>(ours) & 0xffff'ffff, static_cast<std::uint64_t>(theirs) & 0xffff'ffff);
}

TEST(Abi, OperationsAreThoseOfTheKernelHeaders) {
    same(abi::Operation::nop, IORING_OP_NOP);
    same(abi::Operation::readv, IORING_OP_READV);
    same(abi::Operation::writev, IORING_OP_WRITEV);
    same(abi::Operation::fsync, IORING_OP_FSYNC);
    same(abi::Operation::read_fixed, IORING_OP_READ_FIXED);
    same(abi::Operation::write_fixed, IORING_OP_WRITE_FIXED);
    same(abi::Operation::poll_add, IORING_OP_POLL_ADD);
    same(abi::Operation::poll_remove, IORING_OP_POLL_REMOVE);
    same(abi::Operation::sync_file_range, IORING_OP_SYNC_FILE_RANGE);
    same(abi::Operation::send_message, IORING_OP_SENDMSG);
    same(abi::Operation::receive_message, IORING_OP_RECVMSG);
    same(abi::Operation::timeout, IORING_OP_TIMEOUT);
    same(abi::Operation::timeout_remove, IORING_OP_TIMEOUT_REMOVE);
    same(abi::Operation::accept, IORING_OP_ACCEPT);
    same(abi::Operation::async_cancel, IORING_OP_ASYNC_CANCEL);
    same(abi::Operation::link_timeout, IORING_OP_LINK_TIMEOUT);
    same(abi::Operation::connect, IORING_OP_CONNECT);
    same(abi::Operation::fallocate, IORING_OP_FALLOCATE);
    same(abi::Operation::open_at, IORING_OP_OPENAT);
    same(abi::Operation::close, IORING_OP_CLOSE);
    same(abi::Operation::files_update, IORING_OP_FILES_UPDATE);
    same(abi::Operation::statx, IORING_OP_STATX);
    same(abi::Operation::read, IORING_OP_READ);
    same(abi::Operation::write, IORING_OP_WRITE);
    same(abi::Operation::fadvise, IORING_OP_FADVISE);
    same(abi::Operation::madvise, IORING_OP_MADVISE);
    same(abi::Operation::send, IORING_OP_SEND);
    same(abi::Operation::receive, IORING_OP_RECV);
    same(abi::Operation::open_at2, IORING_OP_OPENAT2);
    same(abi::Operation::epoll_ctl, IORING_OP_EPOLL_CTL);
    same(abi::Operation::splice, IORING_OP_SPLICE);
    same(abi::Operation::provide_buffers, IORING_OP_PROVIDE_BUFFERS);
    same(abi::Operation::remove_buffers, IORING_OP_REMOVE_BUFFERS);
    same(abi::Operation::tee, IORING_OP_TEE);
    same(abi::Operation::shutdown, IORING_OP_SHUTDOWN);
    same(abi::Operation::rename_at, IORING_OP_RENAMEAT);
    same(abi::Operation::unlink_at, IORING_OP_UNLINKAT);
    same(abi::Operation::mkdir_at, IORING_OP_MKDIRAT);
    same(abi::Operation::symlink_at, IORING_OP_SYMLINKAT);
    same(abi::Operation::link_at, IORING_OP_LINKAT);
    same(abi::Operation::message_ring, IORING_OP_MSG_RING);
    same(abi::Operation::fset_xattr, IORING_OP_FSETXATTR);
    same(abi::Operation::set_xattr, IORING_OP_SETXATTR);
    same(abi::Operation::fget_xattr, IORING_OP_FGETXATTR);
    same(abi::Operation::get_xattr, IORING_OP_GETXATTR);
    same(abi::Operation::socket, IORING_OP_SOCKET);
    same(abi::Operation::uring_command, IORING_OP_URING_CMD);
    same(abi::Operation::send_zero_copy, IORING_OP_SEND_ZC);
    same(abi::Operation::send_message_zero_copy, IORING_OP_SENDMSG_ZC);
}

TEST(Abi, ConstantsAreThoseOfTheKernelHeaders) {
    same(abi::entry_fixed_file, IOSQE_FIXED_FILE);
    same(abi::entry_drain, IOSQE_IO_DRAIN);
    same(abi::entry_link, IOSQE_IO_LINK);
    same(abi::entry_hard_link, IOSQE_IO_HARDLINK);
    same(abi::entry_async, IOSQE_ASYNC);
    same(abi::entry_buffer_select, IOSQE_BUFFER_SELECT);
    same(abi::entry_completion_skip_success, IOSQE_CQE_SKIP_SUCCESS);
    same(abi::setup_io_poll, IORING_SETUP_IOPOLL);
    same(abi::setup_submission_poll, IORING_SETUP_SQPOLL);
    same(abi::setup_submission_affinity, IORING_SETUP_SQ_AFF);
    same(abi::setup_completion_size, IORING_SETUP_CQSIZE);
    same(abi::setup_clamp, IORING_SETUP_CLAMP);
    same(abi::setup_attach_work_queue, IORING_SETUP_ATTACH_WQ);
    same(abi::setup_ring_disabled, IORING_SETUP_R_DISABLED);
    same(abi::setup_submit_all, IORING_SETUP_SUBMIT_ALL);
    same(abi::setup_cooperative_taskrun, IORING_SETUP_COOP_TASKRUN);
    same(abi::setup_taskrun_flag, IORING_SETUP_TASKRUN_FLAG);
    same(abi::setup_entry_128, IORING_SETUP_SQE128);
    same(abi::setup_completion_32, IORING_SETUP_CQE32);
    same(abi::setup_single_issuer, IORING_SETUP_SINGLE_ISSUER);
    same(abi::setup_defer_taskrun, IORING_SETUP_DEFER_TASKRUN);
    same(abi::feature_single_mmap, IORING_FEAT_SINGLE_MMAP);
    same(abi::feature_no_drop, IORING_FEAT_NODROP);
    same(abi::feature_submit_stable, IORING_FEAT_SUBMIT_STABLE);
    same(abi::feature_current_position, IORING_FEAT_RW_CUR_POS);
    same(abi::feature_current_personality, IORING_FEAT_CUR_PERSONALITY);
    same(abi::feature_fast_poll, IORING_FEAT_FAST_POLL);
    same(abi::feature_poll_32_bits, IORING_FEAT_POLL_32BITS);
    same(abi::feature_submission_poll_nonfixed, IORING_FEAT_SQPOLL_NONFIXED);
    same(abi::feature_extended_argument, IORING_FEAT_EXT_ARG);
    same(abi::feature_native_workers, IORING_FEAT_NATIVE_WORKERS);
    same(abi::feature_resource_tags, IORING_FEAT_RSRC_TAGS);
    same(abi::feature_completion_skip, IORING_FEAT_CQE_SKIP);
    same(abi::feature_linked_file, IORING_FEAT_LINKED_FILE);
    same(abi::enter_get_events, IORING_ENTER_GETEVENTS);
    same(abi::enter_submission_wakeup, IORING_ENTER_SQ_WAKEUP);
    same(abi::enter_submission_wait, IORING_ENTER_SQ_WAIT);
    same(abi::enter_extended_argument, IORING_ENTER_EXT_ARG);
    same(abi::enter_registered_ring, IORING_ENTER_REGISTERED_RING);
    same(abi::queue_need_wakeup, IORING_SQ_NEED_WAKEUP);
    same(abi::queue_overflow, IORING_SQ_CQ_OVERFLOW);
    same(abi::queue_taskrun, IORING_SQ_TASKRUN);
    same(abi::queue_event_descriptor_disabled, IORING_CQ_EVENTFD_DISABLED);
    same(abi::completion_buffer, IORING_CQE_F_BUFFER);
    same(abi::completion_more, IORING_CQE_F_MORE);
    same(abi::completion_socket_nonempty, IORING_CQE_F_SOCK_NONEMPTY);
    same(abi::completion_notification, IORING_CQE_F_NOTIF);
    same(abi::completion_buffer_shift, IORING_CQE_BUFFER_SHIFT);
    same(abi::offset_submission_ring, IORING_OFF_SQ_RING);
    same(abi::offset_completion_ring, IORING_OFF_CQ_RING);
    same(abi::offset_submission_entries, IORING_OFF_SQES);
    same(abi::receive_poll_first, IORING_RECVSEND_POLL_FIRST);
    same(abi::send_poll_first, IORING_RECVSEND_POLL_FIRST);
    same(abi::receive_multishot, IORING_RECV_MULTISHOT);
    same(abi::send_fixed_buffer, IORING_RECVSEND_FIXED_BUF);
    same(abi::send_zero_copy_report_usage, IORING_SEND_ZC_REPORT_USAGE);
    same(abi::notification_usage_copied, IORING_NOTIF_USAGE_ZC_COPIED);
    same(abi::accept_multishot, IORING_ACCEPT_MULTISHOT);
    same(abi::fsync_datasync, IORING_FSYNC_DATASYNC);
    same(abi::timeout_absolute, IORING_TIMEOUT_ABS);
    same(abi::timeout_update, IORING_TIMEOUT_UPDATE);
    same(abi::timeout_boot_time, IORING_TIMEOUT_BOOTTIME);
    same(abi::timeout_real_time, IORING_TIMEOUT_REALTIME);
    same(abi::link_timeout_update, IORING_LINK_TIMEOUT_UPDATE);
    same(abi::timeout_etime_success, IORING_TIMEOUT_ETIME_SUCCESS);
    same(abi::splice_descriptor_in_fixed, SPLICE_F_FD_IN_FIXED);
    same(abi::poll_add_multishot, IORING_POLL_ADD_MULTI);
    same(abi::poll_update_events, IORING_POLL_UPDATE_EVENTS);
    same(abi::poll_update_user_data, IORING_POLL_UPDATE_USER_DATA);
    same(abi::poll_add_level, IORING_POLL_ADD_LEVEL);
    same(abi::cancel_all, IORING_ASYNC_CANCEL_ALL);
    same(abi::cancel_descriptor, IORING_ASYNC_CANCEL_FD);
    same(abi::cancel_any, IORING_ASYNC_CANCEL_ANY);
    same(abi::cancel_descriptor_fixed, IORING_ASYNC_CANCEL_FD_FIXED);
    same(abi::message_data, IORING_MSG_DATA);
    same(abi::message_send_descriptor, IORING_MSG_SEND_FD);
    same(abi::message_completion_skip, IORING_MSG_RING_CQE_SKIP);
    same(abi::uring_command_fixed, IORING_URING_CMD_FIXED);
    same(abi::file_index_allocate, IORING_FILE_INDEX_ALLOC);
    same(abi::register_buffers, IORING_REGISTER_BUFFERS);
    same(abi::unregister_buffers, IORING_UNREGISTER_BUFFERS);
    same(abi::register_files, IORING_REGISTER_FILES);
    same(abi::unregister_files, IORING_UNREGISTER_FILES);
    same(abi::register_event_descriptor, IORING_REGISTER_EVENTFD);
    same(abi::unregister_event_descriptor, IORING_UNREGISTER_EVENTFD);
    same(abi::register_files_update, IORING_REGISTER_FILES_UPDATE);
    same(abi::register_event_descriptor_async, IORING_REGISTER_EVENTFD_ASYNC);
    same(abi::register_probe, IORING_REGISTER_PROBE);
    same(abi::register_personality, IORING_REGISTER_PERSONALITY);
    same(abi::unregister_personality, IORING_UNREGISTER_PERSONALITY);
    same(abi::register_restrictions, IORING_REGISTER_RESTRICTIONS);
    same(abi::register_enable_rings, IORING_REGISTER_ENABLE_RINGS);
    same(abi::register_files2, IORING_REGISTER_FILES2);
    same(abi::register_files_update2, IORING_REGISTER_FILES_UPDATE2);
    same(abi::register_buffers2, IORING_REGISTER_BUFFERS2);
    same(abi::register_buffers_update, IORING_REGISTER_BUFFERS_UPDATE);
    same(abi::register_worker_affinity, IORING_REGISTER_IOWQ_AFF);
    same(abi::unregister_worker_affinity, IORING_UNREGISTER_IOWQ_AFF);
    same(abi::register_workers_max, IORING_REGISTER_IOWQ_MAX_WORKERS);
    same(abi::register_ring_descriptors, IORING_REGISTER_RING_FDS);
    same(abi::unregister_ring_descriptors, IORING_UNREGISTER_RING_FDS);
    same(abi::register_buffer_ring, IORING_REGISTER_PBUF_RING);
    same(abi::unregister_buffer_ring, IORING_UNREGISTER_PBUF_RING);
    same(abi::register_sync_cancel, IORING_REGISTER_SYNC_CANCEL);
    same(abi::register_file_alloc_range, IORING_REGISTER_FILE_ALLOC_RANGE);
    same(abi::resource_register_sparse, IORING_RSRC_REGISTER_SPARSE);
    same(abi::files_skip, IORING_REGISTER_FILES_SKIP);
    same(abi::probe_operation_supported, IO_URING_OP_SUPPORTED);
}

TEST(Abi, NewerConstantsAreThoseOfTheKernelHeaders) {
#ifdef IORING_SETUP_NO_MMAP
    same(abi::setup_no_mmap, IORING_SETUP_NO_MMAP);
#endif
#ifdef IORING_SETUP_REGISTERED_FD_ONLY
    same(abi::setup_registered_descriptor_only, IORING_SETUP_REGISTERED_FD_ONLY);
#endif
#ifdef IORING_SETUP_NO_SQARRAY
    same(abi::setup_no_submission_array, IORING_SETUP_NO_SQARRAY);
#endif
#ifdef IORING_SETUP_HYBRID_IOPOLL
    same(abi::setup_hybrid_io_poll, IORING_SETUP_HYBRID_IOPOLL);
#endif
#ifdef IORING_SETUP_CQE_MIXED
    same(abi::setup_completion_mixed, IORING_SETUP_CQE_MIXED);
#endif
#ifdef IORING_FEAT_REG_REG_RING
    same(abi::feature_registered_register_ring, IORING_FEAT_REG_REG_RING);
#endif
#ifdef IORING_FEAT_RECVSEND_BUNDLE
    same(abi::feature_bundle, IORING_FEAT_RECVSEND_BUNDLE);
#endif
#ifdef IORING_FEAT_MIN_TIMEOUT
    same(abi::feature_min_timeout, IORING_FEAT_MIN_TIMEOUT);
#endif
#ifdef IORING_FEAT_RW_ATTR
    same(abi::feature_read_write_attributes, IORING_FEAT_RW_ATTR);
#endif
#ifdef IORING_FEAT_NO_IOWAIT
    same(abi::feature_no_iowait, IORING_FEAT_NO_IOWAIT);
#endif
#ifdef IORING_ENTER_ABS_TIMER
    same(abi::enter_absolute_timer, IORING_ENTER_ABS_TIMER);
#endif
#ifdef IORING_ENTER_EXT_ARG_REG
    same(abi::enter_registered_argument, IORING_ENTER_EXT_ARG_REG);
#endif
#ifdef IORING_ENTER_NO_IOWAIT
    same(abi::enter_no_iowait, IORING_ENTER_NO_IOWAIT);
#endif
#ifdef IORING_CQE_F_BUF_MORE
    same(abi::completion_buffer_more, IORING_CQE_F_BUF_MORE);
#endif
#ifdef IORING_CQE_F_SKIP
    same(abi::completion_skip, IORING_CQE_F_SKIP);
#endif
#ifdef IORING_CQE_F_32
    same(abi::completion_32, IORING_CQE_F_32);
#endif
#ifdef IORING_OFF_PBUF_RING
    same(abi::offset_buffer_ring, IORING_OFF_PBUF_RING);
#endif
#ifdef IORING_RECVSEND_BUNDLE
    same(abi::receive_bundle, IORING_RECVSEND_BUNDLE);
#endif
#ifdef IORING_RECVSEND_BUNDLE
    same(abi::send_bundle, IORING_RECVSEND_BUNDLE);
#endif
#ifdef IORING_SEND_VECTORIZED
    same(abi::send_vectorized, IORING_SEND_VECTORIZED);
#endif
#ifdef IORING_ACCEPT_DONTWAIT
    same(abi::accept_dont_wait, IORING_ACCEPT_DONTWAIT);
#endif
#ifdef IORING_ACCEPT_POLL_FIRST
    same(abi::accept_poll_first, IORING_ACCEPT_POLL_FIRST);
#endif
#ifdef IORING_TIMEOUT_MULTISHOT
    same(abi::timeout_multishot, IORING_TIMEOUT_MULTISHOT);
#endif
#ifdef IORING_ASYNC_CANCEL_USERDATA
    same(abi::cancel_user_data, IORING_ASYNC_CANCEL_USERDATA);
#endif
#ifdef IORING_ASYNC_CANCEL_OP
    same(abi::cancel_operation, IORING_ASYNC_CANCEL_OP);
#endif
#ifdef IORING_MSG_RING_FLAGS_PASS
    same(abi::message_flags_pass, IORING_MSG_RING_FLAGS_PASS);
#endif
#ifdef IORING_FIXED_FD_NO_CLOEXEC
    same(abi::install_no_close_on_exec, IORING_FIXED_FD_NO_CLOEXEC);
#endif
#ifdef IORING_NOP_INJECT_RESULT
    same(abi::nop_inject_result, IORING_NOP_INJECT_RESULT);
#endif
}

TEST(Abi, NewerEnumeratorsAreThoseOfTheKernelHeaders) {
#ifdef IORING_SETUP_CQE_MIXED  // headers of Linux 6.18 or newer
    static_assert(sizeof(abi::BufferRingStatus) == sizeof(io_uring_buf_status));
    static_assert(offsetof(abi::BufferRingStatus, head) == offsetof(io_uring_buf_status, head));
    static_assert(sizeof(abi::NapiRegistration) == sizeof(io_uring_napi));
    static_assert(offsetof(abi::NapiRegistration, prefer_busy_poll) == offsetof(io_uring_napi, prefer_busy_poll));
    static_assert(offsetof(abi::NapiRegistration, opcode) == offsetof(io_uring_napi, opcode));
    static_assert(offsetof(abi::NapiRegistration, op_param) == offsetof(io_uring_napi, op_param));
    static_assert(offsetof(abi::GetEventsArgument, min_wait_usec) == offsetof(io_uring_getevents_arg, min_wait_usec));
    static_assert(offsetof(abi::BufferRingRegistration, flags) == offsetof(io_uring_buf_reg, flags));
    static_assert(offsetof(abi::SubmissionEntry, socket_option) == offsetof(io_uring_sqe, level));
    static_assert(offsetof(abi::SubmissionEntry, optlen) == offsetof(io_uring_sqe, optlen));
    static_assert(offsetof(abi::SubmissionEntry, optval) == offsetof(io_uring_sqe, optval));
    static_assert(offsetof(abi::SyncCancelRegistration, opcode) == offsetof(io_uring_sync_cancel_reg, opcode));
    same(abi::futex_size_32, FUTEX2_SIZE_U32);
    same(abi::futex_private, FUTEX2_PRIVATE);
    same(abi::Operation::read_multishot, IORING_OP_READ_MULTISHOT);
    same(abi::Operation::wait_id, IORING_OP_WAITID);
    same(abi::Operation::futex_wait, IORING_OP_FUTEX_WAIT);
    same(abi::Operation::futex_wake, IORING_OP_FUTEX_WAKE);
    same(abi::Operation::futex_wait_vector, IORING_OP_FUTEX_WAITV);
    same(abi::Operation::fixed_descriptor_install, IORING_OP_FIXED_FD_INSTALL);
    same(abi::Operation::ftruncate, IORING_OP_FTRUNCATE);
    same(abi::Operation::bind, IORING_OP_BIND);
    same(abi::Operation::listen, IORING_OP_LISTEN);
    same(abi::Operation::receive_zero_copy, IORING_OP_RECV_ZC);
    same(abi::Operation::epoll_wait, IORING_OP_EPOLL_WAIT);
    same(abi::Operation::readv_fixed, IORING_OP_READV_FIXED);
    same(abi::Operation::writev_fixed, IORING_OP_WRITEV_FIXED);
    same(abi::Operation::pipe, IORING_OP_PIPE);
    same(abi::socket_bytes_unread, SOCKET_URING_OP_SIOCINQ);
    same(abi::socket_bytes_unsent, SOCKET_URING_OP_SIOCOUTQ);
    same(abi::socket_get_option, SOCKET_URING_OP_GETSOCKOPT);
    same(abi::socket_set_option, SOCKET_URING_OP_SETSOCKOPT);
    same(abi::socket_send_timestamp, SOCKET_URING_OP_TX_TIMESTAMP);
    same(abi::buffer_ring_mmap, IOU_PBUF_RING_MMAP);
    same(abi::buffer_ring_incremental, IOU_PBUF_RING_INC);
    same(abi::register_buffer_ring_status, IORING_REGISTER_PBUF_STATUS);
    same(abi::register_napi, IORING_REGISTER_NAPI);
    same(abi::unregister_napi, IORING_UNREGISTER_NAPI);
    same(abi::register_clock, IORING_REGISTER_CLOCK);
    same(abi::register_clone_buffers, IORING_REGISTER_CLONE_BUFFERS);
    same(abi::register_send_message_ring, IORING_REGISTER_SEND_MSG_RING);
    same(abi::register_zero_copy_receive_queue, IORING_REGISTER_ZCRX_IFQ);
    same(abi::register_resize_rings, IORING_REGISTER_RESIZE_RINGS);
    same(abi::register_memory_region, IORING_REGISTER_MEM_REGION);
    same(abi::register_query, IORING_REGISTER_QUERY);
#else
    GTEST_SKIP() << "the kernel headers of this machine are older than Linux 6.18";
#endif
}

TEST(Abi, OperationsAreNumberedWithoutGaps) {
    EXPECT_EQ(abi::operation_count, static_cast<std::uint32_t>(abi::Operation::pipe) + 1);
}

}  // namespace
}  // namespace ferrule
