// The kernel's own headers, so that no constant is ever retyped. A shim stands here only for what
// Swift's importer cannot see (macros that cast or call), and says why.
#ifndef WEFT_CLINUX_SHIM_H
#define WEFT_CLINUX_SHIM_H

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <unistd.h>
#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/inet_diag.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/memfd.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/sock_diag.h>
#include <linux/wireguard.h>

// It brings <linux/in.h>, whose structures are those of <netinet/in.h>: Swift would take the C library's for ours, and
// miss them where only Glibc is imported. So these headers are passed over, and the two that it needs have other names.
#define _LINUX_IN_H
#define _LINUX_IN6_H
#define in_addr weft_in_addr
#define in6_addr weft_in6_addr
struct in_addr { __be32 address; };
struct in6_addr { __be32 address[4]; };
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter_ipv4.h>
#undef in_addr
#undef in6_addr
#undef _LINUX_IN_H
#undef _LINUX_IN6_H

// Glibc has structures of these names, older and shorter ones, and a compiler that sees both is at odds with itself: the
// kernel's get others.
#define tcp_info weft_tcp_info
#define tcphdr weft_tcphdr
#define tcp_md5sig weft_tcp_md5sig
#define tcp_repair_opt weft_tcp_repair_opt
#define tcp_repair_window weft_tcp_repair_window
#define tcp_zerocopy_receive weft_tcp_zerocopy_receive
#include <linux/tcp.h>
#undef tcp_info
#undef tcphdr
#undef tcp_md5sig
#undef tcp_repair_opt
#undef tcp_repair_window
#undef tcp_zerocopy_receive

// prctl(2) is variadic, which Swift cannot call.
static inline int weft_set_not_dumpable(void) { return prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L); }

// glibc has it since 2.36 only, and syscall(2) is variadic.
static inline int weft_pidfd_open(int process) { return (int)syscall(SYS_pidfd_open, process, 0); }

// A constant in older headers, in newer ones a macro that names another, which Swift does not see.
static const __u32 weft_nft_bitwise_bool = NFT_BITWISE_BOOL;

// F_SETLEASE and F_SETSIG: glibc has them with _GNU_SOURCE only, and <linux/fcntl.h> declares again what <fcntl.h> does.
static const int weft_f_setlease = 1024;
static const int weft_f_setsig = 10;

// RENAME_EXCHANGE: likewise, and <linux/fs.h> names again what <sys/mount.h> does.
static const unsigned int weft_rename_exchange = 2;

// glibc declares these with _GNU_SOURCE only, which a module cannot define after the fact.
// (<spawn.h> would bring <net/if.h>, which hides the kernel's own flags of links: hence the void pointers.)
int accept4(int socket, struct sockaddr *address, socklen_t *length, int flags);
int memfd_create(const char *name, unsigned int flags);
int posix_spawn_file_actions_addchdir_np(void *actions, const char *path);
int posix_spawn_file_actions_addclosefrom_np(void *actions, int from);
int renameat2(int oldfolder, const char *oldpath, int newfolder, const char *newpath, unsigned int flags);
int syncfs(int file);
int unshare(int flags); // for tests in namespaces

#endif
