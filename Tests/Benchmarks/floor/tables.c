// The floor of a pass over a table of nf_tables: asks for all that is in it, and walks over the answers.
//
// usage: tables TABLE RUNS
//
// Prints a line: floor.tables
//   NAME MEDIAN MINIMUM MAXIMUM unit=us runs=N bytes=… messages=… receives=… attributes=…
// (bytes and so on are those of the last run.)
#include "netlink.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { most_sets = 64 };

/// What the dumps consisted of.
static struct {
    long bytes, messages, receives, attributes;
} tally;

/// The sets' names, from the dump of the sets.
static char sets[most_sets][NFT_SET_MAXNAMELEN];
static int set_count;

static char answer[1 << 20];

/// Walks over the attributes, and once more over those of lists: elements, expressions.
static void walk(const char *place, const char *end, int depth) {
    while (place + NLA_HDRLEN <= end) {
        const struct nlattr *attribute = (const struct nlattr *)place;
        if (attribute->nla_len < NLA_HDRLEN || place + attribute->nla_len > end) break;
        tally.attributes++;
        if (depth > 0 && attribute->nla_type & NLA_F_NESTED) {
            walk(place + NLA_HDRLEN, place + attribute->nla_len, depth - 1);
        }
        place += NLA_ALIGN(attribute->nla_len);
    }
}

static void note_set(const char *place, const char *end) {
    while (place + NLA_HDRLEN <= end) {
        const struct nlattr *attribute = (const struct nlattr *)place;
        if (attribute->nla_type == NFTA_SET_NAME && set_count < most_sets) {
            strncpy(sets[set_count++], place + NLA_HDRLEN, NFT_SET_MAXNAMELEN - 1);
        }
        place += NLA_ALIGN(attribute->nla_len);
    }
}

/// Asks, and reads to the end. `set` is NULL but for a set's elements; a table is an attribute of the type 1 everywhere.
static void ask(int socket, uint16_t message, uint16_t flags, const char *table, const char *set) {
    struct buffer request = new_buffer();
    size_t start = begin_message(&request);
    struct nfgenmsg *header = put_header(&request, sizeof *header);
    header->nfgen_family = NFPROTO_INET;
    if (table != NULL) put(&request, NFTA_TABLE_NAME, table, strlen(table) + 1);
    if (set != NULL) put(&request, NFTA_SET_ELEM_LIST_SET, set, strlen(set) + 1);
    end_message(&request, start, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | message), (uint16_t)(NLM_F_REQUEST | flags));
    send_buffer(socket, &request);
    free(request.bytes);
    for (;;) {
        ssize_t length = recv(socket, answer, sizeof answer, 0);
        if (length < 0) die("recv", errno);
        tally.bytes += length;
        tally.receives++;
        size_t left = (size_t)length;
        for (const struct nlmsghdr *place = (const struct nlmsghdr *)answer; NLMSG_OK(place, left);
             place = NLMSG_NEXT(place, left)) {
            if (place->nlmsg_type == NLMSG_DONE) return;
            if (place->nlmsg_type == NLMSG_ERROR) {
                int error = ((const struct nlmsgerr *)NLMSG_DATA(place))->error;
                if (error != 0) die("dump", -error);
                return;
            }
            tally.messages++;
            const char *begin = (const char *)NLMSG_DATA(place) + sizeof(struct nfgenmsg);
            const char *end = (const char *)place + place->nlmsg_len;
            if (message == NFT_MSG_GETSET) note_set(begin, end);
            walk(begin, end, 8);
        }
    }
}

int main(int count, char **arguments) {
    int runs = count == 3 ? atoi(arguments[2]) : 0;
    if (runs < 1) {
        fprintf(stderr, "usage: tables TABLE RUNS\n");
        return 64;
    }
    const char *table = arguments[1];
    int netfilter = netlink_socket(NETLINK_NETFILTER);
    double *times = calloc((size_t)runs, sizeof(double));
    if (times == NULL) die("calloc", errno);
    for (int run = 0; run < runs; run++) {
        memset(&tally, 0, sizeof tally);
        set_count = 0;
        double begun = now();
        ask(netfilter, NFT_MSG_GETGEN, NLM_F_ACK, NULL, NULL);
        ask(netfilter, NFT_MSG_GETTABLE, NLM_F_ACK, table, NULL);
        ask(netfilter, NFT_MSG_GETCHAIN, NLM_F_DUMP, table, NULL);
        ask(netfilter, NFT_MSG_GETRULE, NLM_F_DUMP, table, NULL);
        ask(netfilter, NFT_MSG_GETSET, NLM_F_DUMP, table, NULL);
        ask(netfilter, NFT_MSG_GETOBJ, NLM_F_DUMP, table, NULL);
        ask(netfilter, NFT_MSG_GETFLOWTABLE, NLM_F_DUMP, table, NULL);
        for (int set = 0; set < set_count; set++) {
            ask(netfilter, NFT_MSG_GETSETELEM, NLM_F_DUMP, table, sets[set]);
        }
        ask(netfilter, NFT_MSG_GETGEN, NLM_F_ACK, NULL, NULL);
        times[run] = now() - begun;
    }
    report("floor.tables", times, runs, "bytes=%ld messages=%ld receives=%ld attributes=%ld", tally.bytes,
           tally.messages, tally.receives, tally.attributes);
    return 0;
}
