# What the scenarios of large meshes share. To be sourced by them, after the beds; needs a host `fra` with a key.

# A topology of many nodes, from Tests/Benchmarks/make-topology: the first is fra.
many_nodes() { # COUNT
    topology=$(mktemp -d "$_mesh_folder/topology-XXXXXX")
    chmod 755 "$topology"
    "$here/../Benchmarks/make-topology" "$1" |
        awk -v key="$(public_key fra)" '/publicKey:/ && !done++ { sub(/publicKey:.*/, "publicKey: " key) } { print }' \
            >"$topology/mesh.yaml"
}

# What the topology wants of fra's peers: `KEY PREFIX`, sorted. Reads what make-topology and the scenarios write, and
# nothing else; IPv6 as the kernel writes it.
wanted_peers() {
    /usr/bin/python3 - "$(public_key fra)" "$topology"/*.yaml <<'END'
import ipaddress, re, sys
own, key, lines = sys.argv[1], None, set()
for path in sys.argv[2:]:
    for line in open(path):
        if not line.startswith(" "):
            key = None
        name, _, value = line.strip().partition(": ")
        if name == "publicKey":
            key = value
        elif key and key != own and name in ("addresses", "allowedIPs"):
            for prefix in re.findall(r"[0-9a-f:./]+", value.strip("[]")):
                lines.add(f"{key} {ipaddress.ip_network(prefix)}")
print("\n".join(sorted(lines)))
END
}

live_peers() {
    enter fra wg show wg0 allowed-ips |
        awk '{ if ($2 == "(none)") print $1, "-"; else for (i = 2; i <= NF; i++) print $1, $i }' | LC_ALL=C sort
}

# fra's peers are what the topology wants, to the last prefix. The lists are long: only the difference is shown.
reads_back() { # WHAT
    same "$1" "" "$(diff <(wanted_peers | LC_ALL=C sort) <(live_peers) | head -n 20)"
}

# A second apply sends nothing that could change anything.
sends_nothing() { # WHAT
    enter fra strace -f -e trace=sendto,sendmsg,write -o "$_mesh_folder/trace" "$WEFT" apply --yes "$topology" \
        >"$_mesh_folder/again" 2>&1
    contains "$1: there is nothing to do" "No changes" "$(cat "$_mesh_folder/again")"
    same "$1: nothing is sent" 0 \
        "$(grep -cE 'RTM_(NEW|DEL|SET)|NLM_F_CREATE|NLM_F_REPLACE|^[0-9]+ +write\([0-9]+, "set=1' "$_mesh_folder/trace")"
}

# A mesh of so many peers comes, changes in one of them, and goes.
whole_mesh() { # PEERS-IN-WORDS NODES ADDRESS OTHER: one node's address, as a pattern and as it is to be
    local plan
    many_nodes "$2"
    timed "$1 peers" weft fra apply
    reads_back "they are read back equal"
    sends_nothing "a second apply"
    sed -i "s#$3,#$4,#" "$topology/mesh.yaml"
    plan=$(weft fra plan --format json)
    same "one node's new address is one change of one peer" 1 \
        "$(jq '[.operations[] | select(.kind == "peer")] | length' <<<"$plan")"
    succeeds "which is applied" weft fra apply
    reads_back "and read back"
    timed "$1 peers go" weft fra down
    refuses "with their interface" enter fra ip link show wg0
}

# Runs a command, and tells the seconds it took in $took.
timed() { # WHAT COMMAND…
    local start=${EPOCHREALTIME/./}
    succeeds "$@"
    took=$(awk -v us=$((${EPOCHREALTIME/./} - start)) 'BEGIN { printf "%.2f", us / 1e6 }')
    note "$1: $took s"
}
