# Traffic on the hosts of a bed, and what is seen of it. To be sourced by scenarios, after `mesh`.
#
#   answers HOST PORT…             from now on the host answers on these ports, over TCP and UDP, in both families
#   publishes HOST ADDRESS4 ADDRESS6  the host's port 8080 leads to port 80 there, as a container engine does it
#   pings HOST ADDRESS [OPTION…]   one echo request, and its answer
#   ask HOST tcp|udp ADDRESS PORT  asks once: prints the address that the other side was asked from.
#                                  Fails with what the asker was told, or `nothing` where it was told nothing.
#   begin_capture HOST INTERFACE FILTER…  records packets that match (a filter of tcpdump's), from when it returns
#   end_capture                    ends the last capture and prints what it saw, one packet a line, in $captured too
#   begin_stream NAME HOST tcp|udp ADDRESS PORT  twenty questions a second, until end_stream (see `talk`)
#   begin_push NAME HOST ADDRESS PORT  one question over UDP, and twenty datagrams a second back, until end_stream
#   stream_grows NAME [SECONDS]    does more come back within the time (2)?
#   end_stream NAME                ends it, and prints `sent N answered M`
#   stream_gaps NAME               which of its questions were not answered, as ranges, but for those at the end

_traffic_talk=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/talk
declare -A _traffic_streams=()
# Seconds for an answer, and for a program to start: in the virtual machine everything takes longer.
_traffic_patience=2 _traffic_start=10
if [ "$BED" = vm ]; then _traffic_patience=10 _traffic_start=90; fi

publishes() {
    enter "$1" nft -f - <<END
table inet docker {
    chain prerouting {
        type nat hook prerouting priority dstnat
        fib daddr type local meta nfproto ipv4 tcp dport 8080 dnat ip to $2:80
        fib daddr type local meta nfproto ipv6 tcp dport 8080 dnat ip6 to [$3]:80
    }
}
END
}

answers() {
    local log=$_mesh_folder/answers-$1
    launch "$1" /usr/bin/python3 "$_traffic_talk" answer "${@:2}" >"$log" 2>&1
    disown $!
    _traffic_until $_traffic_start grep -q ready "$log" || _mesh_fail "nobody answers on $1: $(<"$log")"
}

_traffic_until() { # SECONDS COMMAND…
    local deadline=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@" 2>/dev/null; do
        [ "$(date +%s%N)" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

pings() { enter "$1" ping -n -q -c 1 -W $_traffic_patience "${@:2}"; }

ask() {
    local answer
    # Bash speaks both protocols, and starts faster than anything else; its `read` loses what a datagram has after a byte.
    answer=$(enter "$1" timeout $_traffic_patience bash -c 'exec 3<>"/dev/$1/$2/$3" && echo hello >&3 && head -n 1 <&3' \
        ask "$2" "$3" "$4" 2>&1) && [ -n "$answer" ] && { echo "${answer% hello}"; return; }
    case $answer in
    "") echo nothing ;;
    *) sed -E 's/^.*: //; q' <<<"$answer" ;;
    esac
    return 1
}

begin_capture() {
    local host=$1 interface=$2
    shift 2
    _traffic_capture=$(mktemp "$_mesh_folder/capture-XXXXXX")
    launch "$host" tcpdump -Z root -s 512 -B 4096 --immediate-mode -l -n -tt -i "$interface" "$*" >"$_traffic_capture" 2>"$_traffic_capture.log"
    _traffic_tcpdump=$!
    _traffic_until $_traffic_start grep -q '^listening' "$_traffic_capture.log" ||
        _mesh_fail "no capture on $host: $(<"$_traffic_capture.log")"
}

end_capture() {
    local wanted
    # What has just gone by is on its way: through programs to the interface, and from there into the file.
    sleep 0.3
    wanted=$(_traffic_counted received) && _traffic_until 20 _traffic_has_written "$wanted" ||
        _mesh_fail "packets were seen and not written: $(tail -n 1 "$_traffic_capture.log")"
    kill -INT "$_traffic_tcpdump"
    wait "$_traffic_tcpdump"
    captured=$(cut -d' ' -f2- "$_traffic_capture")
    echo "$captured"
}

# What was dropped is never written.
_traffic_has_written() { [ "$(_traffic_counted captured)" -ge "$1" ]; }

# How many packets tcpdump has written (captured), or how many there were (received): it tells on SIGUSR1.
_traffic_counted() {
    local told
    told=$(_traffic_tellings)
    kill -USR1 "$_traffic_tcpdump"
    _traffic_until 20 _traffic_has_told "$told" || return 1
    sed -nE "s/^tcpdump:.* ([0-9]+) packets? $1.*/\\1/p" "$_traffic_capture.log" | tail -n 1
}
# It writes a telling piece by piece; this is its last.
_traffic_tellings() { grep -c '^tcpdump:.* dropped by kernel' "$_traffic_capture.log"; }
_traffic_has_told() { [ "$(_traffic_tellings)" -gt "$1" ]; }

begin_stream() { _traffic_stream "$1" "$2" stream "${@:3}"; }
begin_push() { _traffic_stream "$1" "$2" push "${@:3}"; }

_traffic_stream() { # NAME HOST COMMAND…
    launch "$2" /usr/bin/python3 "$_traffic_talk" "${@:3}" >"$_mesh_folder/stream-$1" 2>&1
    _traffic_streams[$1]=$!
}

stream_grows() {
    local size
    size=$(stat -c %s "$_mesh_folder/stream-$1")
    _traffic_until "${2:-2}" _traffic_grew "$1" "$size"
}
_traffic_grew() { [ "$(stat -c %s "$_mesh_folder/stream-$1")" -gt "$2" ]; }

end_stream() {
    kill "${_traffic_streams[$1]}" 2>/dev/null
    _traffic_until 5 _traffic_summed_up "$1"
    tail -n 1 "$_mesh_folder/stream-$1"
}
_traffic_summed_up() { [[ $(tail -n 1 "$_mesh_folder/stream-$1") == sent* ]]; }
stream_gaps() {
    awk '/^[0-9]+$/ { if ($1 > last + 1) print last + 1 "-" $1 - 1; last = $1 }' "$_mesh_folder/stream-$1" | paste -sd' '
}
