// The floor of a cold apply, and of a change to some peers: sends messages that were encoded before the clock started, and
// waits for their acknowledgements.
//
// usage: apply [-6] [-k] [-l] [-p] [-r RUNS] INTERFACE PEERS [CHANGED]
//
//   PEERS     that many peers with an endpoint and one IPv4 allowed IP, and a route for each; the interface is up, has
//             neither peers nor such routes, and is left so
//   CHANGED   that many of them then get another allowed IP and its route, as new objects beside the old ones
//   -6        an IPv6 allowed IP for each peer as well (no route)
//   -k        a keepalive of 25 s for each peer
//   -l        leaves what the last run made
//   -p        a preshared key for each peer
//   -r RUNS   repeats all of it, 1 by default
//
// Peers' numbers decide their keys (so runs are alike), endpoints (203.0.113.0/24) and allowed IPs (10.0.0.0/8; a change:
// 11.0.0.0/8). Prints a line each: floor.apply.wireguard, floor.apply.routes, floor.apply and, with CHANGED,
// floor.change.wireguard, floor.change.routes, floor.change.
//   NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N datagrams=… bytes=…
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/// What is sent for one purpose: datagrams whose last message asks for an acknowledgement.
struct script {
    struct buffer *datagrams;
    size_t count, bytes;
};

struct options {
    bool ipv6, keepalive, preshared;
};

static uint16_t family;
static uint32_t interface;
static struct options options;

static struct buffer *next_datagram(struct script *script) {
    script->datagrams = realloc(script->datagrams, (script->count + 1) * sizeof *script->datagrams);
    if (script->datagrams == NULL) die("realloc", errno);
    script->datagrams[script->count] = new_buffer();
    return &script->datagrams[script->count++];
}

/// 32 bytes that are the same for the same number, and look like nothing (SplitMix64).
static void fill_key(uint8_t *key, uint64_t number) {
    for (int word = 0; word < 4; word++) {
        uint64_t mix = (number * 4 + (uint64_t)word + 1) * 0x9E3779B97F4A7C15u;
        mix = (mix ^ (mix >> 30)) * 0xBF58476D1CE4E5B9u;
        mix = (mix ^ (mix >> 27)) * 0x94D049BB133111EBu;
        mix ^= mix >> 31;
        memcpy(key + word * 8, &mix, sizeof mix);
    }
    // The top bit of a public key is ignored, so it reads back as 0.
    key[31] &= 0x7F;
}

static void put_allowed_ip(struct buffer *buffer, uint16_t address_family, const void *address, size_t size) {
    size_t nest = begin_nest(buffer, 0);
    uint8_t length = (uint8_t)(size * 8);
    put(buffer, WGALLOWEDIP_A_FAMILY, &address_family, sizeof address_family);
    put(buffer, WGALLOWEDIP_A_IPADDR, address, size);
    put(buffer, WGALLOWEDIP_A_CIDR_MASK, &length, sizeof length);
    end_nest(buffer, nest);
}

static void put_peer(struct buffer *buffer, uint32_t number, bool change) {
    uint8_t key[WG_KEY_LEN];
    size_t peer = begin_nest(buffer, 0);
    fill_key(key, number);
    put(buffer, WGPEER_A_PUBLIC_KEY, key, sizeof key);
    if (change) {
        uint32_t flags = WGPEER_F_UPDATE_ONLY;
        put(buffer, WGPEER_A_FLAGS, &flags, sizeof flags);
    } else {
        if (options.preshared) {
            fill_key(key, number + (1ull << 32));
            put(buffer, WGPEER_A_PRESHARED_KEY, key, sizeof key);
        }
        if (options.keepalive) {
            uint16_t seconds = 25;
            put(buffer, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds, sizeof seconds);
        }
        struct sockaddr_in endpoint = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)(20000 + number % 40000)),
            .sin_addr.s_addr = htonl(0xCB007100u + number % 250 + 1),
        };
        put(buffer, WGPEER_A_ENDPOINT, &endpoint, sizeof endpoint);
    }
    size_t allowed_ips = begin_nest(buffer, WGPEER_A_ALLOWEDIPS);
    uint32_t address = htonl((change ? 0x0B000000u : 0x0A000000u) + number);
    put_allowed_ip(buffer, AF_INET, &address, sizeof address);
    if (options.ipv6 && !change) {
        uint8_t address6[16] = {0xfd, [12] = (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                                (uint8_t)number};
        put_allowed_ip(buffer, AF_INET6, address6, sizeof address6);
    }
    end_nest(buffer, allowed_ips);
    end_nest(buffer, peer);
}

/// SET_DEVICE messages with these peers, each as full as a nest's 16-bit length allows. The first of a cold apply brings
/// the private key with it. Every `step`th peer is written.
static struct script encode_peers(uint32_t peers, uint32_t step, bool change) {
    enum { largest_peer = 256 };
    struct script script = {0};
    uint32_t number = 0;
    do {
        struct buffer *buffer = next_datagram(&script);
        size_t start = begin_message(buffer);
        struct genlmsghdr *command = put_header(buffer, GENL_HDRLEN);
        command->cmd = WG_CMD_SET_DEVICE;
        command->version = WG_GENL_VERSION;
        put(buffer, WGDEVICE_A_IFINDEX, &interface, sizeof interface);
        if (!change && number == 0) {
            uint8_t key[WG_KEY_LEN];
            fill_key(key, UINT64_MAX / 8);
            key[0] &= 0xF8;
            key[31] |= 0x40;
            put(buffer, WGDEVICE_A_PRIVATE_KEY, key, sizeof key);
        }
        size_t list = begin_nest(buffer, WGDEVICE_A_PEERS);
        for (; number < peers && buffer->length - list < UINT16_MAX - largest_peer - NLA_HDRLEN; number += step) {
            put_peer(buffer, number, change);
        }
        end_nest(buffer, list);
        end_message(buffer, start, family, NLM_F_REQUEST | NLM_F_ACK);
        script.bytes += buffer->length;
    } while (number < peers);
    return script;
}

/// One message that takes every peer away.
static struct script encode_removal(void) {
    struct script script = {0};
    struct buffer *buffer = next_datagram(&script);
    size_t start = begin_message(buffer);
    struct genlmsghdr *command = put_header(buffer, GENL_HDRLEN);
    uint32_t flags = WGDEVICE_F_REPLACE_PEERS;
    command->cmd = WG_CMD_SET_DEVICE;
    command->version = WG_GENL_VERSION;
    put(buffer, WGDEVICE_A_IFINDEX, &interface, sizeof interface);
    put(buffer, WGDEVICE_A_FLAGS, &flags, sizeof flags);
    end_message(buffer, start, family, NLM_F_REQUEST | NLM_F_ACK);
    return script;
}

/// A route for each of these peers, added or deleted. Many messages share a datagram; its last one asks for the
/// acknowledgement (errors of the others would come unasked).
static struct script encode_routes(uint32_t peers, uint32_t step, bool change, uint16_t type) {
    enum { routes_per_datagram = 1400 };
    uint16_t flags = NLM_F_REQUEST | (type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_EXCL : 0);
    struct script script = {0};
    uint32_t number = 0;
    while (number < peers) {
        struct buffer *buffer = next_datagram(&script);
        for (int route = 0; route < routes_per_datagram && number < peers; route++, number += step) {
            size_t start = begin_message(buffer);
            struct rtmsg *header = put_header(buffer, sizeof *header);
            header->rtm_family = AF_INET;
            header->rtm_dst_len = 32;
            header->rtm_table = RT_TABLE_MAIN;
            header->rtm_protocol = RTPROT_STATIC;
            header->rtm_scope = RT_SCOPE_LINK;
            header->rtm_type = RTN_UNICAST;
            uint32_t address = htonl((change ? 0x0B000000u : 0x0A000000u) + number);
            put(buffer, RTA_DST, &address, sizeof address);
            put(buffer, RTA_OIF, &interface, sizeof interface);
            bool last = route == routes_per_datagram - 1 || peers - number <= step;
            end_message(buffer, start, type, flags | (last ? NLM_F_ACK : 0));
        }
        script.bytes += buffer->length;
    }
    return script;
}

/// Sends a script and returns the microseconds until its last acknowledgement.
static double play(int socket, const struct script *script, const char *what) {
    double begun = now();
    for (size_t i = 0; i < script->count; i++) {
        send_buffer(socket, &script->datagrams[i]);
        await_acknowledgement(socket, what);
    }
    return now() - begun;
}

/// The times of one purpose over all runs.
struct series {
    double *wireguard, *routes, *both;
};

static struct series new_series(int runs) {
    struct series series = {
        .wireguard = calloc((size_t)runs, sizeof(double)),
        .routes = calloc((size_t)runs, sizeof(double)),
        .both = calloc((size_t)runs, sizeof(double)),
    };
    if (series.wireguard == NULL || series.routes == NULL || series.both == NULL) die("calloc", errno);
    return series;
}

static void print(const char *name, struct series series, int runs, struct script peers, struct script routes) {
    char line[64];
    snprintf(line, sizeof line, "%s.wireguard", name);
    report(line, series.wireguard, runs, "datagrams=%zu bytes=%zu", peers.count, peers.bytes);
    snprintf(line, sizeof line, "%s.routes", name);
    report(line, series.routes, runs, "datagrams=%zu bytes=%zu", routes.count, routes.bytes);
    report(name, series.both, runs, "datagrams=%zu bytes=%zu", peers.count + routes.count, peers.bytes + routes.bytes);
}

static int usage(void) {
    fprintf(stderr, "usage: apply [-6] [-k] [-l] [-p] [-r RUNS] INTERFACE PEERS [CHANGED]\n");
    return 64;
}

int main(int count, char **arguments) {
    int runs = 1, option;
    bool leave = false;
    while ((option = getopt(count, arguments, "6klpr:")) != -1) {
        switch (option) {
        case '6': options.ipv6 = true; break;
        case 'k': options.keepalive = true; break;
        case 'l': leave = true; break;
        case 'p': options.preshared = true; break;
        case 'r': runs = atoi(optarg); break;
        default: return usage();
        }
    }
    int operands = count - optind;
    int peers = operands >= 2 ? atoi(arguments[optind + 1]) : 0;
    int changed = operands == 3 ? atoi(arguments[optind + 2]) : 0;
    if (operands < 2 || operands > 3 || runs < 1 || peers < 1 || changed < 0 || changed > peers) return usage();

    int generic = netlink_socket(NETLINK_GENERIC), route = netlink_socket(NETLINK_ROUTE);
    family = wireguard_family(generic);
    interface = interface_index(arguments[optind]);

    // The changed peers are spread evenly over all of them: exactly `changed`, the divisor rounded down, the range cut.
    uint32_t step = changed > 0 ? (uint32_t)(peers / changed) : 1, range = step * (uint32_t)changed;
    struct script peers_script = encode_peers((uint32_t)peers, 1, false);
    struct script routes_script = encode_routes((uint32_t)peers, 1, false, RTM_NEWROUTE);
    struct script removal = encode_removal();
    struct script routes_removal = encode_routes((uint32_t)peers, 1, false, RTM_DELROUTE);
    struct script change = {0}, change_routes = {0}, change_removal = {0};
    if (changed > 0) {
        change = encode_peers(range, step, true);
        change_routes = encode_routes(range, step, true, RTM_NEWROUTE);
        change_removal = encode_routes(range, step, true, RTM_DELROUTE);
    }

    struct series cold = new_series(runs), warm = new_series(runs);
    for (int run = 0; run < runs; run++) {
        cold.wireguard[run] = play(generic, &peers_script, "adding peers");
        cold.routes[run] = play(route, &routes_script, "adding routes (the interface has to be up)");
        cold.both[run] = cold.wireguard[run] + cold.routes[run];
        bool clear = !leave || run < runs - 1;
        if (changed > 0) {
            warm.wireguard[run] = play(generic, &change, "changing peers");
            warm.routes[run] = play(route, &change_routes, "adding the changed peers' routes");
            warm.both[run] = warm.wireguard[run] + warm.routes[run];
            if (clear) play(route, &change_removal, "deleting the changed peers' routes");
        }
        if (!clear) break;
        play(route, &routes_removal, "deleting routes");
        play(generic, &removal, "removing peers");
    }
    print("floor.apply", cold, runs, peers_script, routes_script);
    if (changed > 0) print("floor.change", warm, runs, change, change_routes);
    return 0;
}
