// The executable: everything it does is in WeftCommand.

import ArgumentParser
import WeftCommand

WeftCommand.main()
