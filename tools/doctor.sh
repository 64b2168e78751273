# The first half of `./ferrule doctor`: what the machine, its kernel's settings and its limits are, without building anything. Sourced by
# ./ferrule, which has `has` and `root`. Bash, perl-base and what every Debian has.
#
# Each finding has a name, a state (ok, note, warn: it works, but; fail: Ferrule cannot run) and remedies. Where the files of the kernel are is
# said by FERRULE_DOCTOR_ROOT, so that tests can put others there.

declare -a found_names found_states found_values found_remedies

# finding <state> <name> <value>
finding() {
    found_states+=("$1")
    found_names+=("$2")
    found_values+=("$3")
    found_remedies+=("")
    [ "$doctor_json" = yes ] || printf '%-12s %s\n' "$2" "$3"
    [ "$1" != fail ] || doctor_verdict=1
}
# remedy <text>: of the last finding
remedy() {
    found_remedies[-1]+="$1"$'\n'
    [ "$doctor_json" = yes ] || printf '%-12s   -> %s\n' "" "$1"
}

# system_file <path>: what it says, in one line; nothing when it cannot be read
system_file() {
    local path=${FERRULE_DOCTOR_ROOT:-}$1 text=""
    [ -r "$path" ] && text=$(<"$path")
    printf '%s' "${text//[$'\n\t']/ }"
}
system_has() { [ -e "${FERRULE_DOCTOR_ROOT:-}$1" ]; }

megabytes() { printf '%d MiB' $(($1 / 1048576)); }

# ---- io_uring -------------------------------------------------------------------------------------------------------------------------

allow_calls() {
    remedy "allow io_uring_setup, io_uring_enter and io_uring_register in the container's profile (docs/kernels.md says how):"
    remedy "docker run --security-opt seccomp=PROFILE.json (dist/seccomp/ferrule.json is one), or to try it out --security-opt seccomp=unconfined"
}

examine_kernel() {
    local kernel
    kernel=$(uname -r)
    if [ "$(printf '6.1\n%s\n' "$kernel" | sort -V | head -n 1)" = 6.1 ]; then
        finding ok kernel "$kernel $(uname -m)"
    else
        finding fail kernel "$kernel $(uname -m)"
        remedy "Linux 6.1 is the oldest that has what Ferrule stands on: use a newer kernel"
    fi
}

examine_io_uring() {
    local disabled group filtered=no setup_error
    disabled=$(system_file /proc/sys/kernel/io_uring_disabled)
    group=$(system_file /proc/sys/kernel/io_uring_group)
    # Kernels before 6.6 have no such switch.
    [ -z "$disabled" ] || finding ok sysctl "kernel.io_uring_disabled = $disabled, kernel.io_uring_group = $group"
    case " $(system_file /proc/self/status) " in *" Seccomp: 2 "*) filtered=yes ;; esac
    # io_uring_setup(4, zeroed parameters), call number 425 everywhere; perl-base is part of every Debian and Ubuntu.
    setup_error=$(perl -e 'my $parameters = "\0" x 120; my $result = syscall(425, 4, $parameters); print $result < 0 ? $! + 0 : 0' 2>/dev/null || echo unknown)
    case $setup_error in
        0) finding ok io_uring "works: io_uring_setup succeeded" ;;
        1)
            finding fail io_uring "forbidden: io_uring_setup gave EPERM"
            case ${disabled:-0} in
                0) ;;
                1)
                    remedy "kernel.io_uring_disabled is 1: only root and the group of kernel.io_uring_group may use it. Join that group, or"
                    remedy "sudo sysctl kernel.io_uring_disabled=0" ;;
                *) remedy "kernel.io_uring_disabled is $disabled: nobody may use it. sudo sysctl kernel.io_uring_disabled=0" ;;
            esac
            if [ $filtered = yes ]; then
                remedy "a seccomp filter is active, and the default profiles of Docker and containerd forbid it:"
                allow_calls
            elif [ "${disabled:-0}" = 0 ]; then
                remedy "a security module (SELinux, AppArmor) or a sandbox forbids it; there is no seccomp filter. Its log names the rule"
            fi ;;
        12)
            finding fail io_uring "no memory: io_uring_setup gave ENOMEM"
            remedy "the limit of locked memory is too low (see below): ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit" ;;
        38)
            finding fail io_uring "absent: io_uring_setup gave ENOSYS"
            if [ $filtered = yes ]; then
                remedy "a seccomp filter hides it, as older container runtimes do with calls that they do not know:"
                allow_calls
                remedy "or the kernel was built without CONFIG_IO_URING"
            else
                remedy "the kernel was built without CONFIG_IO_URING, or a sandbox (gVisor) does not have it"
            fi ;;
        unknown) finding note io_uring "not tried: that needs perl, or --probe" ;;
        *) finding fail io_uring "does not work: io_uring_setup failed with error number $setup_error" ;;
    esac
    [ $filtered = no ] || finding ok seccomp "a filter is active for this process"
}

# ---- limits ---------------------------------------------------------------------------------------------------------------------------

# Rings and buffer rings count as locked memory: two reactors with default options, in KiB.
memlock_needed=512

examine_limits() {
    local soft hard
    soft=$(ulimit -Sl) hard=$(ulimit -Hl)
    if [ "$soft" != unlimited ] && [ "$soft" -lt $memlock_needed ]; then
        finding warn memlock "soft $soft, hard $hard KiB"
        remedy "the queues of a reactor take about 130 KiB of locked memory on some kernels, for all processes of a user together:"
        remedy "ulimit -l unlimited, LimitMEMLOCK=infinity in the systemd unit, docker run --ulimit memlock=-1"
    else
        finding ok memlock "soft $soft, hard $hard KiB"
    fi
    soft=$(ulimit -Sn) hard=$(ulimit -Hn)
    if [ "$hard" != unlimited ] && [ "$hard" -lt 65536 ]; then
        finding warn nofile "soft $soft, hard $hard descriptors"
        remedy "a connection takes a descriptor each: raise it (ulimit -n, LimitNOFILE=) for more than a few thousand"
    elif [ "$soft" != unlimited ] && [ "$soft" -lt 65536 ]; then
        finding note nofile "soft $soft, hard $hard descriptors"
        remedy "a connection takes a descriptor each, and the soft limit is what counts: ulimit -n $hard, or LimitNOFILE="
    else
        finding ok nofile "soft $soft, hard $hard descriptors"
    fi
}

# ---- processors -----------------------------------------------------------------------------------------------------------------------

# cgroup_values <controller> <file of version 2> <file of version 1>: of this process's group and all above it, one a line, if there are any
cgroup_values() {
    local base group="" file path
    if system_has /sys/fs/cgroup/cgroup.controllers; then
        base=/sys/fs/cgroup file=$2
        group=$(sed -n 's/^0:://p' "${FERRULE_DOCTOR_ROOT:-}/proc/self/cgroup" 2>/dev/null || true)
    else
        file=$3
        for base in "/sys/fs/cgroup/$1" "/sys/fs/cgroup/$1,cpuacct"; do ! system_has "$base" || break; done
        group=$(awk -F: -v want="$1" '{ n = split($2, list, ","); for (i = 1; i <= n; i++) if (list[i] == want) { print $3; exit } }' \
            "${FERRULE_DOCTOR_ROOT:-}/proc/self/cgroup" 2>/dev/null || true)
    fi
    path=${group%/}
    # A path that is not there is another's view: a container sees its own group at the root.
    while :; do
        system_file "$base$path/$file"
        echo
        [ -n "$path" ] || break
        path=${path%/*}
    done
}

# In thousandths of a CPU; nothing: no quota.
cgroup_quota() {
    local least="" quota period value
    if system_has /sys/fs/cgroup/cgroup.controllers; then
        while read -r quota period; do
            case ${quota:-max}${period:-} in *[!0-9]*) continue ;; esac
            value=$((quota * 1000 / period))
            if [ -z "$least" ] || [ $value -lt "$least" ]; then least=$value; fi
        done < <(cgroup_values cpu cpu.max none)
    else
        while read -r quota <&3 && read -r period <&4; do
            case ${quota:--1} in *[!0-9]*) continue ;; esac
            [ "${period:-0}" -gt 0 ] || continue
            value=$((quota * 1000 / period))
            if [ -z "$least" ] || [ $value -lt "$least" ]; then least=$value; fi
        done 3< <(cgroup_values cpu none cpu.cfs_quota_us) 4< <(cgroup_values cpu none cpu.cfs_period_us)
    fi
    printf '%s' "$least"
}

examine_processors() {
    local allowed quota clock governor nodes
    allowed=$(nproc)
    finding ok cpus "$allowed of $(getconf _NPROCESSORS_ONLN) may be used: one reactor each by default"
    [ "$allowed" -gt 1 ] || remedy "load generator and server share it: figures of benchmarks on this machine say little"
    quota=$(cgroup_quota)
    if [ -n "$quota" ] && [ "$quota" -lt $((allowed * 1000)) ]; then
        finding warn quota "$((quota / 1000)).$((quota % 1000 / 100)) CPUs' time for $allowed CPUs (cgroup)"
        remedy "when the quota is used up, all reactors stop until the period ends, up to 100 ms: latency in steps. Run as many reactors as it"
        remedy "has whole CPUs, ServerOptions::reactors = $((quota < 1000 ? 1 : quota / 1000)), or give the container CPUs (docker run --cpuset-cpus, Kubernetes: static CPU manager)"
    elif [ -n "$quota" ]; then
        finding ok quota "$((quota / 1000)).$((quota % 1000 / 100)) CPUs' time (cgroup): enough for $allowed"
    fi
    nodes=$(system_file /sys/devices/system/node/online)
    case $nodes in
        "" | 0) finding ok numa "one node" ;;
        *)
            finding note numa "nodes $nodes"
            remedy "ServerOptions::cpus or pin_reactors with ReactorOptions::local_memory keeps a reactor's memory at its CPU (docs/tuning.md)" ;;
    esac
    clock=$(system_file /sys/devices/system/clocksource/clocksource0/current_clocksource)
    case $clock in
        "") ;;
        tsc | kvm-clock | hyperv_clocksource* | arch_sys_counter) finding ok clock "$clock: read without a system call" ;;
        *)
            finding warn clock "$clock: each reading is a system call, or slower"
            remedy "the loop reads it in each pass. $(system_file /sys/devices/system/clocksource/clocksource0/available_clocksource): see whether tsc is among them, and why the kernel left it (dmesg)" ;;
    esac
    governor=$(system_file /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor)
    case $governor in
        "" | performance | schedutil) ;;
        *)
            finding note governor "$governor"
            remedy "CPUs that slow down between requests make them slower: cpupower frequency-set -g performance" ;;
    esac
}

# ---- memory ---------------------------------------------------------------------------------------------------------------------------

# ReactorOptions::memory_limit.
reactor_memory_limit=$((2 << 30))

examine_memory() {
    local limit="" value total reactors huge reserved
    total=$(awk '/^MemTotal:/ { printf "%.0f", $2 * 1024 }' "${FERRULE_DOCTOR_ROOT:-}/proc/meminfo" 2>/dev/null || true)
    while read -r value; do
        case ${value:-max} in *[!0-9]*) continue ;; esac
        # Version 1 says "none" by a number that no machine has.
        if [ -n "$total" ] && [ "${#value}" -ge 19 ]; then continue; fi
        if [ -z "$limit" ] || [ "$value" -lt "$limit" ]; then limit=$value; fi
    done < <(cgroup_values memory memory.max memory.limit_in_bytes)
    reactors=$(nproc)
    local bound=${limit:-$total} whose="of the machine"
    [ -z "$limit" ] || whose="of the cgroup"
    if [ -n "$bound" ] && [ "$bound" -lt $((reactors * reactor_memory_limit)) ]; then
        finding $([ -n "$limit" ] && echo warn || echo note) memory "$(megabytes "$bound") $whose for $reactors reactors, which may take $(megabytes $((reactors * reactor_memory_limit))) by default"
        remedy "ends as an answer of limit and not as the kernel's killer does: ReactorOptions::memory_limit = $(megabytes $((bound * 8 / 10 / reactors))) (docs/hazards.md, memory limits)"
    elif [ -n "$bound" ]; then
        finding ok memory "$(megabytes "$bound") $whose"
    fi
    huge=$(system_file /sys/kernel/mm/transparent_hugepage/enabled)
    reserved=$(system_file /proc/sys/vm/nr_hugepages)
    [ -z "$huge$reserved" ] || finding ok hugepages "transparent: ${huge:-none}; reserved: ${reserved:-0}"
    case $huge in *"[never]"*) remedy "NetworkOptions::huge_pages does nothing here: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" ;; esac
}

# ---- network --------------------------------------------------------------------------------------------------------------------------

# ServerOptions::backlog.
backlog_default=4096
# Fewer local ports are used up within seconds by a proxy that connects for each request.
ports_few=16384

examine_network() {
    local backlog first last ports control available max count
    backlog=$(system_file /proc/sys/net/core/somaxconn)
    if [ -n "$backlog" ] && [ "$backlog" -lt $backlog_default ]; then
        finding warn somaxconn "net.core.somaxconn = $backlog"
        remedy "ServerOptions::backlog ($backlog_default) is cut to it, and a burst of connections beyond it waits for a second: sudo sysctl net.core.somaxconn=$backlog_default"
    elif [ -n "$backlog" ]; then
        finding ok somaxconn "net.core.somaxconn = $backlog"
    fi
    read -r first last < <(system_file /proc/sys/net/ipv4/ip_local_port_range; echo)
    if [ -n "${last:-}" ]; then
        ports=$((last - first + 1))
        if [ $ports -lt $ports_few ]; then
            finding warn ports "$first to $last: $ports connections from one address of this machine to one service"
            remedy "sudo sysctl net.ipv4.ip_local_port_range='1024 65535', or more addresses (ConnectOptions::local)"
        else
            finding ok ports "$first to $last: $ports connections from one address of this machine to one service"
        fi
    fi
    control=$(system_file /proc/sys/net/ipv4/tcp_congestion_control)
    available=$(system_file /proc/sys/net/ipv4/tcp_available_congestion_control)
    [ -z "$control" ] || finding ok congestion "$control${available:+ (there are: $available)}"
    max=$(system_file /proc/sys/net/netfilter/nf_conntrack_max)
    count=$(system_file /proc/sys/net/netfilter/nf_conntrack_count)
    if [ -n "$max" ] && [ -n "$count" ] && [ "$max" -gt 0 ]; then
        if [ $((count * 100 / max)) -ge 80 ]; then
            finding warn conntrack "$count of $max connections are tracked"
            remedy "the firewall drops new ones when they are used up: sudo sysctl net.netfilter.nf_conntrack_max=$((max * 4))"
        else
            finding ok conntrack "$count of $max connections are tracked"
        fi
    fi
    if system_has /proc/sys/net/ipv4 && ! system_has /proc/net/if_inet6; then
        finding note ipv6 "none: servers listen on IPv4 only"
    fi
}

examine_container() {
    local kind=""
    if system_has /.dockerenv; then kind=Docker; fi
    if system_has /run/.containerenv; then kind=Podman; fi
    case " $(system_file /proc/self/cgroup) " in *kubepods*) kind=Kubernetes ;; esac
    [ -z "$kind" ] || finding ok container "$kind (docs/hazards.md, containers)"
}

examine_tools() {
    finding ok compiler "$(if has "${CXX:-g++}" >/dev/null; then "${CXX:-g++}" --version | head -n 1; else echo "none yet: installed by ./ferrule serve"; fi)"
    finding ok cmake "$(if has cmake >/dev/null; then cmake --version | awk 'NR==1{print $3}'; else echo "none yet: installed by ./ferrule serve"; fi)"
}

# ---- as JSON --------------------------------------------------------------------------------------------------------------------------

json_string() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//[[:cntrl:]]/ }
    printf '"%s"' "$text"
}

# doctor_print_json <what the probe printed, or nothing>
doctor_print_json() {
    local index comma="" inner text
    printf '{"runs": %s, "findings": [' "$([ $doctor_verdict = 0 ] && echo true || echo false)"
    for index in "${!found_names[@]}"; do
        printf '%s\n  {"name": ' "$comma"
        json_string "${found_names[index]}"
        printf ', "state": '
        json_string "${found_states[index]}"
        printf ', "value": '
        json_string "${found_values[index]}"
        printf ', "remedies": ['
        inner=""
        while IFS= read -r text; do
            [ -n "$text" ] || continue
            printf '%s' "$inner"
            json_string "$text"
            inner=", "
        done <<<"${found_remedies[index]}"
        printf ']}'
        comma=,
    done
    printf '\n], "probe": %s}\n' "${1:-null}"
}
