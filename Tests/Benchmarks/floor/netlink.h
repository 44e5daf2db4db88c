// What the floor's programs share: sockets, an encoder that knows nothing but lengths, and a clock.
//
// The floor is what nobody can undercut: the system calls and the kernel's own work for them. Errors therefore end the
// program at once; there is no retry, no reassembly and no comparison.
#pragma once

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/wireguard.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// A message, or several in a row, that grows at the end. `bytes` has room for `buffer_size`.
struct buffer {
    char *bytes;
    size_t length;
};

enum { buffer_size = 1 << 16 };

/// Ends the program: `what` and, where `error` is not 0, its text.
_Noreturn void die(const char *what, int error);

/// A bound socket of this protocol with 8 MiB of buffers.
int netlink_socket(int protocol);

/// The number under which this kernel knows generic netlink's "wireguard". Loads the module.
uint16_t wireguard_family(int socket);

/// The index of the interface; ends the program where there is none.
uint32_t interface_index(const char *name);

struct buffer new_buffer(void);

/// Starts a message at the end of the buffer and returns its place. Its header is filled in by `end_message`.
size_t begin_message(struct buffer *buffer);
void end_message(struct buffer *buffer, size_t start, uint16_t type, uint16_t flags);

/// Appends a header of the message's own kind (genlmsghdr, rtmsg), zeroed, and returns where it is.
void *put_header(struct buffer *buffer, size_t size);

/// Appends an attribute and returns where its payload is.
void *put(struct buffer *buffer, uint16_t type, const void *data, size_t size);

/// Opens and closes an attribute that holds others.
size_t begin_nest(struct buffer *buffer, uint16_t type);
void end_nest(struct buffer *buffer, size_t start);

/// Sends the buffer in one datagram.
void send_buffer(int socket, const struct buffer *buffer);

/// Waits for one acknowledgement; ends the program where it is an error.
void await_acknowledgement(int socket, const char *what);

/// Microseconds since some moment.
double now(void);

/// Prints `NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N` and what is in `details`. Sorts `times`.
void report(const char *name, double *times, int runs, const char *details, ...) __attribute__((format(printf, 4, 5)));
