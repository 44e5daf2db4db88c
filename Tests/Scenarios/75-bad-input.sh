#!/bin/bash
# Input that is broken, gone, forbidden or in the way, on a host whose mesh is live: each time a clear error, nothing live
# is changed, and pings go on.
# timeout: 120
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping setpriv jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

mesh_host fra ana bob
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
topology_node bob 10.80.0.3 fd80::3 -- "endpoint: $(mesh_address bob 4)"
good=$topology
for host in fra ana; do succeeds "$host: apply" weft $host apply; done
eventually 20 "fra reaches ana" enter fra ping -c 1 -W 1 10.80.0.2
launch fra ping -n -q -i 0.02 10.80.0.2 >"$_mesh_folder/pings" 2>&1
pings=$!
before=$(live fra)

# A command fails with a message, at once, and changes nothing.
refused() { # WHAT MESSAGE COMMAND…
    local what=$1 message=$2
    shift 2
    exits 1 "$what: refused" timeout --foreground 20 "$@"
    matches "$what: says so" "$message" "$output"
    lacks "$what: in words" "Fatal error" "$output"
    same "$what: nothing has changed" "$before" "$(live fra)"
}
on_fra() { _mesh_nsenter fra && refused "$1" "$2" "${_mesh_nsenter[@]}" "${@:3}"; }
apply() { on_fra "$1" "$2" "$WEFT" apply --yes "${@:3}" "$topology"; }

# A copy of the good topology, to be spoilt.
copy() {
    rm -rf "$_mesh_folder/bad"
    cp -r "$good" "$_mesh_folder/bad"
    topology=$_mesh_folder/bad
}

# -------------------------------------------------------------------------------------------------------- the topology

copy
printf 'nodes:\n  dan: [' >"$topology/x.yaml"
apply "broken YAML" "x.yaml:[0-9]+:[0-9]+: error"
copy
printf 'nodes:\n  dan:\n    publicKey: nonsense\n    adresses: [10.80.0.9]\n' >"$topology/x.yaml"
apply "a node with errors" "x.yaml:3:.*error"
contains "all of them at once" "x.yaml:4" "$output"
copy
sed -i 's/10.80.0.2/10.80.0.1/' "$topology/node-ana.yaml"
apply "the same address twice" "error.*10.80.0.1"
copy
printf '\xff\xfe\n' >"$topology/x.yaml"
apply "what is no text" "x.yaml.*error"
copy
rm "$topology"/*
apply "an empty folder" "$topology holds no"
contains "with what belongs there" "with the sections \`mesh\` and \`nodes\`" "$output"
printf '# nodes:\n' >"$topology/x.yaml"
apply "a file of comments alone" "x.yaml:1:1: error: no file has a .mesh. section"
contains "with what it lacks" "holds nothing but comments" "$output"
topology=$_mesh_folder/bad/vanished
apply "a folder that has vanished" "No such file"
copy
rm "$topology/mesh.yaml" && ln -s mesh.yaml "$topology/mesh.yaml"
apply "a link in a circle" "symbolic link"
copy
ln -s ../gone/x.yaml "$topology/x.yaml"
apply "a link to a file that is not there" "x.yaml is a symbolic link to ../gone/x.yaml"
copy
echo "hush: root" >"$_mesh_folder/shadow"
chmod 600 "$_mesh_folder/shadow"
ln -s "$_mesh_folder/shadow" "$topology/x.yaml"
apply "a link to a secret outside" "x.yaml is a file outside the folder, by a symbolic link, that not everybody may read"
lacks "of which nothing is told" "hush" "$output"
chmod 644 "$_mesh_folder/shadow"
apply "a link to a file outside that everybody may read" "x.yaml:1:.*hush"
rm "$_mesh_folder/shadow"
copy
chmod 600 "$topology"/*.yaml
mkdir "$topology/..one" && mv "$topology"/*.yaml "$topology/..one" && ln -s ..one "$topology/..data"
for file in "$topology"/..one/*; do ln -s "..data/${file##*/}" "$topology/"; done
succeeds "links within the folder are as good as files" weft fra plan
ln -s bad "$_mesh_folder/link"
topology=$_mesh_folder/link
succeeds "and a link to the folder is as good as it" weft fra plan
rm "$_mesh_folder/link"
copy
mv "$topology/node-ana.yaml" "$topology/../ana.yaml" && ln -s /nowhere "$topology/sites"
apply "a link to a folder that is not there" "sites is a symbolic link to /nowhere"
rm "$topology/../ana.yaml"
copy
mv "$topology/node-ana.yaml" "$topology/$(printf 'm\374nchen.yaml')"
apply "a name that is not UTF-8" 'error: the name of .*/m\\xfcnchen\.yaml is not UTF-8'
contains "with what to do" "rename it" "$output"
mv "$topology/$(printf 'm\374nchen.yaml')" "$topology/node-ana.YAML"
succeeds "a name in capitals is as good" weft fra plan --detailed-exitcode
copy
mkfifo "$topology/x.yaml"
apply "a FIFO in the folder" "not a regular file"
copy
rm "$topology/node-fra.yaml"
apply "a key that belongs to no node" "belongs to no node"
contains "with the public key" "$(public_key fra)" "$output"
copy
private=$(enter fra cat /etc/weft/private.key)
printf 'nodes:\n  dan:\n    publicKey: %s\n    addresses: [10.80.0.9]\n' "$private" >"$topology/x.yaml"
apply "this host's private key as another node's public key" "publicKey of dan .*x.yaml:3:16. is this host's private key"
lacks "without the key" "$private" "$output"
copy
sed -i "s,publicKey: .*,publicKey: $private," "$topology/node-fra.yaml"
apply "this host's private key as its own public key" "publicKey of fra .*node-fra.yaml:3:16. is this host's private key"
lacks "without the key" "$private" "$output"
topology=$good
apply "the name of another node" "this host is fra" --node ana
apply "the name of no node" "no node is called" --node nobody
apply "no private key" "no such file" --private-key /etc/weft/nothing
enter fra sh -c 'umask 077; echo nonsense >/etc/weft/nonsense'
apply "a private key that is none" "/etc/weft/nonsense" --private-key /etc/weft/nonsense

# Parts that a node cannot have.
part() { sed -i "s/^    addresses.*/&\\n    $2/" "$topology/node-$1.yaml"; }
copy
part fra "useExit: ana"
apply "an exit that is none" "is not an exit"
copy
part ana "exit: true" && part fra "useExit: fra"
apply "a node that is its own exit" "cannot be its own exit"
copy
part ana "exit: true\\n    useExit: fra" && part fra "exit: true\\n    useExit: ana"
apply "exits that use one another" "use one another as exits"
copy
part ana "exit: true" && part fra "useExit: [ana, ana]"
apply "two exits" "takes one name"
copy
part ana "exit: true" && part fra "useExit: ana\\n    table: off"
apply "an exit without a table" "makes no routes"
copy
part fra "killSwitch: {allow: [192.168.0.0\\/24]}"
apply "a kill switch without an exit" "without .useExit"
copy
part fra "allowedIPs: [10.99.0.0\\/24]\\n    masquerade: {interfaces: [nosuch0]}"
apply "masquerading by an interface that is not there" "no interface nosuch0 here"
on_fra "a plan of it" "no interface nosuch0 here" "$WEFT" plan "$topology"

# --------------------------------------------------------------------------------------------- files that are written to

# Rewrites the file that ends with ana, in place and in pieces: without her end it is a valid topology without her.
copy
{ sed -n p "$topology/node-ana.yaml"; } >"$_mesh_folder/ana"
cat >"$_mesh_folder/writer.py" <<'END'
import os, sys, time
path, ana, how, seconds = sys.argv[1], open(sys.argv[2]).read(), sys.argv[3], float(sys.argv[4])
text = "# " + "x" * 70 + "\n"
text = text * 2000 + ana
end = time.monotonic() + seconds
while time.monotonic() < end:
    if how == "in-place":
        with open(path, "w", 4096) as file:
            for start in range(0, len(text), 4096):
                file.write(text[start : start + 4096])
                file.flush()
    else:
        with open(path + "~", "w") as file:
            file.write(text)
        os.rename(path + "~", path)
    time.sleep(0.03)
END
for how in in-place renamed; do
    /usr/bin/python3 "$_mesh_folder/writer.py" "$topology/node-ana.yaml" "$_mesh_folder/ana" $how 6 &
    writer=$!
    sleep 0.3
    wrong= runs=0
    while kill -0 $writer 2>/dev/null && [ $runs -lt 40 ]; do
        runs=$((runs + 1))
        output=$(weft fra apply 2>&1)
        case $?:$output in
        0:*"No changes."*) ;;
        1:*"kept changing"* | 1:*"is being written to"*) ;;
        *) wrong+=$output$'\n' ;;
        esac
    done
    wait $writer
    same "a file that is rewritten ($how) is read whole or not at all, in $runs runs" "" "$wrong"
    same "and nothing has changed" "$before" "$(live fra)"
    succeeds "when its writer is done it is read" weft fra plan --detailed-exitcode
done

# Half a file, whose writer makes a pause: as it stands, it is a valid topology without her.
copy
exec 9>"$topology/node-ana.yaml"
printf '# the nodes of the mesh\nnodes: {}\n' >&9
apply "a file that is open for writing" "node-ana.yaml is being written to"
cat "$_mesh_folder/ana" >"$topology/node-ana.yaml"
exec 9>&-
succeeds "when it is closed it is read" weft fra plan --detailed-exitcode

# ------------------------------------------------------------------------------------------------------------ not root

topology=$good
cp "$WEFT" "$_mesh_folder/weft" # where everybody may run it
chmod 755 "$_mesh_folder"
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups "$_mesh_folder/weft")
if enter fra "${nobody[@]}" --help >/dev/null 2>&1; then
    on_fra "as another user" "/etc/weft/private.key: no permission" "${nobody[@]}" apply --yes "$topology"
    contains "what to do" "run as root" "$output"
    enter fra install -o 65534 -g 65534 -m 600 /etc/weft/private.key /tmp/key.$MESH
    on_fra "as another user who has the key" "root" "${nobody[@]}" apply --yes --private-key "/tmp/key.$MESH" "$topology"
    for command in "apply" "down" "down --interface wg0"; do
        key=(--private-key "/tmp/key.$MESH")
        [[ $command == *interface* ]] && key=()
        on_fra "$command with a state folder too" "change wg0: Operation not permitted: run this as root, or with CAP_NET_ADMIN" \
            "${nobody[@]}" $command --yes "${key[@]}" --state-dir "/tmp/state.$MESH" "$topology"
        lacks "before a plan is made" "Plan" "$output"
    done
    rm -rf "/tmp/key.$MESH" "/tmp/state.$MESH"
    on_fra "status as another user" "status must be run as root, or by a member of the group weft where an agent runs" \
        "${nobody[@]}" status "$topology"
    copy
    chmod 700 "$topology"
    on_fra "a folder that may not be read" "Permission denied" "${nobody[@]}" apply --yes "$topology"
    copy
    chmod 600 "$topology/node-ana.yaml"
    on_fra "a file that may not be read" "node-ana.yaml.*Permission denied" "${nobody[@]}" apply --yes "$topology"
    topology=$good
    exits 0 "check wants no rights" enter fra "${nobody[@]}" check "$topology"
    exits 0 "nor does show" enter fra "${nobody[@]}" show --node fra "$topology"
else
    skip "runs as another user" "a place where they may run weft"
fi

# --------------------------------------------------------------------------------------------------------- busy ports

cat >"$_mesh_folder/holder.py" <<'END'
import socket, sys, time
kept = socket.socket(socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET, socket.SOCK_DGRAM)
kept.bind(("", int(sys.argv[1])))
print("bound", flush=True)
time.sleep(600)
END
hold() { # HOST PORT FAMILY
    launch "$1" /usr/bin/python3 "$_mesh_folder/holder.py" "$2" "$3" >"$_mesh_folder/held" 2>&1
    holder=$!
    eventually 10 "something else holds UDP port $2" grep -q bound "$_mesh_folder/held"
}
release() { kill $holder; wait $holder 2>/dev/null; }

for family in 4 6; do
    hold bob 51820 $family
    exits 1 "IPv$family: a port that is taken is in the plan" weft bob plan --detailed-exitcode
    matches "with who has it" "port UDP 51820 of process .*python3.*$holder" "$output"
    exits 1 "and doctor knows of it" weft bob doctor --offline
    matches "with who has it" "port UDP 51820 of process .*python3.*$holder" "$output"
    exits 1 "IPv$family: a port that is taken" weft bob apply
    matches "is named, with who has it" "51820.*python3.*$holder" "$output"
    refuses "no interface is left" enter bob ip link show wg0
    same "nor a route" "" "$(enter bob ip route show table all proto 119; enter bob ip -6 route show table all proto 119)"
    same "nor a program" "$holder" "$(ip netns pids "$(mesh_namespace bob)" | paste -sd' ')"
    release
done
succeeds "when it is free, apply succeeds" weft bob apply
weft bob down >/dev/null

copy
sed -i "s/endpoint: .*/endpoint: \"$(mesh_address fra 4):5555\"/" "$topology/node-fra.yaml"
hold fra 5555 4
apply "a live tunnel's new port that is taken" "5555.*python3.*$holder"
same "it keeps its old one" 51820 "$(enter fra wg show wg0 listen-port)"
release
topology=$good
unchanged fra "fra is as the good topology wants it"

# ----------------------------------------------------------------------------------------- no device of any kind

if [ "$BED" = namespaces ] && ! ip link add weft-probe type wireguard 2>/dev/null; then
    mkdir "$_mesh_folder/empty"
    before=$(live bob)
    exits 1 "no wireguard-go: the plan knows" enter bob env PATH="$_mesh_folder/empty" "$WEFT" plan --detailed-exitcode "$topology"
    matches "is said so" "wireguard-go" "$output"
    exits 1 "no wireguard-go" enter bob env PATH="$_mesh_folder/empty" "$WEFT" apply --yes "$topology"
    matches "is said so" "wireguard-go" "$output"
    same "nothing is changed" "$before" "$(live bob)"
    refuses "no table is left" enter bob nft list table inet weft-wg0
    refuses "no interface is left" enter bob ip link show wg0
    # A device node that leads nowhere, for this command only.
    exits 1 "no /dev/net/tun" enter bob unshare --mount sh -c 'mount -t tmpfs none /dev/net && exec "$@"' - \
        "$WEFT" apply --yes "$topology"
    matches "is said so" "/dev/net/tun" "$output"
    same "nothing is changed" "$before" "$(live bob)"
    refuses "no table is left" enter bob nft list table inet weft-wg0
    refuses "no interface is left" enter bob ip link show wg0
    same "nor a program" "" "$(ip netns pids "$(mesh_namespace bob)")"
else
    ip link del weft-probe 2>/dev/null
    skip "no /dev/net/tun and no wireguard-go" "a kernel without WireGuard"
fi

kill -INT $pings
wait $pings
# The last one may have been on its way.
lost=$(awk '/packets transmitted/ { print $1 - $4 }' "$_mesh_folder/pings")
if [[ $lost =~ ^[01]$ ]]; then ok "all the while no ping was lost"; else fail "all the while no ping was lost" 0 "$(cat "$_mesh_folder/pings")"; fi
done_testing
