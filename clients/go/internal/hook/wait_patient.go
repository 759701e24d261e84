//go:build linux && patient

package hook

import "time"

// Wait of a command for tests: on a busy machine its daemon takes as long as it takes.
const Wait = time.Minute
