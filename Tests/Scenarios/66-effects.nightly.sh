#!/bin/bash
# What follows a change only after minutes: a preshared key that only one end has ends the traffic after three, and a name
# that has another address is dialled anew when the session is stale. In the virtual machine idle time is skipped.
# alone: in namespaces
# vm: --icount
# timeout: 900
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping jq || done_testing
mesh_begin

mesh_host fra ana bob
topology_begin "presharedKeys: directory"
topology_node fra 10.80.0.1 -- "endpoint: $(mesh_address fra)"
topology_node ana 10.80.0.2 -- "endpoint: $(mesh_address ana)"
topology_node bob 10.80.0.3
topology_file links.yaml <<END
links:
  - between: [fra, bob]
    endpoints: {fra: "fra.test:51820"}
END
enter bob sh -c 'echo "$1 fra.test" >>/etc/hosts' - "$(mesh_address fra)"
psk() { # HOST PEER KEY
    enter "$1" bash -c 'umask 077; mkdir -p /etc/weft/preshared-keys; echo "$1" >"/etc/weft/preshared-keys/$2"' psk "$3" "$2"
}
# What answers for names is in memory then. To fetch it from a busy host takes a minute by the guest's clock, and weft does not
# wait that long.
succeeds "bob knows fra's name" enter bob getent ahosts fra.test
for pair in fra:ana fra:bob ana:bob; do
    key=$(wg genpsk)
    psk "${pair%:*}" "${pair#*:}" "$key"
    psk "${pair#*:}" "${pair%:*}" "$key"
done
for host in fra ana bob; do succeeds "$host: apply" weft $host apply; done
eventually 20 "ana reaches fra" enter ana ping -c 1 -W 1 10.80.0.1
eventually 20 "bob reaches fra" enter bob ping -c 1 -W 1 10.80.0.1
since=$(date +%s)

# ----------------------------------------------------------------------------------- a preshared key that one end has

# In the virtual machine idle time is skipped, and waiting for its host is idle time too: where the clock ran ahead by minutes
# since the handshake, the session would be over before the first ping. Then it is done again, from a new session.
with_ana=$(enter fra cat /etc/weft/preshared-keys/ana)
for attempt in 1 2 3; do
    psk fra ana "$(wg genpsk)"
    plan=$(weft fra plan --format json)
    same "a preshared key changes at one end: the plan says re-handshake" re-handshake \
        "$(jq -r '.operations[] | select(.object.name == "ana") | .effect' <<<"$plan")"
    succeeds "which is applied" weft fra apply
    before=$(handshake fra ana)
    age=$(($(date +%s) - before))
    [ $age -gt 60 ] && [ $attempt -lt 3 ] || break
    note "the clock ran ahead: the session is $age s old, and is made anew"
    psk fra ana "$with_ana"
    succeeds "the key is that of the other end again" weft fra apply
    sleep 185
    for host in ana bob; do eventually 20 "$host has a new session" enter $host ping -c 1 -W 1 10.80.0.1; done
done
launch fra ping -n -D -O -i 1 -w 240 10.80.0.2 >"$_mesh_folder/pings" 2>&1
pings=$!

# Meanwhile bob, who has nothing to say, is left by fra for another address. Ten seconds after the last answer that he got
# he confirms it; if she were gone by then, she would ask him for a handshake from where she is. On a busy machine the
# guest's clock runs ahead by seconds, so he has three times that.
sleep 30
mesh_roam fra
enter bob sh -c 'sed "/fra.test/d" /etc/hosts >/etc/hosts.new; echo "$1 fra.test" >>/etc/hosts.new; cat /etc/hosts.new >/etc/hosts' - "$(mesh_address fra)"
unchanged bob "while the session is fresh, a name's new address is nothing to do"
for _ in $(seq 60); do
    [ $(($(date +%s) - $(handshake bob fra))) -le 140 ] || break
    sleep 5
done
exits 2 "when it is stale, it is" weft bob plan --detailed-exitcode
contains "which is the endpoint" "fra.test:51820 ($(mesh_address fra):51820)" "$output"
converges bob
eventually 20 "and bob reaches fra" enter bob ping -c 1 -W 1 10.80.0.1

wait $pings
last=$(awk -F'[][]' '/bytes from/ { last = $2 } END { print int(last) }' "$_mesh_folder/pings")
note "the last answer came $((last - before)) s after the session's handshake"
if [ $((last - before)) -ge 100 ] && [ $((last - before)) -le 190 ]; then
    ok "the session carries on for three minutes, and ends"
else
    fail "the session carries on for three minutes, and ends" "100 to 190 s" "$((last - before)) s"
fi
same "no handshake was made" "$before" "$(handshake fra ana)"
contains "status says that she is down" '"down"' "$(weft fra status --format json | jq '.peers[] | select(.name == "ana") | .state')"
psk ana fra "$(enter fra cat /etc/weft/preshared-keys/ana)"
succeeds "the other end gets it" weft ana apply
eventually 20 "and the tunnel carries again" enter fra ping -c 1 -W 1 10.80.0.2
note "$(($(date +%s) - since)) s"
done_testing
