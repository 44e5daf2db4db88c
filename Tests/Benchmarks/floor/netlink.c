// The floor's sockets, encoder and clock (see netlink.h).
#include "netlink.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

_Noreturn void die(const char *what, int error) {
    if (error != 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    } else {
        fprintf(stderr, "floor: %s\n", what);
    }
    exit(1);
}

int netlink_socket(int protocol) {
    int socket_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (socket_ < 0) die("socket", errno);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    if (bind(socket_, (struct sockaddr *)&address, sizeof address) < 0) die("bind", errno);
    int size = 8 << 20, on = 1;
    if (setsockopt(socket_, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0) die("SO_SNDBUFFORCE", errno);
    if (setsockopt(socket_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) die("SO_RCVBUFFORCE", errno);
    // Acknowledgements without a copy of the request.
    if (setsockopt(socket_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) < 0) die("NETLINK_CAP_ACK", errno);
    return socket_;
}

struct buffer new_buffer(void) {
    struct buffer buffer = {.bytes = calloc(1, buffer_size)};
    if (buffer.bytes == NULL) die("calloc", errno);
    return buffer;
}

void *put_header(struct buffer *buffer, size_t size) {
    char *place = buffer->bytes + buffer->length;
    buffer->length += NLMSG_ALIGN(size);
    if (buffer->length > buffer_size) die("a message outgrew its buffer", 0);
    return place;
}

size_t begin_message(struct buffer *buffer) {
    size_t start = buffer->length;
    put_header(buffer, sizeof(struct nlmsghdr));
    return start;
}

void end_message(struct buffer *buffer, size_t start, uint16_t type, uint16_t flags) {
    struct nlmsghdr *header = (struct nlmsghdr *)(buffer->bytes + start);
    header->nlmsg_len = (uint32_t)(buffer->length - start);
    header->nlmsg_type = type;
    header->nlmsg_flags = flags;
}

void *put(struct buffer *buffer, uint16_t type, const void *data, size_t size) {
    struct nlattr *attribute = put_header(buffer, NLA_HDRLEN + size);
    attribute->nla_type = type;
    attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
    return memcpy((char *)attribute + NLA_HDRLEN, data, size);
}

size_t begin_nest(struct buffer *buffer, uint16_t type) {
    size_t start = buffer->length;
    put(buffer, type | NLA_F_NESTED, "", 0);
    return start;
}

void end_nest(struct buffer *buffer, size_t start) {
    size_t length = buffer->length - start;
    if (length > UINT16_MAX) die("a nest outgrew its length field", 0);
    ((struct nlattr *)(buffer->bytes + start))->nla_len = (uint16_t)length;
}

void send_buffer(int socket_, const struct buffer *buffer) {
    if (send(socket_, buffer->bytes, buffer->length, 0) < 0) die("send", errno);
}

void await_acknowledgement(int socket_, const char *what) {
    // Large enough for an error that carries the request with it.
    static char answer[1 << 17];
    if (recv(socket_, answer, sizeof answer, 0) < 0) die("recv", errno);
    const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
    if (header->nlmsg_type != NLMSG_ERROR) die("an answer that is no acknowledgement", 0);
    int error = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
    if (error != 0) die(what, -error);
}

uint16_t wireguard_family(int socket_) {
    struct buffer request = new_buffer();
    size_t start = begin_message(&request);
    struct genlmsghdr *header = put_header(&request, GENL_HDRLEN);
    header->cmd = CTRL_CMD_GETFAMILY;
    header->version = 1;
    put(&request, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME, sizeof WG_GENL_NAME);
    end_message(&request, start, GENL_ID_CTRL, NLM_F_REQUEST);
    send_buffer(socket_, &request);

    ssize_t length = recv(socket_, request.bytes, buffer_size, 0);
    if (length < 0) die("recv", errno);
    const struct nlmsghdr *answer = (const struct nlmsghdr *)request.bytes;
    if (answer->nlmsg_type == NLMSG_ERROR) die("this kernel has no WireGuard", 0);
    const char *place = (const char *)NLMSG_DATA(answer) + GENL_HDRLEN;
    const char *end = request.bytes + answer->nlmsg_len;
    while (place + NLA_HDRLEN <= end) {
        const struct nlattr *attribute = (const struct nlattr *)place;
        if (attribute->nla_type == CTRL_ATTR_FAMILY_ID) {
            uint16_t family;
            memcpy(&family, place + NLA_HDRLEN, sizeof family);
            free(request.bytes);
            return family;
        }
        place += NLA_ALIGN(attribute->nla_len);
    }
    die("the answer names no family", 0);
}

uint32_t interface_index(const char *name) {
    uint32_t index = if_nametoindex(name);
    if (index == 0) die(name, errno);
    return index;
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int compare(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void report(const char *name, double *times, int runs, const char *details, ...) {
    qsort(times, (size_t)runs, sizeof *times, compare);
    printf("%s %.1f %.1f %.1f unit=us runs=%d ", name, times[runs / 2], times[0], times[runs - 1], runs);
    va_list arguments;
    va_start(arguments, details);
    vprintf(details, arguments);
    va_end(arguments);
    putchar('\n');
}
