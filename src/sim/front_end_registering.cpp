#include "sim/front_end.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace ferrule::inline v0::sim {

// What a ring can be told and given beyond its queues.

namespace {
constexpr std::uint32_t buffers_max = 32768;
constexpr std::uint32_t files_max = 1u << 20;

std::uint64_t whole_pages(std::uint64_t bytes) noexcept {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return (bytes + page - 1) / page * page;
}
}  // namespace

bool FrontEnd::charge(std::uint64_t bytes) noexcept {
    if (memory_ == nullptr || !features_.charges_locked_memory) return true;
    if (memory_->used_bytes + bytes > memory_->limit_bytes) return false;
    memory_->used_bytes += bytes;
    charged_ += bytes;
    return true;
}

void FrontEnd::discharge(std::uint64_t bytes) noexcept {
    if (memory_ == nullptr || !features_.charges_locked_memory) return;
    memory_->used_bytes -= bytes;
    charged_ -= bytes;
}

int FrontEnd::register_(std::uint32_t opcode, void* argument, std::uint32_t count) {
    if (opcode > features_.last_registration) return -EINVAL;
    if (foreign()) return -EEXIST;
    const bool one = argument != nullptr && count == 1;
    switch (opcode) {
        case abi::register_enable_rings:
            if (argument != nullptr || count != 0) return -EINVAL;
            if (!disabled_) return -EBADFD;
            if ((setup_flags_ & abi::setup_single_issuer) != 0) owner_ = world_.current_fiber();
            disabled_ = false;
            begin_to_poll();
            return 0;
        case abi::register_probe:
            if (argument == nullptr || count > std::size(abi::Probe{}.ops)) return -EINVAL;
            return register_probe(*static_cast<abi::Probe*>(argument), count);
        case abi::register_buffer_ring:
            return one ? register_buffer_ring(*static_cast<abi::BufferRingRegistration*>(argument)) : -EINVAL;
        case abi::unregister_buffer_ring:
            return one ? unregister_buffer_ring(*static_cast<abi::BufferRingRegistration*>(argument)) : -EINVAL;
        case abi::register_buffer_ring_status: {
            if (!one) return -EINVAL;
            auto& status = *static_cast<abi::BufferRingStatus*>(argument);
            const auto* const group = group_of(static_cast<std::uint16_t>(status.buf_group));
            if (group == nullptr) return -ENOENT;
            status.head = group->head();
            return 0;
        }
        case abi::register_sync_cancel:
            return one ? cancel_synchronously(*static_cast<abi::SyncCancelRegistration*>(argument)) : -EINVAL;
        case abi::register_files:
            return argument != nullptr && count != 0 ? register_files(static_cast<const std::int32_t*>(argument), count)
                                                     : -EINVAL;
        case abi::register_files2:
            if (argument == nullptr || count != sizeof(abi::ResourceRegistration)) return -EINVAL;
            return register_files_sparse(*static_cast<const abi::ResourceRegistration*>(argument));
        case abi::register_files_update: {
            if (argument == nullptr || count == 0) return -EINVAL;
            const auto& update = *static_cast<const abi::ResourceUpdate*>(argument);
            return update_files(update.offset, reinterpret_cast<const std::int32_t*>(update.data), count);
        }
        case abi::unregister_files:
            return argument == nullptr && count == 0 ? unregister_files() : -EINVAL;
        case abi::register_event_descriptor:
        case abi::register_event_descriptor_async: {
            if (!one) return -EINVAL;
            if (event_ != nullptr) return -EBUSY;
            event_ = descriptors_.get(*static_cast<const std::int32_t*>(argument));
            if (event_ == nullptr) return -EBADF;
            event_->acquire();
            event_only_async_ = opcode == abi::register_event_descriptor_async;
            return 0;
        }
        case abi::unregister_event_descriptor:
            if (argument != nullptr || count != 0) return -EINVAL;
            if (event_ == nullptr) return -ENXIO;
            std::exchange(event_, nullptr)->release();
            return 0;
        case abi::register_workers_max: {
            if (argument == nullptr || count != 2) return -EINVAL;
            auto* const limits = static_cast<std::uint32_t*>(argument);
            for (std::size_t kind = 0; kind != workers_max_.size(); ++kind) {
                const std::uint32_t former = workers_max_[kind];
                if (limits[kind] != 0) workers_max_[kind] = limits[kind];
                limits[kind] = former;
            }
            return 0;
        }
        case abi::register_napi: {
            if (!one) return -EINVAL;
            auto& registration = *static_cast<abi::NapiRegistration*>(argument);
            if (registration.pad[0] != 0 || registration.pad[1] != 0 || registration.resv != 0) return -EINVAL;
            // No card has a queue to be asked.
            registration = std::exchange(busy_poll_, registration);
            return 0;
        }
        case abi::register_resize_rings:
            return one ? resize(*static_cast<abi::Parameters*>(argument)) : -EINVAL;
        default:
            // Known to this kernel, but of no use to a simulated one: it does not say that it is missing.
            return -EINVAL;
    }
}

int SimulatedRing::register_without_ring(Descriptors& descriptors, Profile profile, std::uint32_t opcode,
                                         const void* argument, std::uint32_t count) {
    if (opcode != abi::register_send_message_ring || features_of(profile).last_registration < opcode) return -EINVAL;
    if (argument == nullptr || count != 1) return -EINVAL;
    const auto& entry = *static_cast<const abi::SubmissionEntry*>(argument);
    if (entry.flags != 0 || entry.opcode != abi::Operation::message_ring || entry.buf_index != 0 ||
        entry.personality != 0 || entry.addr != abi::message_data) {
        return -EINVAL;
    }
    const bool passes = (entry.msg_ring_flags & abi::message_flags_pass) != 0;
    if (entry.addr3 != 0 || (entry.msg_ring_flags & ~abi::message_flags_pass) != 0) return -EINVAL;
    if (!passes && entry.file_index != 0) return -EINVAL;
    const std::shared_ptr<File> file = descriptors.get(entry.fd);
    if (file == nullptr) return -EBADF;
    auto* const target = dynamic_cast<FrontEnd*>(file.get());
    if (target == nullptr) return -EBADFD;
    return target->message(entry.off, static_cast<std::int32_t>(entry.len), passes ? entry.file_index : 0);
}

int FrontEnd::register_probe(abi::Probe& probe, std::uint32_t count) const {
    const std::uint32_t known = std::uint32_t{features_.last_operation} + 1;
    const std::uint32_t told = std::min(known, count);
    probe.last_op = features_.last_operation;
    probe.ops_len = static_cast<std::uint8_t>(told);
    for (std::uint32_t number = 0; number != told; ++number) {
        probe.ops[number].op = static_cast<std::uint8_t>(number);
        probe.ops[number].flags = abi::probe_operation_supported;
    }
    return 0;
}

// ---- provided buffers ----

int FrontEnd::register_buffer_ring(const abi::BufferRingRegistration& registration) {
    if (registration.resv[0] != 0 || registration.resv[1] != 0 || registration.resv[2] != 0) return -EINVAL;
    if ((registration.flags & ~features_.buffer_ring_flags) != 0) return -EINVAL;
    if (registration.ring_addr == 0) return -EFAULT;
    if (registration.ring_addr % static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) != 0) return -EINVAL;
    if (!std::has_single_bit(registration.ring_entries) || registration.ring_entries > buffers_max) return -EINVAL;
    if (group_of(registration.bgid) != nullptr) return -EEXIST;
    if (world_.fault(Fault::no_memory_at_register)) return -ENOMEM;
    if (!charge(whole_pages(std::uint64_t{registration.ring_entries} * sizeof(abi::BufferEntry)))) return -ENOMEM;
    const bool keeps_head = features_.keeps_low_group_heads && registration.bgid < low_group_heads_.size();
    groups_.push_back(std::make_unique<BufferGroup>(
        world_, ownership_, name_, registration, keeps_head ? low_group_heads_[registration.bgid] : std::uint16_t{0}));
    return 0;
}

int FrontEnd::unregister_buffer_ring(const abi::BufferRingRegistration& registration) {
    for (auto group = groups_.begin(); group != groups_.end(); ++group) {
        if ((*group)->number() != registration.bgid) continue;
        if (registration.bgid < low_group_heads_.size()) low_group_heads_[registration.bgid] = (*group)->head();
        discharge(whole_pages(std::uint64_t{(*group)->entries()} * sizeof(abi::BufferEntry)));
        groups_.erase(group);
        return 0;
    }
    return -ENOENT;
}

// ---- fixed files ----

int FrontEnd::register_files(const std::int32_t* descriptors, std::uint32_t count) {
    if (has_files_) return -EBUSY;
    if (count > files_max || count > descriptors_.limit()) return -EMFILE;
    if (world_.fault(Fault::no_memory_at_register)) return -ENOMEM;
    std::vector<std::shared_ptr<File>> files(count);
    for (std::uint32_t slot = 0; slot != count; ++slot) {
        if (descriptors[slot] == -1) continue;
        files[slot] = descriptors_.get(descriptors[slot]);
        if (files[slot] == nullptr || dynamic_cast<FrontEnd*>(files[slot].get()) != nullptr) return -EBADF;
    }
    files_ = std::move(files);
    for (const auto& file : files_) {
        if (file != nullptr) file->acquire();
    }
    has_files_ = true;
    return 0;
}

int FrontEnd::register_files_sparse(const abi::ResourceRegistration& registration) {
    if (registration.nr == 0 || registration.resv2 != 0 || registration.data != 0 ||
        registration.flags != abi::resource_register_sparse) {
        return -EINVAL;
    }
    if (has_files_) return -EBUSY;
    if (registration.nr > files_max || registration.nr > descriptors_.limit()) return -EMFILE;
    if (world_.fault(Fault::no_memory_at_register)) return -ENOMEM;
    files_.resize(registration.nr);
    has_files_ = true;
    return 0;
}

int FrontEnd::update_files(std::uint32_t offset, const std::int32_t* descriptors, std::uint32_t count) {
    if (!has_files_) return -ENXIO;
    if (offset > files_.size() || count > files_.size() - offset) return -EINVAL;
    for (std::uint32_t index = 0; index != count; ++index) {
        if (descriptors[index] == abi::files_skip) continue;
        std::shared_ptr<File> file;
        if (descriptors[index] != -1) {
            file = descriptors_.get(descriptors[index]);
            if (file == nullptr || dynamic_cast<FrontEnd*>(file.get()) != nullptr) {
                return index != 0 ? static_cast<int>(index) : -EBADF;
            }
            file->acquire();
        }
        files_[offset + index].swap(file);
        if (file != nullptr) file->release();
    }
    return static_cast<int>(count);
}

int FrontEnd::unregister_files() {
    if (!has_files_) return -ENXIO;
    has_files_ = false;
    std::vector<std::shared_ptr<File>> files;
    files.swap(files_);
    for (const auto& file : files) {
        if (file != nullptr) file->release();
    }
    return 0;
}

}  // namespace ferrule::inline v0::sim
