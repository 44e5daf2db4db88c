// IFF_* flags, whichever of two headers they come from.

/// An IFF_* flag as bits. The kernel's header makes them an enumeration, the C library's plain integers; which of the two
/// a file sees hangs on what else is imported, and in a release build on what the whole module imports.
func interfaceFlag(_ flag: some RawRepresentable<UInt32>) -> UInt32 { flag.rawValue }

/// As above.
func interfaceFlag(_ flag: some BinaryInteger) -> UInt32 { UInt32(truncatingIfNeeded: flag) }
