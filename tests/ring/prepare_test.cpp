// The 64 bytes of every prepared entry against a literal layout: numbers of operations and of fields, not names of the
// library's own ABI, so that a wrong field there cannot hide. Layouts: <linux/io_uring.h> and liburing's manual pages
// io_uring_prep_*(3).

#include <ferrule/ring/prepare.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <linux/io_uring.h>

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

namespace ferrule {
namespace {

struct Field {
    std::size_t offset;
    std::size_t width;
};

constexpr Field opcode{offsetof(io_uring_sqe, opcode), 1};
constexpr Field flags{offsetof(io_uring_sqe, flags), 1};
constexpr Field ioprio{offsetof(io_uring_sqe, ioprio), 2};
constexpr Field fd{offsetof(io_uring_sqe, fd), 4};
constexpr Field off{offsetof(io_uring_sqe, off), 8};
constexpr Field cmd_op{offsetof(io_uring_sqe, cmd_op), 4};
constexpr Field addr{offsetof(io_uring_sqe, addr), 8};
constexpr Field level{16, 4};
constexpr Field optname{20, 4};
constexpr Field len{offsetof(io_uring_sqe, len), 4};
constexpr Field op_flags{offsetof(io_uring_sqe, rw_flags), 4};
constexpr Field user_data{offsetof(io_uring_sqe, user_data), 8};
constexpr Field buf_index{offsetof(io_uring_sqe, buf_index), 2};
constexpr Field personality{offsetof(io_uring_sqe, personality), 2};
constexpr Field file_index{offsetof(io_uring_sqe, file_index), 4};
constexpr Field addr_len{offsetof(io_uring_sqe, addr_len), 2};
constexpr Field addr3{offsetof(io_uring_sqe, addr3), 8};

struct Value {
    Field field;
    std::uint64_t value;
};

using Bytes = std::array<unsigned char, 64>;

Bytes layout(const std::vector<Value>& values) {
    Bytes bytes{};
    for (const Value& value : values) {
        for (std::size_t index = 0; index != value.field.width; ++index) {
            // Tests run on little-endian machines only; poll_mask is tested apart.
            bytes[value.field.offset + index] = static_cast<unsigned char>(value.value >> (8 * index));
        }
    }
    return bytes;
}

struct Case {
    const char* name;
    void (*fill)(abi::SubmissionEntry&);
    std::vector<Value> expected;
};

// Addresses that nobody reads.
template <class Pointer>
Pointer at(std::uintptr_t address) {
    return reinterpret_cast<Pointer>(address);
}

constexpr std::uint64_t minus_one = 0xffff'ffff;
constexpr std::uint64_t A = 0x1111'2222'3333'4440;
constexpr std::uint64_t B = 0x5555'6666'7777'8880;
constexpr std::uint64_t offset = 0x0102'0304'0506'0708;

using E = abi::SubmissionEntry;

// clang-format off
const std::vector<Case> cases = {
    {"nop", [](E& e) { prepare::nop(e); }, {{opcode, 0}, {fd, minus_one}}},
    {"readv", [](E& e) { prepare::readv(e, 5, at<iovec*>(A), 3, offset, 8); },
     {{opcode, 1}, {fd, 5}, {addr, A}, {len, 3}, {off, offset}, {op_flags, 8}}},
    {"writev", [](E& e) { prepare::writev(e, 5, at<iovec*>(A), 3, offset, 8); },
     {{opcode, 2}, {fd, 5}, {addr, A}, {len, 3}, {off, offset}, {op_flags, 8}}},
    {"fsync", [](E& e) { prepare::fsync(e, 5, 1); }, {{opcode, 3}, {fd, 5}, {op_flags, 1}}},
    {"read_fixed", [](E& e) { prepare::read_fixed(e, 5, at<void*>(A), 77, offset, 9); },
     {{opcode, 4}, {fd, 5}, {addr, A}, {len, 77}, {off, offset}, {buf_index, 9}}},
    {"write_fixed", [](E& e) { prepare::write_fixed(e, 5, at<void*>(A), 77, offset, 9); },
     {{opcode, 5}, {fd, 5}, {addr, A}, {len, 77}, {off, offset}, {buf_index, 9}}},
    {"poll_add", [](E& e) { prepare::poll_add(e, 5, 0x2001); }, {{opcode, 6}, {fd, 5}, {op_flags, 0x2001}}},
    {"poll_add_multishot", [](E& e) { prepare::poll_add_multishot(e, 5, 0x2001); },
     {{opcode, 6}, {fd, 5}, {op_flags, 0x2001}, {len, 1}}},
    {"poll_remove", [](E& e) { prepare::poll_remove(e, A); }, {{opcode, 7}, {fd, minus_one}, {addr, A}}},
    {"poll_update", [](E& e) { prepare::poll_update(e, A, B, 4, 6); },
     {{opcode, 7}, {fd, minus_one}, {addr, A}, {off, B}, {len, 6}, {op_flags, 4}}},
    {"sync_file_range", [](E& e) { prepare::sync_file_range(e, 5, 77, offset, 4); },
     {{opcode, 8}, {fd, 5}, {len, 77}, {off, offset}, {op_flags, 4}}},
    {"send_message", [](E& e) { prepare::send_message(e, 5, at<msghdr*>(A), 0x4000); },
     {{opcode, 9}, {fd, 5}, {addr, A}, {len, 1}, {op_flags, 0x4000}}},
    {"receive_message", [](E& e) { prepare::receive_message(e, 5, at<msghdr*>(A), 0x40); },
     {{opcode, 10}, {fd, 5}, {addr, A}, {len, 1}, {op_flags, 0x40}}},
    {"receive_message_multishot", [](E& e) { prepare::receive_message_multishot(e, 5, at<msghdr*>(A), 70, 0x40); },
     {{opcode, 10}, {flags, 32}, {ioprio, 2}, {fd, 5}, {addr, A}, {len, 1}, {op_flags, 0x40}, {buf_index, 70}}},
    {"timeout", [](E& e) { prepare::timeout(e, at<abi::Timespec*>(A), 3, 1); },
     {{opcode, 11}, {fd, minus_one}, {addr, A}, {len, 1}, {off, 3}, {op_flags, 1}}},
    {"timeout_remove", [](E& e) { prepare::timeout_remove(e, A, 0); }, {{opcode, 12}, {fd, minus_one}, {addr, A}}},
    {"timeout_update", [](E& e) { prepare::timeout_update(e, at<abi::Timespec*>(B), A, 1); },
     {{opcode, 12}, {fd, minus_one}, {addr, A}, {off, B}, {op_flags, 3}}},
    {"accept", [](E& e) { prepare::accept(e, 5, at<sockaddr*>(A), at<socklen_t*>(B), 0x80000); },
     {{opcode, 13}, {fd, 5}, {addr, A}, {off, B}, {op_flags, 0x80000}}},
    {"accept_multishot", [](E& e) { prepare::accept_multishot(e, 5, at<sockaddr*>(A), at<socklen_t*>(B), 0x80000); },
     {{opcode, 13}, {ioprio, 1}, {fd, 5}, {addr, A}, {off, B}, {op_flags, 0x80000}}},
    {"accept_direct", [](E& e) { prepare::accept_direct(e, 5, nullptr, nullptr, 0, 6); },
     {{opcode, 13}, {fd, 5}, {file_index, 7}}},
    {"accept_direct_allocate", [](E& e) { prepare::accept_direct(e, 5, nullptr, nullptr, 0, abi::file_index_allocate); },
     {{opcode, 13}, {fd, 5}, {file_index, minus_one}}},
    {"accept_multishot_direct", [](E& e) { prepare::accept_multishot_direct(e, 5, nullptr, nullptr, 0); },
     {{opcode, 13}, {ioprio, 1}, {fd, 5}, {file_index, minus_one}}},
    {"cancel", [](E& e) { prepare::cancel(e, A, 1); }, {{opcode, 14}, {fd, minus_one}, {addr, A}, {op_flags, 1}}},
    {"cancel_fd", [](E& e) { prepare::cancel_fd(e, 5, 1); }, {{opcode, 14}, {fd, 5}, {op_flags, 3}}},
    {"link_timeout", [](E& e) { prepare::link_timeout(e, at<abi::Timespec*>(A), 1); },
     {{opcode, 15}, {fd, minus_one}, {addr, A}, {len, 1}, {op_flags, 1}}},
    {"connect", [](E& e) { prepare::connect(e, 5, at<sockaddr*>(A), 28); }, {{opcode, 16}, {fd, 5}, {addr, A}, {off, 28}}},
    {"fallocate", [](E& e) { prepare::fallocate(e, 5, 3, offset, A); },
     {{opcode, 17}, {fd, 5}, {addr, A}, {len, 3}, {off, offset}}},
    {"open_at", [](E& e) { prepare::open_at(e, AT_FDCWD, at<char*>(A), 0x80002, 0644); },
     {{opcode, 18}, {fd, 0xffff'ff9c}, {addr, A}, {len, 0644}, {op_flags, 0x80002}}},
    {"open_at_direct", [](E& e) { prepare::open_at_direct(e, 3, at<char*>(A), 2, 0644, 6); },
     {{opcode, 18}, {fd, 3}, {addr, A}, {len, 0644}, {op_flags, 2}, {file_index, 7}}},
    {"close", [](E& e) { prepare::close(e, 5); }, {{opcode, 19}, {fd, 5}}},
    {"close_direct", [](E& e) { prepare::close_direct(e, 6); }, {{opcode, 19}, {file_index, 7}}},
    {"files_update", [](E& e) { prepare::files_update(e, at<int*>(A), 3, 4); },
     {{opcode, 20}, {fd, minus_one}, {addr, A}, {len, 3}, {off, 4}}},
    {"statx", [](E& e) { prepare::statx(e, 3, at<char*>(A), 0x100, 0x7ff, at<struct statx*>(B)); },
     {{opcode, 21}, {fd, 3}, {addr, A}, {len, 0x7ff}, {off, B}, {op_flags, 0x100}}},
    {"read", [](E& e) { prepare::read(e, 5, at<void*>(A), 77, offset); },
     {{opcode, 22}, {fd, 5}, {addr, A}, {len, 77}, {off, offset}}},
    {"read_select", [](E& e) { prepare::read_select(e, 5, 70, 77, offset); },
     {{opcode, 22}, {flags, 32}, {fd, 5}, {len, 77}, {off, offset}, {buf_index, 70}}},
    {"write", [](E& e) { prepare::write(e, 5, at<void*>(A), 77, offset); },
     {{opcode, 23}, {fd, 5}, {addr, A}, {len, 77}, {off, offset}}},
    {"fadvise", [](E& e) { prepare::fadvise(e, 5, offset, 77, 3); },
     {{opcode, 24}, {fd, 5}, {len, 77}, {off, offset}, {op_flags, 3}}},
    {"madvise", [](E& e) { prepare::madvise(e, at<void*>(A), 77, 4); },
     {{opcode, 25}, {fd, minus_one}, {addr, A}, {len, 77}, {op_flags, 4}}},
    {"send", [](E& e) { prepare::send(e, 5, at<void*>(A), 77, 0x4000); },
     {{opcode, 26}, {fd, 5}, {addr, A}, {len, 77}, {op_flags, 0x4000}}},
    {"send_to", [](E& e) { prepare::send_to(e, 5, at<void*>(A), 77, 0x4000, at<sockaddr*>(B), 28); },
     {{opcode, 26}, {fd, 5}, {addr, A}, {len, 77}, {off, B}, {op_flags, 0x4000}, {addr_len, 28}}},
    {"send_bundle", [](E& e) { prepare::send_bundle(e, 5, 70, 77, 0x4000); },
     {{opcode, 26}, {flags, 32}, {ioprio, 16}, {fd, 5}, {len, 77}, {op_flags, 0x4000}, {buf_index, 70}}},
    {"receive", [](E& e) { prepare::receive(e, 5, at<void*>(A), 77, 0x40); },
     {{opcode, 27}, {fd, 5}, {addr, A}, {len, 77}, {op_flags, 0x40}}},
    {"receive_select", [](E& e) { prepare::receive_select(e, 5, 70, 77, 0x40); },
     {{opcode, 27}, {flags, 32}, {fd, 5}, {len, 77}, {op_flags, 0x40}, {buf_index, 70}}},
    {"receive_multishot", [](E& e) { prepare::receive_multishot(e, 5, 70, 0x40); },
     {{opcode, 27}, {flags, 32}, {ioprio, 2}, {fd, 5}, {op_flags, 0x40}, {buf_index, 70}}},
    {"receive_bundle", [](E& e) { prepare::receive_bundle(e, 5, 70, 0x40); },
     {{opcode, 27}, {flags, 32}, {ioprio, 16}, {fd, 5}, {op_flags, 0x40}, {buf_index, 70}}},
    {"open_at2", [](E& e) { prepare::open_at2(e, 3, at<char*>(A), at<open_how*>(B), 24); },
     {{opcode, 28}, {fd, 3}, {addr, A}, {len, 24}, {off, B}}},
    {"open_at2_direct", [](E& e) { prepare::open_at2_direct(e, 3, at<char*>(A), at<open_how*>(B), 24, 6); },
     {{opcode, 28}, {fd, 3}, {addr, A}, {len, 24}, {off, B}, {file_index, 7}}},
    {"epoll_ctl", [](E& e) { prepare::epoll_ctl(e, 4, 5, 1, at<epoll_event*>(A)); },
     {{opcode, 29}, {fd, 4}, {addr, A}, {len, 1}, {off, 5}}},
    {"splice", [](E& e) { prepare::splice(e, 5, A, 6, offset, 77, 0x8000'0001); },
     {{opcode, 30}, {fd, 6}, {addr, A}, {len, 77}, {off, offset}, {op_flags, 0x8000'0001}, {file_index, 5}}},
    {"provide_buffers", [](E& e) { prepare::provide_buffers(e, at<void*>(A), 4096, 8, 70, 3); },
     {{opcode, 31}, {fd, 8}, {addr, A}, {len, 4096}, {off, 3}, {buf_index, 70}}},
    {"remove_buffers", [](E& e) { prepare::remove_buffers(e, 8, 70); }, {{opcode, 32}, {fd, 8}, {buf_index, 70}}},
    {"tee", [](E& e) { prepare::tee(e, 5, 6, 77, 2); }, {{opcode, 33}, {fd, 6}, {len, 77}, {op_flags, 2}, {file_index, 5}}},
    {"shutdown", [](E& e) { prepare::shutdown(e, 5, 1); }, {{opcode, 34}, {fd, 5}, {len, 1}}},
    {"rename_at", [](E& e) { prepare::rename_at(e, 3, at<char*>(A), 4, at<char*>(B), 1); },
     {{opcode, 35}, {fd, 3}, {addr, A}, {len, 4}, {off, B}, {op_flags, 1}}},
    {"unlink_at", [](E& e) { prepare::unlink_at(e, 3, at<char*>(A), 0x200); },
     {{opcode, 36}, {fd, 3}, {addr, A}, {op_flags, 0x200}}},
    {"mkdir_at", [](E& e) { prepare::mkdir_at(e, 3, at<char*>(A), 0755); }, {{opcode, 37}, {fd, 3}, {addr, A}, {len, 0755}}},
    {"symlink_at", [](E& e) { prepare::symlink_at(e, at<char*>(A), 3, at<char*>(B)); },
     {{opcode, 38}, {fd, 3}, {addr, A}, {off, B}}},
    {"link_at", [](E& e) { prepare::link_at(e, 3, at<char*>(A), 4, at<char*>(B), 0x400); },
     {{opcode, 39}, {fd, 3}, {addr, A}, {len, 4}, {off, B}, {op_flags, 0x400}}},
    {"message_ring", [](E& e) { prepare::message_ring(e, 5, 77, A, 0); }, {{opcode, 40}, {fd, 5}, {len, 77}, {off, A}}},
    {"message_ring_flags", [](E& e) { prepare::message_ring_flags(e, 5, 77, A, 0, 0x30000); },
     {{opcode, 40}, {fd, 5}, {len, 77}, {off, A}, {op_flags, 2}, {file_index, 0x30000}}},
    {"message_ring_fd", [](E& e) { prepare::message_ring_fd(e, 5, 3, 6, A, 1); },
     {{opcode, 40}, {fd, 5}, {addr, 1}, {off, A}, {op_flags, 1}, {file_index, 7}, {addr3, 3}}},
    {"message_ring_fd_allocate", [](E& e) { prepare::message_ring_fd(e, 5, 3, abi::file_index_allocate, A, 0); },
     {{opcode, 40}, {fd, 5}, {addr, 1}, {off, A}, {file_index, minus_one}, {addr3, 3}}},
    {"fset_xattr", [](E& e) { prepare::fset_xattr(e, 5, at<char*>(A), at<void*>(B), 1, 77); },
     {{opcode, 41}, {fd, 5}, {addr, A}, {len, 77}, {off, B}, {op_flags, 1}}},
    {"set_xattr", [](E& e) { prepare::set_xattr(e, at<char*>(A), at<void*>(B), at<char*>(offset), 1, 77); },
     {{opcode, 42}, {addr, A}, {len, 77}, {off, B}, {op_flags, 1}, {addr3, offset}}},
    {"fget_xattr", [](E& e) { prepare::fget_xattr(e, 5, at<char*>(A), at<void*>(B), 77); },
     {{opcode, 43}, {fd, 5}, {addr, A}, {len, 77}, {off, B}}},
    {"get_xattr", [](E& e) { prepare::get_xattr(e, at<char*>(A), at<void*>(B), at<char*>(offset), 77); },
     {{opcode, 44}, {addr, A}, {len, 77}, {off, B}, {addr3, offset}}},
    {"socket", [](E& e) { prepare::socket(e, 10, 0x80001, 6, 0); }, {{opcode, 45}, {fd, 10}, {len, 6}, {off, 0x80001}}},
    {"socket_direct", [](E& e) { prepare::socket_direct(e, 10, 1, 6, 5, 0); },
     {{opcode, 45}, {fd, 10}, {len, 6}, {off, 1}, {file_index, 6}}},
    {"uring_command", [](E& e) { prepare::uring_command(e, 5, 0x1234, 1); },
     {{opcode, 46}, {fd, 5}, {cmd_op, 0x1234}, {op_flags, 1}}},
    {"socket_bytes_unread", [](E& e) { prepare::socket_bytes_unread(e, 5); }, {{opcode, 46}, {fd, 5}, {cmd_op, 0}}},
    {"socket_bytes_unsent", [](E& e) { prepare::socket_bytes_unsent(e, 5); }, {{opcode, 46}, {fd, 5}, {cmd_op, 1}}},
    {"socket_get_option", [](E& e) { prepare::socket_get_option(e, 5, 1, 3, at<void*>(A), 4); },
     {{opcode, 46}, {fd, 5}, {cmd_op, 2}, {level, 1}, {optname, 3}, {file_index, 4}, {addr3, A}}},
    {"socket_set_option", [](E& e) { prepare::socket_set_option(e, 5, 6, 1, at<void*>(A), 4); },
     {{opcode, 46}, {fd, 5}, {cmd_op, 3}, {level, 6}, {optname, 1}, {file_index, 4}, {addr3, A}}},
    {"send_zero_copy", [](E& e) { prepare::send_zero_copy(e, 5, at<void*>(A), 77, 0x4000, 8); },
     {{opcode, 47}, {ioprio, 8}, {fd, 5}, {addr, A}, {len, 77}, {op_flags, 0x4000}}},
    {"send_zero_copy_fixed", [](E& e) { prepare::send_zero_copy_fixed(e, 5, at<void*>(A), 77, 0x4000, 8, 9); },
     {{opcode, 47}, {ioprio, 12}, {fd, 5}, {addr, A}, {len, 77}, {op_flags, 0x4000}, {buf_index, 9}}},
    {"send_message_zero_copy", [](E& e) { prepare::send_message_zero_copy(e, 5, at<msghdr*>(A), 0x4000); },
     {{opcode, 48}, {fd, 5}, {addr, A}, {len, 1}, {op_flags, 0x4000}}},
    {"read_multishot", [](E& e) { prepare::read_multishot(e, 5, 70, 0, offset); },
     {{opcode, 49}, {flags, 32}, {fd, 5}, {off, offset}, {buf_index, 70}}},
    {"wait_id", [](E& e) { prepare::wait_id(e, 1, 4321, at<void*>(A), 4, 0); },
     {{opcode, 50}, {fd, 4321}, {len, 1}, {off, A}, {file_index, 4}}},
    {"futex_wait", [](E& e) { prepare::futex_wait(e, at<std::uint32_t*>(A), 7, minus_one, 130); },
     {{opcode, 51}, {fd, 130}, {addr, A}, {off, 7}, {addr3, minus_one}}},
    {"futex_wake", [](E& e) { prepare::futex_wake(e, at<std::uint32_t*>(A), 2, minus_one, 130); },
     {{opcode, 52}, {fd, 130}, {addr, A}, {off, 2}, {addr3, minus_one}}},
    {"futex_wait_vector", [](E& e) { prepare::futex_wait_vector(e, at<abi::FutexWaitEntry*>(A), 3); },
     {{opcode, 53}, {addr, A}, {len, 3}}},
    {"fixed_fd_install", [](E& e) { prepare::fixed_fd_install(e, 6, 1); },
     {{opcode, 54}, {flags, 1}, {fd, 6}, {op_flags, 1}}},
    {"ftruncate", [](E& e) { prepare::ftruncate(e, 5, A); }, {{opcode, 55}, {fd, 5}, {off, A}}},
    {"bind", [](E& e) { prepare::bind(e, 5, at<sockaddr*>(A), 28); }, {{opcode, 56}, {fd, 5}, {addr, A}, {off, 28}}},
    {"listen", [](E& e) { prepare::listen(e, 5, 128); }, {{opcode, 57}, {fd, 5}, {len, 128}}},
    {"epoll_wait", [](E& e) { prepare::epoll_wait(e, 5, at<epoll_event*>(A), 16); },
     {{opcode, 59}, {fd, 5}, {addr, A}, {len, 16}}},
    {"readv_fixed", [](E& e) { prepare::readv_fixed(e, 5, at<iovec*>(A), 3, offset, 8, 9); },
     {{opcode, 60}, {fd, 5}, {addr, A}, {len, 3}, {off, offset}, {op_flags, 8}, {buf_index, 9}}},
    {"writev_fixed", [](E& e) { prepare::writev_fixed(e, 5, at<iovec*>(A), 3, offset, 8, 9); },
     {{opcode, 61}, {fd, 5}, {addr, A}, {len, 3}, {off, offset}, {op_flags, 8}, {buf_index, 9}}},
    {"pipe", [](E& e) { prepare::pipe(e, at<int*>(A), 0x80000); }, {{opcode, 62}, {addr, A}, {op_flags, 0x80000}}},
    {"pipe_direct", [](E& e) { prepare::pipe_direct(e, at<int*>(A), 0, 6); }, {{opcode, 62}, {addr, A}, {file_index, 7}}},
};
// clang-format on

Bytes bytes_of(const abi::SubmissionEntry& entry) {
    Bytes bytes;
    std::memcpy(bytes.data(), &entry, bytes.size());
    return bytes;
}

std::ostream& operator<<(std::ostream& stream, const Case& tested) {
    return stream << tested.name;
}

class Prepare : public testing::TestWithParam<Case> {};

TEST_P(Prepare, SetsExactlyTheBytesOfItsOperation) {
    abi::SubmissionEntry entry{};
    GetParam().fill(entry);
    const Bytes actual = bytes_of(entry);
    const Bytes expected = layout(GetParam().expected);
    for (std::size_t index = 0; index != actual.size(); ++index) {
        EXPECT_EQ(static_cast<int>(actual[index]), static_cast<int>(expected[index])) << "byte " << index;
    }
}

INSTANTIATE_TEST_SUITE_P(Operations, Prepare, testing::ValuesIn(cases),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(PrepareOptions, CallersFieldsAreTheirOwnBytes) {
    abi::SubmissionEntry entry{};
    prepare::nop(entry);
    entry.user_data = A;
    entry.personality = 0x1234;
    entry.flags |= abi::entry_drain | abi::entry_link | abi::entry_hard_link | abi::entry_async |
                   abi::entry_completion_skip_success | abi::entry_fixed_file;
    EXPECT_EQ(bytes_of(entry),
              layout({{opcode, 0}, {flags, 0x5f}, {fd, minus_one}, {user_data, A}, {personality, 0x1234}}));
}

TEST(PrepareOptions, OptionsSetBeforehandStay) {
    abi::SubmissionEntry entry{};
    entry.flags = abi::entry_fixed_file;
    prepare::receive_multishot(entry, 5, 70, 0);
    EXPECT_EQ(entry.flags, abi::entry_fixed_file | abi::entry_buffer_select);
}

TEST(PrepareOptions, EveryOperationHasAFunction) {
    std::bitset<abi::operation_count> prepared;
    for (const Case& tested : cases) {
        abi::SubmissionEntry entry{};
        tested.fill(entry);
        prepared.set(static_cast<std::size_t>(entry.opcode));
    }
    // Zero-copy receive is set up with a network card's queues; no floor needs it.
    prepared.set(static_cast<std::size_t>(abi::Operation::receive_zero_copy));
    EXPECT_TRUE(prepared.all()) << prepared;
}

}  // namespace
}  // namespace ferrule
