#!/bin/bash
# What people do to a live mesh by hand: routes and addresses changed in every attribute that weft does not set, the link
# renamed, the program behind it killed. Each time the next run says what to do, or does it, and nothing is left behind.
# timeout: 180
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
converges fra

# ------------------------------------------------------------------------------------------- routes and addresses

addresses() { enter fra ip -d -o address show dev wg0 scope global | sed 's/^[0-9]*: //'; }
routes() { enter fra ip route show table all proto 119; enter fra ip -6 route show table all proto 119; }
addressed=$(addresses) routed=$(routes)

# One change by hand is shown, and taken back in one apply. Not every kernel and every ip has all of them.
by_hand() { # COMMAND…
    local done=
    if ! done=$(enter fra sh -c "$*" 2>&1); then
        note "not possible here: $* (${done%%$'\n'*})"
        weft fra apply >/dev/null
        return
    fi
    changed=$((changed + 1))
    exits 2 "$*: is shown" weft fra plan --detailed-exitcode
    matches "by name" "$(grep -oE '(10\.80\.0|fd80::)[.0-9]+' <<<"$*" | head -n 1)" "$output"
    succeeds "and taken back" weft fra apply
    unchanged fra "wholly"
    same "its routes are as they were" "$routed" "$(routes)"
    same "and its addresses" "$addressed" "$(addresses)"
}
changed=0
four="ip route replace 10.80.0.2/32 dev wg0 proto 119 src 10.80.0.1"
six="ip -6 route replace fd80::2/128 dev wg0 proto 119 src fd80::1 metric 1024"
for attribute in "mtu 1300" "mtu lock 1300" "advmss 1200" "initcwnd 5" "via 10.80.0.9 onlink" "scope global" "realm 5"; do
    by_hand "$four $attribute"
done
by_hand "${four/replace/replace local} table main"
by_hand "${four/replace/add local} table local"
by_hand "ip nexthop add id 77 dev wg0; ip route replace 10.80.0.2/32 nhid 77 proto 119 src 10.80.0.1"
for attribute in "mtu 1300" "hoplimit 7" "via fe80::9" "expires 1000" "pref high"; do
    by_hand "$six $attribute"
done
by_hand "ip route delete 10.80.0.2/32"
by_hand "ip -6 route delete fd80::2/128"
# A route beside ours, of the same key: which of the two the kernel takes away is not ours to say.
by_hand "ip route append 10.80.0.2/32 dev wg0 via 10.80.0.9 onlink proto 119"
by_hand "${four/replace/append} mtu 1300; ${four/replace/append} mtu 1200"

# Addresses carry our number too, which not every ip can say: `address ADDRESS [ATTRIBUTE VALUE]…`, as the kernel names them.
cat >"$_mesh_folder/address.py" <<'END'
import ipaddress, socket, struct, sys
local = ipaddress.ip_address(sys.argv[1])
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
def attribute(kind, data):
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
def packed(text):
    return ipaddress.ip_address(text).packed
flags = int(given.get("flags", "0x80"), 16) | (2 if local.version == 6 else 0)
body = struct.pack("BBBBI", {4: socket.AF_INET, 6: socket.AF_INET6}[local.version], local.max_prefixlen, 0,
    int(given.get("scope", 0)), socket.if_nametoindex("wg0"))
body += attribute(2, local.packed) + attribute(1, packed(given.get("peer", str(local))))
if "label" in given: body += attribute(3, given["label"].encode() + b"\0")
if "broadcast" in given: body += attribute(4, packed(given["broadcast"]))
if "valid" in given: body += attribute(6, struct.pack("IIII", int(given["preferred"]), int(given["valid"]), 0, 0))
body += attribute(8, struct.pack("I", flags))
if "metric" in given: body += attribute(9, struct.pack("I", int(given["metric"])))
body += attribute(11, b"\x77")
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
# RTM_NEWADDR with REQUEST, ACK, CREATE and REPLACE.
kernel.send(struct.pack("IHHII", 16 + len(body), 20, 0x505, 1, 0) + body)
error = struct.unpack_from("i", kernel.recv(4096), 16)[0]
if error: sys.exit(f"errno {-error}")
END
address="/usr/bin/python3 $_mesh_folder/address.py"
for attribute in "valid 1000 preferred 500" "valid 4294967295 preferred 0"; do
    by_hand "$address 10.80.0.1 $attribute"
    by_hand "$address fd80::1 $attribute"
done
for attribute in "label wg0:x" "scope 253" "broadcast 10.80.255.255" "peer 10.80.0.9" "metric 50" "flags 0x280"; do
    by_hand "ip address delete 10.80.0.1/32 dev wg0; $address 10.80.0.1 $attribute"
done
by_hand "$address 10.80.0.1 peer 10.80.0.9"
by_hand "ip address delete fd80::1/128 dev wg0; $address fd80::1 peer fd80::9"
if [ $changed -gt 25 ]; then ok "most of them were possible"; else fail "most of them were possible" "over 25" $changed; fi
# By an ip that puts no number on them: what is there is wanted, and ours could not stand beside it.
enter fra sh -c 'ip address del 10.80.0.1/32 dev wg0; ip address add 10.80.0.1/32 dev wg0; ip address replace fd80::1/128 dev wg0'
converges fra
enter fra ip address change 10.80.0.1/32 dev wg0 valid_lft 100 preferred_lft 100
converges fra
same "all are there, for ever" 2 "$(enter fra ip address show dev wg0 scope global | grep -c 'valid_lft forever')"

# ------------------------------------------------------------------------------------------------- another name

enter fra ip link set wg0 down
enter fra ip link set wg0 name other0
for command in plan apply down; do
    exits 1 "$command sees that the link was renamed" weft fra $command
    contains "$command: and says so" "is on the interface other0 here, and the topology wants it on wg0" "$output"
done
remedy=$(sed -n 's/^note: [^`]*`\([^`]*\)`.*/\1/p' <<<"$output" | head -n 1)
contains "with a command that mends it" other0 "$remedy"
# As it is typed, but for where weft is and the question that is asked.
typed=${remedy/#weft down/$WEFT down --yes}
note "$remedy"
succeeds "which works" enter fra bash -c "$typed"
converges fra

# ------------------------------------------------------------------------------------------------- a killed program

# The process that serves the device; the kernel has none. Other beds on this machine have a wg0 too.
program() {
    local process
    for process in $(ip netns pids "$(mesh_namespace fra)"); do
        if grep -qs "^iff:.wg0$" /proc/"$process"/fdinfo/*; then echo "$process"; fi
    done
}
gone() { ! enter fra ip link show wg0 2>/dev/null; }
killed() {
    kill -KILL "$(program)"
    eventually 5 "its device goes with it" gone
    succeeds "its socket stays" enter fra test -S /run/wireguard/wg0.sock
}
if [ -n "$(program)" ]; then
    killed
    succeeds "apply starts another program" weft fra apply
    unchanged fra "and all is as it was"
    succeeds "that answers" enter fra wg show wg0
    killed
    succeeds "down" weft fra down
    same "leaves no socket" "" "$(enter fra ls -A /run/wireguard)"
    same "and no record" "" "$(enter fra sh -c 'ls /var/lib/weft/netns-*/wg0.json 2>/dev/null')"
    converges fra
else
    note "the kernel's device has no program"
fi
succeeds "down" weft fra down
done_testing
