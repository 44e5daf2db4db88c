// The floor of a pass that finds nothing to do: reads a WireGuard interface and the IPv4 routes, and touches each
// attribute's header once.
//
// usage: dump INTERFACE RUNS
//
// Prints a line each: floor.dump.wireguard, floor.dump.routes and, both together, floor.dump.
//   NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N bytes=… messages=… receives=… attributes=…
// (bytes and so on are those of the last run.)
#include "netlink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/// What a dump consisted of.
struct tally {
    long bytes, messages, receives, attributes;
};

static char answer[1 << 20];

/// Where in a device's answer we are: only these attributes hold others.
enum level { device, peer_list, peer, allowed_ip_list, allowed_ip, leaf };

static enum level below(enum level level, uint16_t type) {
    switch (level) {
    case device: return type == WGDEVICE_A_PEERS ? peer_list : leaf;
    case peer_list: return peer;
    case peer: return type == WGPEER_A_ALLOWEDIPS ? allowed_ip_list : leaf;
    case allowed_ip_list: return allowed_ip;
    case allowed_ip:
    case leaf: break;
    }
    return leaf;
}

static long walk(const char *place, const char *end, enum level level) {
    long count = 0;
    while (place + NLA_HDRLEN <= end) {
        const struct nlattr *attribute = (const struct nlattr *)place;
        if (attribute->nla_len < NLA_HDRLEN) break;
        count++;
        enum level inner = below(level, attribute->nla_type & NLA_TYPE_MASK);
        if (inner != leaf) count += walk(place + NLA_HDRLEN, place + attribute->nla_len, inner);
        place += NLA_ALIGN(attribute->nla_len);
    }
    return count;
}

/// Sends a dump's request and reads to its end. `header` bytes come before a message's attributes.
static struct tally dump(int socket, const struct buffer *request, size_t header, enum level level) {
    struct tally tally = {0};
    send_buffer(socket, request);
    for (;;) {
        ssize_t length = recv(socket, answer, sizeof answer, 0);
        if (length < 0) die("recv", errno);
        tally.bytes += length;
        tally.receives++;
        size_t left = (size_t)length;
        for (const struct nlmsghdr *message = (const struct nlmsghdr *)answer; NLMSG_OK(message, left);
             message = NLMSG_NEXT(message, left)) {
            if (message->nlmsg_type == NLMSG_DONE) return tally;
            if (message->nlmsg_type == NLMSG_ERROR) {
                die("dump", -((const struct nlmsgerr *)NLMSG_DATA(message))->error);
            }
            tally.messages++;
            const char *start = (const char *)NLMSG_DATA(message) + header;
            tally.attributes += walk(start, (const char *)message + message->nlmsg_len, level);
        }
    }
}

static void print(const char *name, double *times, int runs, struct tally tally) {
    report(name, times, runs, "bytes=%ld messages=%ld receives=%ld attributes=%ld", tally.bytes, tally.messages,
           tally.receives, tally.attributes);
}

int main(int count, char **arguments) {
    int runs = count == 3 ? atoi(arguments[2]) : 0;
    if (runs < 1) {
        fprintf(stderr, "usage: dump INTERFACE RUNS\n");
        return 64;
    }
    int generic = netlink_socket(NETLINK_GENERIC), route = netlink_socket(NETLINK_ROUTE);
    uint16_t family = wireguard_family(generic);
    uint32_t interface = interface_index(arguments[1]);

    struct buffer get_device = new_buffer();
    size_t start = begin_message(&get_device);
    struct genlmsghdr *command = put_header(&get_device, GENL_HDRLEN);
    command->cmd = WG_CMD_GET_DEVICE;
    command->version = WG_GENL_VERSION;
    put(&get_device, WGDEVICE_A_IFINDEX, &interface, sizeof interface);
    end_message(&get_device, start, family, NLM_F_REQUEST | NLM_F_DUMP);

    struct buffer get_routes = new_buffer();
    start = begin_message(&get_routes);
    struct rtmsg *filter = put_header(&get_routes, sizeof *filter);
    filter->rtm_family = AF_INET;
    end_message(&get_routes, start, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP);

    double *wireguard_times = calloc((size_t)runs, sizeof(double)), *route_times = calloc((size_t)runs, sizeof(double)),
           *times = calloc((size_t)runs, sizeof(double));
    if (wireguard_times == NULL || route_times == NULL || times == NULL) die("calloc", errno);
    struct tally wireguard_tally = {0}, route_tally = {0}, tally;
    for (int run = 0; run < runs; run++) {
        double begun = now();
        wireguard_tally = dump(generic, &get_device, GENL_HDRLEN, device);
        double between = now();
        route_tally = dump(route, &get_routes, NLMSG_ALIGN(sizeof(struct rtmsg)), leaf);
        double done = now();
        wireguard_times[run] = between - begun;
        route_times[run] = done - between;
        times[run] = done - begun;
    }
    tally = (struct tally){
        .bytes = wireguard_tally.bytes + route_tally.bytes,
        .messages = wireguard_tally.messages + route_tally.messages,
        .receives = wireguard_tally.receives + route_tally.receives,
        .attributes = wireguard_tally.attributes + route_tally.attributes,
    };
    print("floor.dump.wireguard", wireguard_times, runs, wireguard_tally);
    print("floor.dump.routes", route_times, runs, route_tally);
    print("floor.dump", times, runs, tally);
    return 0;
}
