// libsodium: X25519, guarded memory, BLAKE2b and SipHash, base64. Imported by WeftKeys alone.
#include <sodium.h>
