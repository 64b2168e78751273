#include "sim/features.hpp"

#include <array>

namespace ferrule::inline v0::sim {

namespace {

// The simulated kernel has no polled I/O and no queue memory of the user's: as if they were not compiled in.
constexpr std::uint32_t setup_6_1 = abi::setup_submission_poll | abi::setup_submission_affinity |
                                    abi::setup_completion_size | abi::setup_clamp | abi::setup_attach_work_queue |
                                    abi::setup_ring_disabled | abi::setup_submit_all | abi::setup_cooperative_taskrun |
                                    abi::setup_taskrun_flag | abi::setup_single_issuer | abi::setup_defer_taskrun;
constexpr std::uint32_t setup_6_6 = setup_6_1 | abi::setup_no_submission_array;
constexpr std::uint32_t enter_6_1 = abi::enter_get_events | abi::enter_submission_wakeup | abi::enter_submission_wait |
                                    abi::enter_extended_argument | abi::enter_registered_ring;
constexpr std::uint32_t cancel_6_1 =
    abi::cancel_all | abi::cancel_descriptor | abi::cancel_any | abi::cancel_descriptor_fixed;
constexpr std::uint32_t cancel_6_6 = cancel_6_1 | abi::cancel_user_data | abi::cancel_operation;
constexpr std::uint32_t timeout_6_1 =
    abi::timeout_absolute | abi::timeout_boot_time | abi::timeout_real_time | abi::timeout_etime_success;
constexpr std::uint32_t timeout_6_6 = timeout_6_1 | abi::timeout_multishot;
constexpr std::uint32_t messages_6_1 = abi::message_completion_skip;
constexpr std::uint32_t messages_6_6 = messages_6_1 | abi::message_flags_pass;
constexpr std::uint16_t accept_6_10 = abi::accept_multishot | abi::accept_dont_wait | abi::accept_poll_first;
constexpr std::uint16_t receive_6_1 = abi::receive_poll_first | abi::receive_multishot;
constexpr std::uint32_t multishot_rounds_max = 32;

constexpr std::array<Features, 4> profiles = {{
    {
        .features = 0x1fff,
        .setup_flags = setup_6_1,
        .enter_flags = enter_6_1,
        .last_operation = static_cast<std::uint8_t>(abi::Operation::send_message_zero_copy),
        .last_registration = abi::register_file_alloc_range,
        .cancel_flags = cancel_6_1,
        .timeout_flags = timeout_6_1,
        .message_flags = messages_6_1,
        .accept_flags = abi::accept_multishot,
        .receive_flags = receive_6_1,
        .buffer_ring_flags = 0,
        .nop_flags = false,
        .socket_commands = false,
        .connects_again = false,
        .multishot_length = false,
        .messages_are_work = false,
        .cancelled_links_are_work = false,
        .work_in_rounds = false,
        .multishot_rounds = 0,
        .trusts_emptiness = false,
        .multishot_keeps_order = false,
        .keeps_low_group_heads = true,
        .charges_locked_memory = false,
    },
    {
        .features = 0x3fff,
        .setup_flags = setup_6_6,
        .enter_flags = enter_6_1,
        .last_operation = static_cast<std::uint8_t>(abi::Operation::send_message_zero_copy),
        .last_registration = abi::register_file_alloc_range,
        .cancel_flags = cancel_6_6,
        .timeout_flags = timeout_6_6,
        .message_flags = messages_6_6,
        .accept_flags = abi::accept_multishot,
        .receive_flags = receive_6_1,
        .buffer_ring_flags = 0,
        .nop_flags = false,
        .socket_commands = false,
        .connects_again = false,
        .multishot_length = false,
        .messages_are_work = true,
        .cancelled_links_are_work = true,
        .work_in_rounds = false,
        .multishot_rounds = 0,
        .trusts_emptiness = true,
        .multishot_keeps_order = false,
        .keeps_low_group_heads = true,
        .charges_locked_memory = false,
    },
    {
        .features = 0xffff,
        .setup_flags = setup_6_6,
        .enter_flags = enter_6_1 | abi::enter_absolute_timer,
        .last_operation = static_cast<std::uint8_t>(abi::Operation::listen),
        .last_registration = abi::register_clone_buffers,
        .cancel_flags = cancel_6_6,
        .timeout_flags = timeout_6_6,
        .message_flags = messages_6_6,
        .accept_flags = accept_6_10,
        .receive_flags = receive_6_1,
        .buffer_ring_flags = abi::buffer_ring_incremental,
        .nop_flags = true,
        .socket_commands = true,
        .connects_again = true,
        .multishot_length = false,
        .messages_are_work = true,
        .cancelled_links_are_work = true,
        .work_in_rounds = true,
        .multishot_rounds = multishot_rounds_max,
        .trusts_emptiness = true,
        .multishot_keeps_order = true,
        .keeps_low_group_heads = false,
        .charges_locked_memory = false,
    },
    {
        .features = 0x3ffff,
        .setup_flags = setup_6_6,
        .enter_flags = enter_6_1 | abi::enter_absolute_timer | abi::enter_no_iowait,
        .last_operation = static_cast<std::uint8_t>(abi::Operation::pipe),
        .last_registration = abi::register_query,
        .cancel_flags = cancel_6_6,
        .timeout_flags = timeout_6_6,
        .message_flags = messages_6_6,
        .accept_flags = accept_6_10,
        .receive_flags = receive_6_1,
        .buffer_ring_flags = abi::buffer_ring_incremental,
        .nop_flags = true,
        .socket_commands = true,
        .connects_again = true,
        .multishot_length = true,
        .messages_are_work = true,
        .cancelled_links_are_work = true,
        .work_in_rounds = true,
        .multishot_rounds = multishot_rounds_max,
        .trusts_emptiness = true,
        .multishot_keeps_order = true,
        .keeps_low_group_heads = false,
        .charges_locked_memory = true,
    },
}};

}  // namespace

const Features& features_of(Profile profile) noexcept {
    return profiles[static_cast<std::size_t>(profile)];
}

}  // namespace ferrule::inline v0::sim
