// The executable: everything it does is in WeftCommand.

import WeftCommand

WeftCommand.run()
