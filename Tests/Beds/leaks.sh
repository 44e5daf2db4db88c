# What leaves a host by its cable while it sends to everywhere. To be sourced by scenarios, after `mesh`, `assert.sh` and
# `traffic.sh`. Needs /usr/bin/python3 and tcpdump.
#
#   seen_by HOST ADDRESS [PORT]    as which address HOST is seen at ADDRESS, asked over UDP (port 7000); empty: no answer
#   seen_by_tcp HOST ADDRESS [PORT]   the same over TCP
#   noise HOST TARGET…             sends to every target 20 times a second, in the background, until the bed ends or
#                                  `kill $noise`; a target is KIND,ADDRESS,PORT[,DEVICE]: udp, tcp (a SYN each time) or ping
#                                  (no port: 0); with a device the socket is bound to it
#   watch_begin HOST FILTER        records what HOST sends out of eth0 and matches, where its cable ends (not on HOST)
#   watch_mark                     from here on
#   watched                        what was recorded since, one line for each destination and port, how often first
#   watch_first | watch_last       when the first and the last packet since then was seen, in seconds since 1970
#   watch_end
#   numbers INTERFACE              mark, table and first priority of the full tunnel of a mesh on INTERFACE (decimal)
#
# watch_mark and watched send a datagram of their own to the next hop (see $watch_next): they wait until it was
# recorded, so what came before has been written down too, and a capture that sees nothing fails.

_leaks_seen() { # KIND HOST ADDRESS [PORT]
    local seen
    if seen=$(ask "$2" "$1" "$3" "${4:-7000}"); then echo "$seen"; fi
}
seen_by() { _leaks_seen udp "$@"; }
seen_by_tcp() { _leaks_seen tcp "$@"; }

# ------------------------------------------------------------------------------------------------------------- noise

# Written to a file on first use: a scenario without it needs none.
_leaks_program() {
    cat <<'END'
import socket, struct, sys, time
def opened(kind, address, device):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if kind == "ping":
        protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        s = socket.socket(family, socket.SOCK_RAW, protocol)
    else:
        s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return s
# An echo request with its checksum; the kernel fills in that of ICMPv6.
echo = {4: struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1), 6: struct.pack("!BBHHH", 128, 0, 0, 1, 1)}
targets = [(t.split(",") + [""])[:4] for t in sys.argv[1:]]
kept = {}
while True:
    for kind, address, port, device in targets:
        key = (kind, ":" in address, device)
        try:
            if kind == "tcp":
                s = opened(kind, address, device)
                try: s.connect((address, int(port)))
                except OSError: pass
                s.close()
            else:
                if key not in kept: kept[key] = opened(kind, address, device)
                data = echo[6 if ":" in address else 4] if kind == "ping" else b"x" * 32
                kept[key].sendto(data, (address, int(port)))
        except OSError:
            # A refusal, or a device that is gone: the next socket may fare better.
            if key in kept: kept.pop(key).close()
    time.sleep(0.05)
END
}

noise() {
    [ -e "$_mesh_folder/noise.py" ] || _leaks_program >"$_mesh_folder/noise.py"
    launch "$1" /usr/bin/python3 "$_mesh_folder/noise.py" "${@:2}" >"$_mesh_folder/noise-$1" 2>&1
    noise=$!
    disown $noise
}

# ------------------------------------------------------------------------------------------------------------ watch

watch_begin() {
    local bridge
    watch_host=$1 watch_log=$_mesh_folder/watch-$1
    echo 20000 >"$watch_log.number"
    bridge=$(<"$_mesh_folder/hosts/$1/bridge")
    watch_next=${watch_next:-$(enter "$1" ip -4 route show default | awk '{ print $3; exit }')}
    # A snapshot of headers only, written line by line as packets come.
    launch "$bridge" tcpdump -Z root -i "$(<"$_mesh_folder/hosts/$1/port")" -Q in -s 128 -n -tt -l --immediate-mode \
        "(udp and dst host $watch_next and dst portrange 20000-29999) or ($2)" >"$watch_log" 2>"$watch_log.errors"
    watcher=$!
    disown $watcher
    _traffic_until 10 grep -q "listening on" "$watch_log.errors" || _mesh_fail "no capture: $(<"$watch_log.errors")"
    watch_mark
}

# Sends a datagram of its own and waits for it; the number of its line is in $watch_line.
_watch_sync() {
    local number try
    # In a file, because this also runs in subshells.
    number=$(($(<"$watch_log.number") + 1))
    echo $number >"$watch_log.number"
    watch_line=
    for ((try = 0; try < 100; try++)); do
        # Now and then again: a neighbour may have to be found first.
        [ $((try % 20)) != 0 ] || enter "$watch_host" bash -c "echo >/dev/udp/$watch_next/$number" 2>/dev/null
        watch_line=$(grep -nF "> $watch_next.$number:" "$watch_log" | cut -d: -f1 | head -n 1)
        [ -z "$watch_line" ] || return 0
        sleep 0.05
    done
    fail "the capture sees a datagram to the next hop" "$watch_next.$number" "$(tail -n 5 "$watch_log")"
    watch_line=$(wc -l <"$watch_log")
}

watch_mark() {
    _watch_sync
    watch_from=$watch_line
}

_watched_lines() { sed -n "$((watch_from + 1)),${watch_line}p" "$watch_log" | grep -vE "> ${watch_next//./\\.}\.2[0-9]{4}: "; }

watched() {
    _watch_sync
    _watched_lines | sed -E 's/^[0-9.]+ (IP6?) ([^>]*) > ([^ ]+): (ICMP6?.*)?.*/\1 \3 \4/; s/,? (id|seq|length) .*//; s/[ ,]+$//' |
        sort | uniq -c | sort -rn | sed 's/^ *//' | head -n 40
}
watch_first() { _watched_lines | head -n 1 | cut -d' ' -f1; }
watch_last() { _watched_lines | tail -n 1 | cut -d' ' -f1; }

watch_end() { kill "$watcher" 2>/dev/null; }

# ----------------------------------------------------------------------------------------------------------- numbers

# FNV-1a over the interface's name, as the documentation of the topology says.
numbers() {
    local text=$1 hash=2166136261 index
    for ((index = 0; index < ${#text}; index++)); do
        hash=$(((hash ^ $(printf '%d' "'${text:index:1}")) * 16777619 & 0xFFFFFFFF))
    done
    echo "$((0x77000000 | hash & 0xFFFFFF)) $((0x77000000 | hash & 0xFFFFFF)) $((10000 + hash % 10000 * 2))"
}
