// The executable: everything it does is in WeftCommand.
